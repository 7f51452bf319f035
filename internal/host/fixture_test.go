package host

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/node"
	"github.com/musenai/musen/pin"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
)

const (
	testRealm = "radio"
	testLabel = "mfrggzdfmztwq2lk"
	// patience is how long a test waits for what must come.
	patience = 60 * time.Second
	// room is enough disk for a few segments.
	room = 64 << 20
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// An origin is the other end of a host's line: a node that has the segments,
// the ledger, and the orders.
type origin struct {
	t      testing.TB
	node   *node.Node
	ledger *member.Ledger
	lines  *control.Server

	mu       sync.Mutex
	receipts map[peer.ID][]control.Receipt
	reports  map[peer.ID]control.Report
	up       map[peer.ID]bool
	changed  chan struct{}
}

// members is a ledger as the lines see it.
type members struct{ *member.Ledger }

func (m members) Role(p peer.ID) (member.Role, bool) { return m.Gate().Role(p) }

// late is a gate that is there before the ledger is.
type late struct{ gate func() *member.Gate }

func (l late) Admits(p peer.ID) bool { g := l.gate(); return g != nil && g.Admits(p) }

func newOrigin(t testing.TB) *origin {
	t.Helper()
	o := &origin{t: t, receipts: map[peer.ID][]control.Receipt{}, reports: map[peer.ID]control.Report{}, up: map[peer.ID]bool{}, changed: make(chan struct{})}
	dir := filepath.Join(t.TempDir(), "origin")
	_, err := node.Init(dir)
	must(t, err)
	gate := late{func() *member.Gate {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.ledger == nil {
			return nil
		}
		return o.ledger.Gate()
	}}
	o.node, err = node.Open(t.Context(), node.Options{Dir: dir, Gate: gate, CacheBytes: -1})
	must(t, err)
	t.Cleanup(func() { must(t, o.node.Close()) })
	h := o.node.Host()
	key := h.Peerstore().PrivKey(h.ID())
	ledger, err := member.OpenLedger(t.Context(), member.LedgerOptions{Store: o.node.Store(), Key: key, Realm: testRealm})
	must(t, err)
	o.mu.Lock()
	o.ledger = ledger
	o.mu.Unlock()
	must(t, ledger.Update(t.Context(), h.ID(), contract.Contract{}, o.addrs()))
	t.Cleanup(ledger.ServeEnrol(h))
	o.serve()
	t.Cleanup(func() { must(t, o.lines.Close()) })
	return o
}

// serve opens the lines.
func (o *origin) serve() {
	o.t.Helper()
	h := o.node.Host()
	lines, err := control.NewServer(context.Background(), control.ServerOptions{
		Host: h, Store: o.node.Store(), Key: h.Peerstore().PrivKey(h.ID()), Realm: testRealm, Members: members{o.ledger},
		OnReceipt: func(p peer.ID, r control.Receipt) { o.note(func() { o.receipts[p] = append(o.receipts[p], r) }) },
		OnReport:  func(p peer.ID, r control.Report) { o.note(func() { o.reports[p] = r }) },
		OnLine:    func(p peer.ID, up bool) { o.note(func() { o.up[p] = up }) },
		Heartbeat: time.Second,
	})
	must(o.t, err)
	o.lines = lines
}

func (o *origin) note(do func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	do()
	close(o.changed)
	o.changed = make(chan struct{})
}

// until waits for what a peer says.
func (o *origin) until(what string, ok func() bool) {
	o.t.Helper()
	limit := time.After(patience)
	for {
		o.mu.Lock()
		done, changed := ok(), o.changed
		o.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-limit:
			o.t.Fatalf("never: %s", what)
		}
	}
}

// receipt waits for the newest receipt about a segment to be that.
func (o *origin) receipt(p peer.ID, verb control.Verb, root cid.Cid, want control.Outcome) {
	o.t.Helper()
	o.until(string(verb)+" "+string(want), func() bool {
		var last control.Receipt
		for _, r := range o.receipts[p] {
			if r.Root == root {
				last = r
			}
		}
		return last.Verb == verb && last.Outcome == want
	})
}

// report waits until the newest report of a peer is as it should be.
func (o *origin) report(p peer.ID, what string, ok func(control.Report) bool) {
	o.t.Helper()
	o.until(what, func() bool { return ok(o.reports[p]) })
}

