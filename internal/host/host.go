// Package host runs the two roles that hold no keys: storage, an operator's own
// pinning node, and replica, a community host inside its contract.
//
// A Host keeps the line to its origin and carries out what that orders, answers
// audits, checks its own disk, and serves ciphertext to the peers of the swarm
// and, if it is told to, over HTTP. It serves nothing until it has carried out
// what it missed while it was away.
//
// By the import rules it cannot see keys, plaintext, stations or the catalogue:
// what it stores was sealed elsewhere.
package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen/internal/deny"
	lists "github.com/musenai/musen/internal/denylist"
	"github.com/musenai/musen/internal/host/denylist"
	"github.com/musenai/musen/internal/host/duty"
	"github.com/musenai/musen/internal/host/scrub"
	"github.com/musenai/musen/internal/host/shelf"
	"github.com/musenai/musen/internal/host/trustless"
	"github.com/musenai/musen/node"
	"github.com/musenai/musen/pin"
	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
	"github.com/musenai/musen/pin/wire"
)

// Options are what a Host is opened with.
type Options struct {
	// Book is the place of this peer in its swarm; its role is that of the Host.
	Book *member.Book
	// ContractFile holds what the host offers; see contract.Save. A storage
	// peer whose contract has no disk takes as much as there is.
	ContractFile string
	// Node opens the node. Gate, Serve, Denied and Upload are the Host's own, and
	// StorageMax bounds what the contract offers.
	Node node.Options
	// Lists say which blocks this host neither takes nor serves, besides those
	// that the origin had purged; nil: no others.
	Lists Lists
	// HTTP is where ciphertext is served over HTTP; nil: nowhere.
	HTTP *HTTP
	// Timing says how often things happen.
	Timing Timing
	// Version is told to the origin.
	Version string
	Now     func() time.Time // in the zone that the hours of the contract are in
	Log     *slog.Logger
}

// Lists are denylists that a host subscribes to; *denylist.List is one.
type Lists interface {
	deny.Denier
	// Why returns the rule that decides about a block, if there is one, and
	// whether that denies it.
	Why(mh multihash.Multihash) (r lists.Rule, denied bool)
	State() []lists.State
}

// HTTP is a listener of ciphertext.
type HTTP struct {
	Listener          net.Listener // the Host closes it
	CertFile, KeyFile string       // PEM; both, or neither
}

// Timing is how often things happen. A zero field has the default.
type Timing struct {
	Heartbeat  time.Duration                   // of the line to the origin; 15 s
	Backoff    func(attempt int) time.Duration // before the line is tried again; 1 s to 1 min
	Retry      func(attempt int) time.Duration // before a failed order is tried again; 2 s to 10 min
	Return     time.Duration                   // before a host that was removed looks for the origin again; 1 h
	Pin        pin.Timing                      // of the pinset, on storage peers
	ScrubRate  int64                           // bytes per second that the check of the disk may read; 8 MiB
	ScrubEvery time.Duration                   // between two checks; a week
	Save       time.Duration                   // between two notes of how much was served; 1 min
	Lists      time.Duration                   // between two looks at what denylists name of what is held; 10 s
}

func (t Timing) withDefaults() Timing {
	if t.ScrubRate <= 0 {
		t.ScrubRate = 8 << 20
	}
	if t.ScrubEvery <= 0 {
		t.ScrubEvery = 7 * 24 * time.Hour
	}
	if t.Save <= 0 {
		t.Save = time.Minute
	}
	if t.Lists <= 0 {
		t.Lists = 10 * time.Second
	}
	return t
}

