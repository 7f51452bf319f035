package cmd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog"
	"github.com/musenai/musen/config"
	"github.com/musenai/musen/internal/keyring"
	"github.com/musenai/musen/internal/password"
	"github.com/musenai/musen/node"
	"github.com/musenai/musen/policy"
	"github.com/musenai/musen/policy/folder"
)

// ownerOnly keeps what this process makes from now on from everybody but its
// owner, whatever the mode that a library asks for.
func ownerOnly() { syscall.Umask(0o077) }

// loadConfig reads the configuration of a home; flags win over everything.
func loadConfig(home string, flags map[string]string) (config.Config, error) {
	if _, err := os.Stat(filepath.Join(home, configFile)); errors.Is(err, os.ErrNotExist) {
		return config.Config{}, &failure{exit: exitUsage, code: "no_home", what: "there is no node in " + home, next: "make one with `musen init`, or name its home with --home"}
	}
	cfg, err := config.Load(config.Sources{Home: home, File: filepath.Join(home, configFile), Env: os.Environ(), Flags: flags})
	if err == nil {
		err = cfg.Check()
	}
	if errors.Is(err, fs.ErrPermission) {
		return cfg, err // nothing in it is wrong
	}
	if err != nil {
		return cfg, &failure{exit: exitUsage, code: "bad_config", cause: err, next: "correct it where it is set; the comments in " + configFile + " say what each setting may be"}
	}
	return cfg, nil
}

func catalogOptions(keys *keyring.Keyring, now func() time.Time) catalog.Options {
	lookup := func(data []byte) []byte {
		h := keys.Lookup()
		h.Write(data)
		return h.Sum(nil)
	}
	return catalog.Options{Cipher: keys.Catalogue(), LookupMAC: lookup, Now: now}
}

// openNode opens the node of a home; guard says who may connect to it.
func openNode(ctx context.Context, home string, cfg config.Node, log *slog.Logger, guard func(*node.Options)) (*node.Node, error) {
	for _, part := range []string{"config", "version", "datastore_spec"} {
		if _, err := os.Stat(filepath.Join(home, nodeDir, part)); errors.Is(err, os.ErrNotExist) {
			return nil, &failure{exit: exitDamaged, code: "no_repository", cause: fmt.Errorf("open the IPFS repository: %w", err), next: "restore the folder " + nodeDir + " of the home from the backup"}
		}
	}
	cache := int64(cfg.BlockCache)
	if cache == 0 {
		cache = -1 // the setting 0B means none
	}
	opts := node.Options{
		Dir: filepath.Join(home, nodeDir), Listen: lastListen(home, cfg.Listen), Announce: cfg.Announce,
		Relay: cfg.Relay, Relays: cfg.Relays, StorageMax: int64(cfg.StorageMax),
		CacheBytes: cache, FetchTimeout: cfg.FetchTimeout, Logger: log,
	}
	guard(&opts)
	n, err := node.Open(ctx, opts)
	if errors.Is(err, node.ErrLocked) {
		return nil, &failure{exit: exitConflict, code: "home_in_use", what: "another node runs in " + home, next: "stop it first, or give this one a home of its own with --home", cause: err}
	}
	if err != nil && ctx.Err() == nil && !slices.Equal(opts.Listen, cfg.Listen) { // its old port may be another's now
		opts.Listen = cfg.Listen
		n, err = node.Open(ctx, opts)
	}
	if err != nil {
		return nil, err
	}
	if err := saveListen(home, cfg.Listen, n); err != nil {
		log.Warn("peers may not find this node again after a restart", "err", err)
	}
	return n, nil
}

// gate is all of policy that a node runs with.
type gate struct {
	place    folder.Place
	engine   *policy.Engine
	verifier *policy.Verifier
	issuer   *policy.Issuer

	passwords *password.Hasher // of shares
}

// ended is what the catalogue says of credentials.
type ended interface {
	policy.Revocations
	policy.Shares
	policy.Subjects
	policy.Roles
	policy.Uses
	// Current returns an error while the rest may be out of date.
	Current() error
	Station(ctx context.Context, nameOrID string) (musen.Station, error)
}

