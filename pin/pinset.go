package pin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	ipfscluster "github.com/ipfs-cluster/ipfs-cluster"
	capi "github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs-cluster/ipfs-cluster/pintracker/stateless"
	"github.com/ipfs-cluster/ipfs-cluster/state"
	"github.com/ipfs-cluster/ipfs-cluster/state/dsstate"
	"github.com/ipfs/boxo/datastore/dshelp"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/namespace"
	"github.com/ipfs/go-datastore/query"
	crdt "github.com/ipfs/go-ds-crdt"
	rpc "github.com/libp2p/go-libp2p-gorpc"
	"github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
)

// What the store keeps, below the cluster's own prefix.
const (
	storePrefix = "/pin"
	crdtKey     = "/crdt"   // the pinset
	deltaKey    = "/deltas" // its changes, by CID
	openKey     = "/open"   // there while a cluster is open: it was not closed if found at start

	// Where the CRDT notes the changes that it has worked in, and that it has
	// more to do.
	crdtDone  = crdtKey + "/b"
	crdtDirty = crdtKey + "/d"
)

// pinset is the consensus of Cluster: a CRDT of pins that trusted peers change.
// Changes are committed in batches.
type pinset struct {
	trust   *trust
	timing  Timing
	log     *slog.Logger
	denied  func(cid.Cid) bool
	tracker *stateless.Tracker
	holder  Holder
	monitor *monitor

	store  datastore.Batching
	deltas *deltas
	crdt   *crdt.Datastore
	state  *dsstate.BatchingState
	batch  *batch

	ctx     context.Context // of all that runs in the background; ends with Shutdown
	stop    context.CancelFunc
	wg      sync.WaitGroup
	ready   chan struct{} // Cluster's: gets one value
	started chan struct{} // closed when the state can be read
	failed  error         // to commit the last changes; set by Shutdown
}

var (
	_ ipfscluster.Consensus = (*pinset)(nil)
	_ state.ReadOnly        = (*view)(nil)
)

func newPinset(o Options, t *trust) *pinset {
	ctx, cancel := context.WithCancel(context.Background())
	return &pinset{
		trust: t, timing: o.Timing, log: o.Log, denied: o.Denied, holder: o.Blocks,
		store: namespace.Wrap(o.Store, datastore.NewKey(storePrefix)),
		ctx:   ctx, stop: cancel, ready: make(chan struct{}, 1), started: make(chan struct{}),
	}
}

// start opens the pinset as it was when it was closed and begins to follow
// others. tracker and monitor must be set. Cluster waits half a minute for it.
func (s *pinset) start(ctx context.Context, d *door, ps *pubsub.PubSub, heads string) error {
	s.deltas = newDeltas(s.ctx, d, namespace.Wrap(s.store, datastore.NewKey(deltaKey)))
	cast, err := crdt.NewPubSubBroadcaster(s.ctx, ps, heads)
	if err != nil {
		return fmt.Errorf("open the pinset: %w", err)
	}
	o := crdt.DefaultOptions()
	o.Logger = newCRDTLog(s.log)
	o.RebroadcastInterval = s.timing.Rebroadcast
	o.NumWorkers = 8
	o.MultiHeadProcessing = false
	o.PutHook, o.DeleteHook = s.put, s.deleted
	if s.crdt, err = crdt.New(s.store, datastore.NewKey(crdtKey), s.deltas, cast, o); err != nil {
		return fmt.Errorf("open the pinset: %w", err)
	}
	if s.state, err = dsstate.NewBatching(ctx, s.crdt, "", dsstate.DefaultHandle()); err != nil {
		return fmt.Errorf("open the pinset: %w", err)
	}
	s.batch = newBatch(s.timing.BatchSize, s.timing.BatchAge, s.log, s.commit)
	s.wg.Go(func() { s.batch.run(s.ctx) })
	close(s.started)
	s.ready <- struct{}{}
	return nil
}