// A Host is a running storage peer or replica. It is safe for concurrent use.
type Host struct {
	o      Options
	member member.Membership
	limit  int64 // of the node's disk, whatever the contract says; 0: none
	live   *contract.Live

	node    *node.Node
	shelf   *shelf.Shelf
	denied  *denylist.List // what was purged
	denies  deny.Sources   // that, and what Options say
	state   *state
	desk    *duty.Desk
	line    *control.Client
	prover  *audit.Prover
	proving chan struct{} // closed once audits are answered
	cluster *pin.Cluster  // nil: a replica
	http    *trustless.Server
	audits  auditCount

	caught atomic.Bool // the line exists, and may be asked whether the host has caught up

	setting sync.Mutex // one change of the contract at a time
	kept    map[peer.ID]string
	out     chan struct{}  // the origin removed this host
	bare    bool           // the blocks are gone
	gone    []shelf.Record // what was held when they were found gone
	lost    losses
	bad     losses // blocks that the check under way found, and that nobody replaced
	told    struct {
		sync.Mutex
		disk int64 // of the contract, in the last report; 0: none yet
	}
	failed  chan error
	stop    context.CancelFunc
	running sync.WaitGroup
	telling sync.WaitGroup
}

// Open starts a host. ctx is for the start alone. Whoever opens it must Close
// it. A home that lost something is not opened: the error is a Damage.
func Open(ctx context.Context, o Options) (*Host, error) {
	if o.Book == nil || o.Now == nil || o.Log == nil {
		return nil, errors.New("open host: an option is missing")
	}
	o.Timing = o.Timing.withDefaults()
	h := &Host{o: o, member: o.Book.Membership(), limit: o.Node.StorageMax, kept: map[peer.ID]string{}, out: make(chan struct{}, 1), failed: make(chan error, 1), proving: make(chan struct{})}
	run, stop := context.WithCancel(context.Background())
	h.stop = stop
	if err := h.start(ctx, run); err != nil {
		return nil, errors.Join(fmt.Errorf("open host: %w", err), h.Close())
	}
	return h, nil
}

// start opens the parts. run is what lives as long as the host.
func (h *Host) start(ctx, run context.Context) error {
	terms, err := loadContract(h.o.ContractFile)
	if err != nil {
		return err
	}
	if err := h.acceptable(terms); err != nil {
		return err
	}
	h.live = contract.NewLive(terms, h.o.Now)
	if err := h.openNode(ctx, terms); err != nil {
		return err
	}
	if err := h.records(ctx, h.openStores(ctx)); err != nil {
		return err
	}
	if err := h.records(ctx, h.openLine(ctx)); err != nil {
		return err
	}
	agree := h.reconcile
	if h.bare {
		agree = h.forsake
	}
	if err := agree(ctx); err != nil {
		return err
	}
	if h.member.Role == member.Storage {
		if err := h.openCluster(ctx); err != nil {
			return err
		}
	}
	if !h.bare {
		h.prover = h.prove()
		close(h.proving)
	}
	if err := h.openHTTP(); err != nil {
		return err
	}
	h.begin(run)
	return nil
}

func (h *Host) openNode(ctx context.Context, terms contract.Contract) (err error) {
	if h.o.Lists != nil {
		h.denies.Add(h.o.Lists)
	}
	o := h.o.Node
	if err := checkNode(o.Dir, h.member.Self); err != nil {
		return err
	}
	if err := h.lookForBlocks(); err != nil {
		return err
	}
	gate := h.o.Book.Gate()
	o.Gate, o.Serve, o.Upload, o.Denied = gate, h.serves, h.live, &h.denies
	o.Restrict = func(rm network.ResourceManager) network.ResourceManager {
		return gate.Restrict(rm, pin.Protocols()...)
	}
	o.StorageMax = h.storageMax(terms)
	if len(o.Relays) == 0 && !o.Relay {
		o.Relays = relaysOf(h.o.Book.Origin())
	}
	h.node, err = node.Open(ctx, o)
	return err
}

// storageMax is what the node may take: no more than either the owner or the
// contract allows.
func (h *Host) storageMax(terms contract.Contract) int64 {
	if terms.Disk == 0 || h.limit > 0 && h.limit < terms.Disk {
		return h.limit
	}
	return terms.Disk
}

// openStores reads what the host remembers.
func (h *Host) openStores(ctx context.Context) (err error) {
	store := h.node.Store()
	if err := h.checkRecords(ctx); err != nil {
		return err
	}
	if h.shelf, err = shelf.Open(ctx, store); err != nil {
		return err
	}
	if h.denied, err = denylist.Open(ctx, store); err != nil {
		return err
	}
	h.denies.Add(h.denied)
	if h.state, err = openState(ctx, store); err != nil {
		return err
	}
	h.live.Pause(h.state.get().Paused)
	h.desk = duty.New(duty.Options{
		Blocks: blocks{h.node}, Checker: checker{h.node}, Terms: h.terms(), Shelf: h.shelf, Denied: h.denied, Refused: &h.denies, Now: h.o.Now,
	})
	return nil
}

