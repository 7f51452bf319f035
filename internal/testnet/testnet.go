// Package testnet starts whole homes in one process for tests: a real Kubo
// node, SQLite catalogue, keyring and policy engine in a temporary folder, and
// peers that hold blocks. Nothing in it stands in for something else but the
// clock.
//
// It does not know HTTP and reads no configuration.
package testnet

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog"
	"github.com/musenai/musen/catalog/ledger"
	"github.com/musenai/musen/internal/deny"
	"github.com/musenai/musen/internal/keyring"
	"github.com/musenai/musen/node"
	"github.com/musenai/musen/policy"
)

// A Clock stands still until it is moved. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// Now is the time that the clock shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Forward moves the clock.
func (c *Clock) Forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// A Home is one node with all its stores. They close when the test ends.
type Home struct {
	Dir   string
	Clock *Clock
	Log   *slog.Logger

	Node      *node.Node
	Keys      *keyring.Keyring
	Rows      *catalog.Catalog
	Takedowns *ledger.Ledger
	Denied    *deny.Sources // what is served to nobody: what was taken down, and what a test adds
	Engine    *policy.Engine
	Issuer    *policy.Issuer
	Verifier  *policy.Verifier

	change []func(*node.Options)
}

const fetchTimeout = 5 * time.Second

// New makes a home in a temporary folder and opens its stores; change edits
// what its node is opened with.
func New(t testing.TB, change ...func(*node.Options)) *Home {
	t.Helper()
	h := &Home{
		Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler), change: change,
		Clock: &Clock{now: time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)},
	}
	_, err := node.Init(h.path("node"))
	must(t, err)
	must(t, keyring.GenerateIdentity(h.path("identity")))
	must(t, keyring.Create(h.path("keys"), h.unlock()))
	h.open(t, catalog.Create)
	t.Cleanup(func() { h.close(t) })
	return h
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (h *Home) path(name string) string { return filepath.Join(h.Dir, name) }

func (h *Home) unlock() keyring.Unlock {
	return keyring.Unlock{IdentityFile: h.path("identity")}
}

// Reopen closes all stores and opens them again, as a restart does.
func (h *Home) Reopen(t testing.TB) {
	t.Helper()
	h.close(t)
	h.open(t, catalog.Open)
}

func (h *Home) close(t testing.TB) {
	t.Helper()
	if err := errors.Join(h.Rows.Close(), h.Takedowns.Close()); err != nil {
		t.Error(err)
	}
	if err := h.Node.Close(); err != nil {
		t.Error(err)
	}
}

func (h *Home) open(t testing.TB, rows func(context.Context, string, catalog.Options) (*catalog.Catalog, error)) {
	t.Helper()
	h.Denied = &deny.Sources{}
	opts := node.Options{Dir: h.path("node"), FetchTimeout: fetchTimeout, Denied: h.Denied}
	for _, c := range h.change {
		c(&opts)
	}
	var err error
	h.Node, err = node.Open(t.Context(), opts)
	must(t, err)
	h.Takedowns, err = ledger.Open(h.path("takedowns"))
	must(t, err)
	h.Keys, err = keyring.Open(h.path("keys"), h.unlock())
	must(t, err)
	lookup := func(data []byte) []byte {
		mac := h.Keys.Lookup()
		mac.Write(data)
		return mac.Sum(nil)
	}
	h.Rows, err = rows(t.Context(), h.path("catalogue.db"), catalog.Options{
		Cipher: h.Keys.Catalogue(), LookupMAC: lookup, Now: h.Clock.Now, Ledger: h.Takedowns, Log: h.Log,
	})
	must(t, err)
	h.Denied.Add(h.Rows)
	h.openPolicy(t)
}

func (h *Home) openPolicy(t testing.TB) {
	t.Helper()
	var err error
	h.Engine, err = policy.NewEngine(policy.EngineOptions{Now: h.Clock.Now})
	must(t, err)
	kid, key := h.Keys.IssuerKey()
	linkID, secret := h.Keys.LinkKey()
	h.Issuer, err = policy.NewIssuer(policy.IssuerOptions{
		Issuer: "test", Audience: "test", KeyID: kid, Key: key, LinkKeyID: linkID, LinkSecret: secret,
		Now: h.Clock.Now, Rand: rand.Reader,
	})
	must(t, err)
	h.Verifier, err = policy.NewVerifier(policy.VerifierOptions{
		Issuer: "test", Audience: "test",
		Keys:     []policy.PublicKey{{ID: kid, Key: key.Public()}},
		LinkKeys: []policy.LinkKey{{ID: linkID, Secret: secret}}, Revocations: h.Rows, Now: h.Clock.Now,
	})
	must(t, err)
}

// Origin makes an Origin of the home's stores that takes segments of up to
// 64 MiB.
func (h *Home) Origin() *musen.Origin {
	return &musen.Origin{
		Records: h.Rows, Blocks: h.Node, Keys: h.Keys, MaxSegment: 64 << 20,
		Rand: rand.Reader, Now: h.Clock.Now, Log: h.Log,
	}
}

// EdgeOptions are the home's stores as an Edge takes them.
func (h *Home) EdgeOptions() musen.EdgeOptions {
	return musen.EdgeOptions{Directory: h.Rows, Blocks: h.Node, Keys: h.Keys, Policy: h.Engine, Denied: h.Denied, Log: h.Log}
}

// Edge makes an Edge of the home's stores, with nothing in its memory.
func (h *Home) Edge(t testing.TB) *musen.Edge {
	t.Helper()
	e, err := musen.NewEdge(h.EdgeOptions())
	must(t, err)
	return e
}

// Grant is what a token that was issued and verified grants: the actions on
// the stations of those ids, or on every station if there are none.
func (h *Home) Grant(t testing.TB, actions []policy.Action, stations ...string) policy.Grant {
	t.Helper()
	raw, _, _, err := h.Issuer.Token(policy.TokenRequest{Subject: "user:test", Stations: stations, Actions: actions, TTL: time.Hour})
	must(t, err)
	g, err := h.Verifier.Token(raw)
	must(t, err)
	return g
}

// Uncached turns off the node's memory of hot blocks, so that every read sees
// the disk.
func Uncached(o *node.Options) { o.CacheBytes = -1 }

// BlockFile is where the node keeps the bytes of a block.
func (h *Home) BlockFile(c cid.Cid) string {
	name := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(c.Hash())
	return filepath.Join(h.path("node"), "blocks", name[len(name)-3:len(name)-1], name+".data")
}