// mend makes the CRDT walk through all changes again if it was not closed: it
// notes a change as worked in before it has those that came earlier, and would
// never ask for them if it was killed in between.
func (s *pinset) mend(ctx context.Context) error {
	was, err := s.store.Has(ctx, datastore.NewKey(openKey))
	if err != nil {
		return err
	}
	if !was {
		if err := s.store.Put(ctx, datastore.NewKey(openKey), []byte{1}); err != nil {
			return err
		}
		return s.store.Sync(ctx, datastore.NewKey(openKey))
	}
	s.log.Warn("the pinset was not closed: it is read again")
	found, err := s.store.Query(ctx, query.Query{Prefix: crdtDone, KeysOnly: true})
	if err != nil {
		return err
	}
	defer found.Close()
	all, err := s.store.Batch(ctx)
	if err != nil {
		return err
	}
	for r := range found.Next() {
		if r.Error != nil {
			return r.Error
		}
		if err := all.Delete(ctx, datastore.NewKey(r.Key)); err != nil {
			return err
		}
	}
	if err := all.Put(ctx, datastore.NewKey(crdtDirty), nil); err != nil {
		return err
	}
	return all.Commit(ctx)
}

// commit makes changes durable and tells the other peers.
func (s *pinset) commit(changes map[cid.Cid]change) error {
	for root, c := range changes {
		var err error
		if c.pin != nil {
			err = s.state.Add(s.ctx, *c.pin)
		} else {
			err = s.state.Rm(s.ctx, capi.NewCid(root))
		}
		if err != nil {
			return fmt.Errorf("commit a change to %s: %w", root, err)
		}
	}
	if err := s.state.Commit(s.ctx); err != nil {
		return fmt.Errorf("commit %d changes: %w", len(changes), err)
	}
	return s.store.Sync(s.ctx, datastore.NewKey("/"))
}

// rootOf reads the root out of a key of the CRDT.
func rootOf(k datastore.Key) (capi.Cid, error) {
	b, err := dshelp.BinaryFromDsKey(k)
	if err != nil {
		return capi.CidUndef, err
	}
	return capi.CastCid(b)
}

// put is called for each pin that came into the pinset, from here or elsewhere.
func (s *pinset) put(k datastore.Key, v []byte) {
	if !s.wait() {
		return
	}
	root, err := rootOf(k)
	var p capi.Pin
	if err == nil {
		err = p.ProtoUnmarshal(v)
	}
	if err != nil {
		s.log.Warn("a pin cannot be read", "error", err)
		return
	}
	p.Cid = root
	s.track(p)
}

// deleted is called for each pin that was taken out, or that another value took
// the place of.
func (s *pinset) deleted(k datastore.Key) {
	root, err := rootOf(k)
	if err != nil || !s.wait() {
		return
	}
	if p, err := s.state.Get(s.ctx, root); err == nil {
		s.track(p)
		return
	}
	if err := s.tracker.Untrack(s.ctx, root); err != nil {
		s.log.Warn("cannot unpin", "root", root, "error", err)
	}
}

// track has the tracker do what p says: fetch, or remove what is for others to
// hold. Most of what is for others was never here, and costs no more than a look.
func (s *pinset) track(p capi.Pin) {
	if s.denied(p.Cid.Cid) {
		return
	}
	if p.IsRemotePin(s.trust.self) && s.tracker.OpContext(s.ctx, p.Cid) == nil {
		if held, err := s.holder.Pinned(s.ctx, p.Cid.Cid); err == nil && !held {
			return
		}
	}
	if err := s.tracker.Track(s.ctx, p); err != nil {
		s.log.Warn("cannot follow a pin", "root", p.Cid, "error", err)
	}
}

// LogPin puts a pin into the pinset, unless it is there like that.
func (s *pinset) LogPin(ctx context.Context, p capi.Pin) error {
	if err := s.open(); err != nil {
		return err
	}
	old, err := s.get(ctx, p.Cid)
	if err == nil && alike(old, p) {
		return nil
	}
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return err
	}
	return s.batch.put(p.Cid.Cid, change{&p})
}

// LogUnpin takes a pin out.
func (s *pinset) LogUnpin(ctx context.Context, p capi.Pin) error {
	if err := s.open(); err != nil {
		return err
	}
	return s.batch.put(p.Cid.Cid, change{})
}

// wait reports whether the pinset can be used; it is false when it is closed.
func (s *pinset) wait() bool {
	select {
	case <-s.ctx.Done():
	case <-s.started:
	}
	return s.ctx.Err() == nil
}

// open fails unless the pinset can be used.
func (s *pinset) open() error {
	if s.ctx.Err() != nil {
		return ErrClosed
	}
	select {
	case <-s.started:
		return nil
	default:
		return errors.New("cluster is not open yet")
	}
}