// terms are what orders are held against. A storage peer takes what its
// operator's pinset gives it.
func (h *Host) terms() duty.Terms {
	if h.member.Role == member.Storage {
		return nil
	}
	return offer{h.live, h.state}
}

// reconcile makes pins and records agree: a power cut may have taken the last
// pins, or the last records.
func (h *Host) reconcile(ctx context.Context) error {
	for _, r := range h.shelf.All() {
		pinned, err := h.node.Pinned(ctx, r.Root)
		switch {
		case err != nil:
			return err
		case h.denied.Has(r.Root):
			err = h.desk.Purge(ctx, r.Root)
		case !pinned:
			err = h.node.Pin(ctx, r.Root)
		}
		if err != nil {
			return err
		}
	}
	for root, err := range h.node.Pins(ctx) {
		if err != nil {
			return err
		}
		if _, known := h.shelf.Get(root); known {
			continue
		}
		if err := h.shelf.Put(ctx, shelf.Record{Root: root, Since: h.o.Now().UTC().Truncate(time.Second)}); err != nil {
			return err
		}
	}
	return nil
}

// holds is how many segments a host fetches at once: most of a small one is
// waiting, for the origin and for the disk.
const holds = 16

// openLine makes the line to the origin; it is not dialled yet.
func (h *Host) openLine(ctx context.Context) (err error) {
	self := h.node.Host()
	h.line, err = control.NewClient(ctx, control.ClientOptions{
		Host: self, Origin: h.o.Book.Origin(), Store: h.node.Store(), Key: self.Peerstore().PrivKey(self.ID()),
		Realm: h.member.Realm, Handler: hands{h}, Roster: h.o.Book.Accept, Report: h.report,
		Known: func() wire.Envelope { return h.o.Book.Membership().Roster }, Regard: h.regarded,
		Ousted: h.ousted, Removed: h.removed, Return: h.o.Timing.Return,
		Holds: holds, Heartbeat: h.o.Timing.Heartbeat, Backoff: h.o.Timing.Backoff, Retry: h.o.Timing.Retry,
		Now: h.o.Now, Log: h.o.Log,
	})
	if err == nil {
		h.caught.Store(true)
	}
	return err
}

// prove answers audits until the prover is closed.
func (h *Host) prove() *audit.Prover {
	return audit.Serve(h.node.Host(), audit.ProverOptions{Source: proofs{h.node, &h.audits, h.o.Now}, Allow: h.isOrigin, Log: h.o.Log})
}

func (h *Host) openCluster(ctx context.Context) (err error) {
	h.cluster, err = pin.Open(ctx, pin.Options{
		Host: h.node.Host(), Store: h.node.Store(), Name: h.member.Name, Site: h.member.Site, Realm: h.member.Realm,
		Trusted: trusted(h.o.Book.Roster(), h.member), Blocks: pinset{h}, Held: h.tell, Denied: h.denied.Has, // what a list denies is tried again: lists change
		Timing: h.o.Timing.Pin, Log: h.o.Log,
	})
	return err
}

func (h *Host) openHTTP() (err error) {
	if h.o.HTTP == nil {
		return nil
	}
	h.http, err = trustless.New(trustless.Options{
		Blocks: h.node.Offline(), Terms: serving{h}, CertFile: h.o.HTTP.CertFile, KeyFile: h.o.HTTP.KeyFile,
		Log: h.o.Log, Now: h.o.Now,
	})
	return err
}