func (o *origin) order(p peer.ID, verb control.Verb, root cid.Cid, size int) {
	o.t.Helper()
	must(o.t, o.lines.Order(o.t.Context(), p, control.Instruction{Verb: verb, Root: root, Size: int64(size), Label: testLabel}))
}

func (o *origin) addrs() (out []string) {
	for _, a := range o.node.Host().Addrs() {
		out = append(out, a.String())
	}
	return out
}

// add makes a segment of n bytes.
func (o *origin) add(seed byte, n int) cid.Cid {
	o.t.Helper()
	root, _, _, err := o.node.Add(o.t.Context(), bytes.NewReader(bytesOf(seed, n)))
	must(o.t, err)
	return root
}

func bytesOf(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// A guest is a peer of the origin with a home of its own.
type guest struct {
	*Host
	t    testing.TB
	o    *origin
	id   peer.ID
	home string
	url  string
	opts Options
}

// join enrols a peer and starts it.
func (o *origin) join(role member.Role, name string, terms contract.Contract, change ...func(*Options)) *guest {
	o.t.Helper()
	t := o.t
	g := &guest{t: t, o: o, home: filepath.Join(t.TempDir(), name)}
	must(t, os.Mkdir(g.home, 0o700))
	m, err := Join(t.Context(), g.home, o.invite(role, name), member.Offer{Contract: terms, Site: "site-" + name})
	must(t, err)
	g.id = m.Self
	g.opts = Options{
		ContractFile: filepath.Join(g.home, ContractFile),
		Node:         node.Options{Dir: filepath.Join(g.home, NodeDir), CacheBytes: -1, FetchTimeout: 5 * time.Second},
		Timing: Timing{
			Heartbeat: time.Second, ScrubEvery: 1000 * time.Hour,
			Backoff: func(int) time.Duration { return 50 * time.Millisecond },
			Retry:   func(int) time.Duration { return 200 * time.Millisecond },
			Pin:     fast(),
		},
		Version: "test", Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&g.opts)
	}
	g.start()
	t.Cleanup(g.end)
	return g
}

// fast is a pinset that waits for little.
func fast() pin.Timing {
	return pin.Timing{Ping: 500 * time.Millisecond, Check: 500 * time.Millisecond, Recover: time.Second, Rebroadcast: time.Second, BatchAge: 20 * time.Millisecond}
}

// start opens the host, with an HTTP listener.
func (g *guest) start() {
	g.t.Helper()
	book, err := member.OpenBook(filepath.Join(g.home, MembershipFile))
	must(g.t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(g.t, err)
	o := g.opts
	o.Book, o.HTTP = book, &HTTP{Listener: l}
	g.Host, err = Open(g.t.Context(), o)
	must(g.t, err)
	g.url = g.HTTP()
}

// end stops the host if it runs.
func (g *guest) end() {
	g.t.Helper()
	if g.Host != nil {
		must(g.t, g.Close())
		g.Host = nil
	}
}

// ready waits until the host serves.
func (g *guest) ready() {
	g.t.Helper()
	select {
	case <-g.Ready():
	case <-time.After(patience):
		g.t.Fatal("the host never caught up")
	}
}

// get asks for a segment over HTTP.
func (g *guest) get(c cid.Cid, format string) (status int, body []byte) {
	g.t.Helper()
	resp, err := http.Get(g.url + "/ipfs/" + c.String() + "?format=" + format)
	must(g.t, err)
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	must(g.t, err)
	return resp.StatusCode, body
}

// taken is how many bytes the home's node takes, by its own count.
func (g *guest) taken() int64 {
	g.t.Helper()
	st, err := g.node.Stat()
	must(g.t, err)
	return st.Used
}

// wants has a node ask the host for a segment, and forget it again.
func (g *guest) wants(n *node.Node, c cid.Cid) error {
	ctx, cancel := context.WithTimeout(g.t.Context(), patience)
	defer cancel()
	n.Peer(peer.AddrInfo{ID: g.id, Addrs: g.node.Host().Addrs()})
	defer n.Unpeer(g.id)
	for len(n.Host().Network().ConnsToPeer(g.id)) == 0 {
		if err := n.Host().Connect(ctx, peer.AddrInfo{ID: g.id, Addrs: g.node.Host().Addrs()}); err != nil {
			return err
		}
	}
	err := n.Fetch(ctx, c, 0)
	return errors.Join(err, n.Purge(context.Background(), c))
}