// alike reports whether two pins of one root ask for the same.
func alike(a, b capi.Pin) bool {
	x, y := slices.Clone(a.Allocations), slices.Clone(b.Allocations)
	slices.Sort(x)
	slices.Sort(y)
	return a.Name == b.Name && slices.Equal(x, y) &&
		a.ReplicationFactorMin == b.ReplicationFactorMin && a.ReplicationFactorMax == b.ReplicationFactorMax
}

// get reads a pin as it will be when all that waits is committed.
func (s *pinset) get(ctx context.Context, root capi.Cid) (capi.Pin, error) {
	if c, ok := s.batch.get(root.Cid); ok {
		if c.pin == nil {
			return capi.Pin{}, state.ErrNotFound
		}
		return *c.pin, nil
	}
	return s.state.Get(ctx, root)
}

// State waits until the pinset can be read.
func (s *pinset) State(ctx context.Context) (state.ReadOnly, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.ctx.Done():
		return nil, ErrClosed
	case <-s.started:
		return &view{s}, nil
	}
}

// view is the pinset as Cluster reads it.
type view struct{ *pinset }

// Get reads one pin, what waits to be committed included.
func (v *view) Get(ctx context.Context, root capi.Cid) (capi.Pin, error) { return v.get(ctx, root) }

// Has reports whether root is pinned.
func (v *view) Has(ctx context.Context, root capi.Cid) (bool, error) {
	_, err := v.get(ctx, root)
	if errors.Is(err, state.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// List sends all committed pins and closes out. It ends with ctx or the cluster
// even when nobody takes what it sends.
func (v *view) List(ctx context.Context, out chan<- capi.Pin) error {
	defer close(out)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(v.ctx, cancel)()

	in, done := make(chan capi.Pin, 64), make(chan error, 1)
	go func() { done <- v.state.List(ctx, in) }()
	for p := range in {
		select {
		case out <- p:
		case <-ctx.Done():
			for range in {
			}
		}
	}
	if err := <-done; err != nil {
		return err
	}
	return ctx.Err()
}

// Peers are those alive. It never fails: Cluster would not look for lost peers
// again.
func (s *pinset) Peers(context.Context) ([]peer.ID, error) { return s.monitor.alive(), nil }

// IsTrustedPeer reports whether p may change the pinset.
func (s *pinset) IsTrustedPeer(_ context.Context, p peer.ID) bool { return s.trust.has(p) }

// Trust is for Cluster alone; see Cluster.Trust.
func (s *pinset) Trust(_ context.Context, p peer.ID) error { s.trust.add(p); return nil }

// Distrust is for Cluster alone; see Cluster.Distrust.
func (s *pinset) Distrust(_ context.Context, p peer.ID) error { s.trust.remove(p); return nil }

// SetClient does nothing: the pinset calls nobody.
func (s *pinset) SetClient(*rpc.Client) {}

// Ready gets one value when the pinset can be used.
func (s *pinset) Ready(context.Context) <-chan struct{} { return s.ready }

// WaitForSync has nothing to wait for.
func (s *pinset) WaitForSync(context.Context) error { return nil }

// AddPeer has nothing to do: who belongs is who is trusted.
func (s *pinset) AddPeer(context.Context, peer.ID) error { return nil }

// RmPeer has nothing to do: who belongs is who is trusted.
func (s *pinset) RmPeer(context.Context, peer.ID) error { return nil }

// Leader always fails: there is none.
func (s *pinset) Leader(context.Context) (peer.ID, error) {
	return "", errors.New("a pinset has no leader")
}

// Clean always fails: a pinset is not thrown away.
func (s *pinset) Clean(context.Context) error { return errors.ErrUnsupported }

// Shutdown commits what waits and returns when nothing runs. It reports nothing,
// or Cluster would leave its other parts running.
func (s *pinset) Shutdown(context.Context) error {
	if s.ctx.Err() != nil {
		return nil
	}
	if s.batch != nil {
		s.failed = s.batch.flush()
	}
	s.stop()
	s.wg.Wait()
	if s.crdt != nil {
		s.failed = errors.Join(s.failed, s.crdt.Close())
	}
	if s.deltas != nil {
		s.failed = errors.Join(s.failed, s.deltas.Close())
	}
	if s.crdt != nil && s.failed == nil {
		s.failed = s.store.Delete(context.Background(), datastore.NewKey(openKey))
	}
	return nil
}