// begin runs what runs in the background.
func (h *Host) begin(run context.Context) {
	h.running.Go(func() { _ = h.line.Run(run) })
	h.running.Go(func() { h.follow(run) })
	h.running.Go(func() { h.save(run) })
	h.running.Go(func() { h.sweep(run) })
	if h.o.Lists != nil {
		h.running.Go(func() { h.heed(run) })
	}
	if h.bare {
		h.running.Go(func() { h.proveLater(run) })
		h.running.Go(func() { h.regain(run) })
	}
	h.running.Go(func() { h.scrubber().Run(run) })
	if h.http != nil {
		h.running.Go(func() {
			if err := h.http.Serve(h.o.HTTP.Listener); err != nil {
				h.failed <- err
			}
		})
	}
}

// sweep takes away what fetches left that a crash ended.
func (h *Host) sweep(ctx context.Context) {
	removed, freed, err := h.node.GC(ctx)
	switch {
	case err != nil && ctx.Err() == nil:
		h.o.Log.Warn("sweep the disk", "err", err)
	case removed > 0:
		h.o.Log.Info("swept the disk", "blocks", removed, "bytes", freed)
	}
}

// save notes now and then how much was served.
func (h *Host) save(ctx context.Context) {
	tick := time.NewTicker(h.o.Timing.Save)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			h.saveServed()
		}
	}
}

func (h *Host) saveServed() {
	if err := h.state.served(context.Background(), h.live.Served()); err != nil {
		h.o.Log.Warn("note how much was served", "err", err)
	}
}

// scrubber checks the disk once a while.
func (h *Host) scrubber() *scrub.Scrubber {
	return scrub.New(scrub.Options{
		Disk: disk{h.node}, Segments: segments{h.node, h.shelf}, Mender: mender{h},
		Rate: h.o.Timing.ScrubRate, Every: h.o.Timing.ScrubEvery, Last: h.state.get().Scrub.Began,
		Done: h.scrubbed, Now: h.o.Now, Log: h.o.Log,
	})
}

func (h *Host) scrubbed(r scrub.Result) {
	h.bad.clear() // what they belong to was told
	if err := h.state.change(context.Background(), func(m *memory) { m.Scrub = r }); err != nil {
		h.o.Log.Warn("note the check of the disk", "err", err)
	}
}

// Failed gives the error of a listener that ended by itself.
func (h *Host) Failed() <-chan error { return h.failed }

// Ready is closed once the host has carried out what it missed, and so serves.
func (h *Host) Ready() <-chan struct{} { return h.line.Ready() }

// ReloadCertificate reads the certificate of the HTTP listener again.
func (h *Host) ReloadCertificate() error {
	if h.http == nil {
		return nil
	}
	return h.http.ReloadCertificate()
}

// Drain stops the HTTP listener and waits until the answers under way are sent,
// or ctx ends: then they are cut, which is no error. Close must follow.
func (h *Host) Drain(ctx context.Context) error {
	if h.http == nil {
		return nil
	}
	if err := h.http.Shutdown(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// Close stops the host and waits for all that it began.
func (h *Host) Close() error {
	var errs []error
	done, cancel := context.WithCancel(context.Background())
	cancel()
	errs = append(errs, h.Drain(done))
	h.stop()
	if h.prover != nil {
		errs = append(errs, h.prover.Close())
	}
	h.running.Wait()
	if h.cluster != nil {
		errs = append(errs, h.cluster.Close())
	}
	h.telling.Wait()
	if h.state != nil {
		h.saveServed()
	}
	if h.node != nil {
		errs = append(errs, h.node.Close())
	}
	if h.o.HTTP != nil {
		_ = h.o.HTTP.Listener.Close() // it is closed already if it was served
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close host: %w", err)
	}
	return nil
}

// serves is asked for every block that a peer wants. A replica gets what it was
// told to hold from the origin, which knows that: else it could get here what
// it is asked to prove that it has.
func (h *Host) serves(p peer.ID, c cid.Cid) bool {
	if !h.caughtUp() || !h.live.Open() {
		return false
	}
	role, enrolled := h.o.Book.Gate().Role(p)
	return enrolled && role != member.Replica
}

// caughtUp reports whether the host has carried out what it missed.
func (h *Host) caughtUp() bool { return h.caught.Load() && h.line.CaughtUp() }

func (h *Host) isOrigin(p peer.ID) bool {
	role, _ := h.o.Book.Gate().Role(p)
	return role == member.Origin
}