// newGate makes a node trust the tokens and links that its own keyring signs,
// and the tokens of others in the configuration.
func newGate(cfg config.Config, keys *keyring.Keyring, rows ended, issuers []issuer) (g gate, err error) {
	now := time.Now
	if err = g.openPolicies(cfg.Policy, rows, now); err != nil {
		return g, err
	}
	if g.passwords, err = password.New(keys.Pepper(), cfg.Share.PasswordsAtOnce); err != nil {
		return g, err
	}
	name := "musen:" + keys.Realm()
	kid, key := keys.IssuerKey()
	tokens, links, sessions := verifying(keys, now())
	var foreign []policy.ForeignIssuer
	var names []string
	for _, i := range issuers {
		foreign, names = append(foreign, i.foreign()), append(names, i.Name)
	}
	g.issuer, err = policy.NewIssuer(policy.IssuerOptions{
		Issuer: name, Audience: name, KeyID: kid, Key: key, LinkKeyID: links[0].ID, LinkSecret: links[0].Secret, SessionKey: sessions[0],
		Foreign: names, Subjects: rows, Cipher: keys.Catalogue(), Now: now, Rand: rand.Reader,
	})
	if err != nil {
		return g, err
	}
	g.verifier, err = policy.NewVerifier(policy.VerifierOptions{
		Issuer: name, Audience: name, Keys: tokens, LinkKeys: links, SessionKeys: sessions, Issuers: foreign,
		Revocations: rows, Current: rows.Current, Shares: rows, Subjects: rows, Uses: rows, Stations: stationNames(rows),
		Roles: rows, Cipher: keys.Catalogue(),
		Now: now, MaxTTL: cfg.Policy.MaxTokenTTL,
	})
	if err != nil {
		err = &failure{exit: exitUsage, code: "bad_config", cause: err, next: "check the [[issuers]] in config.toml"}
	}
	return g, err
}

// openPolicies makes the engine. A node does not start with policies that do
// not load.
func (g *gate) openPolicies(cfg config.Policy, roles policy.Roles, now func() time.Time) error {
	g.place = policyPlace(cfg)
	files, err := g.place.Read()
	if err != nil {
		return &failure{exit: exitUsage, code: "policy", cause: err, next: "check the settings policy.dir and policy.file"}
	}
	zone, err := cfg.Location()
	if err == nil {
		g.engine, err = policy.NewEngine(policy.EngineOptions{Files: files, Now: now, Zone: zone, Roles: roles})
	}
	if err != nil {
		return &failure{exit: exitUsage, code: "policy", cause: err, next: "mend the file and try `musen policy check`"}
	}
	return nil
}

// policyPlace is where the policies of a home lie.
func policyPlace(cfg config.Policy) folder.Place {
	return folder.Place{Dir: cfg.Dir, File: cfg.File}
}

// stationNames finds stations that others name.
func stationNames(rows ended) func(string) (string, bool) {
	return func(nameOrID string) (string, bool) {
		s, err := rows.Station(context.Background(), nameOrID) // from memory
		return s.ID, err == nil
	}
}

// blocks is a node as the root package sees it: with its errors.
type blocks struct{ *node.Node }

var (
	_ musen.Blocks       = blocks{}
	_ musen.BlockReader  = blocks{}
	_ musen.BlockChecker = blocks{}
)

// Add implements musen.Blocks.
func (b blocks) Add(ctx context.Context, sealed io.Reader) (root cid.Cid, leaves, inner []cid.Cid, err error) {
	root, leaves, inner, err = b.Node.Add(ctx, sealed)
	switch {
	case errors.Is(err, node.ErrNoSpace):
		err = errors.Join(musen.ErrNoSpace, err)
	case errors.Is(err, node.ErrNoFolder):
		err = errors.Join(musen.ErrUnavailable, err)
	}
	return root, leaves, inner, err
}

// Pins implements musen.Blocks.
func (b blocks) Pins(ctx context.Context) iter.Seq2[cid.Cid, error] { return b.Node.Pins(ctx) }

// Space is how many bytes the node takes on the disk, and how many more it may.
func (b blocks) Space(context.Context) (taken, free, limit int64, err error) {
	st, err := b.Stat()
	return st.Used, st.Room(), st.Max, err
}

// mender is a node and its catalogue as what can be mended.
type mender struct {
	*node.Node
	rows *catalog.Catalog
}

var _ musen.Mender = mender{}

// Inner implements musen.Mender.
func (m mender) Inner(ctx context.Context, segment string) ([]cid.Cid, error) {
	return m.rows.Inner(ctx, segment)
}

// checker reads segments back through an edge.
type checker struct {
	edge   *musen.Edge
	blocks musen.Mender
}

// Verify implements admin.Checker.
func (c checker) Verify(ctx context.Context, g policy.Grant, id cid.Cid) (musen.Report, error) {
	return c.edge.Verify(ctx, g, c.blocks, id)
}

// Repair implements admin.Checker.
func (c checker) Repair(ctx context.Context, g policy.Grant, id cid.Cid) (musen.Report, error) {
	return c.edge.Repair(ctx, g, c.blocks, id)
}
