package pin

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	ipfscluster "github.com/ipfs-cluster/ipfs-cluster"
	capi "github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs-cluster/ipfs-cluster/observations"
	"github.com/ipfs-cluster/ipfs-cluster/pintracker/stateless"
	"github.com/ipfs-cluster/ipfs-cluster/state"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/place"
)

// protectTag marks connections that are not to be closed for being many.
const protectTag = "musen-pinset"

// Cluster is the pinset and this peer's part in it. It is safe for concurrent
// use.
type Cluster struct {
	o       Options
	trust   *trust
	door    *door
	pinset  *pinset
	monitor *monitor
	tracker *stateless.Tracker
	inner   *ipfscluster.Cluster

	stop  context.CancelFunc // ends gossip and the loops here
	wg    sync.WaitGroup
	close sync.Once
	err   error // of closing
}

// Open joins the cluster of a realm. ctx is for opening alone. It must be closed
// before the store and the host are.
func Open(ctx context.Context, o Options) (*Cluster, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open cluster: %w", err)
	}
	quiet()
	run, stop := context.WithCancel(context.Background())
	c := &Cluster{o: o, trust: newTrust(o.Host.ID(), o.Trusted), stop: stop}
	if err := c.start(ctx, run); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	for _, p := range c.trust.list() {
		o.Host.ConnManager().Protect(p, protectTag)
	}
	c.wg.Go(func() { c.retry(run) })
	return c, nil
}

// start builds the parts and joins them. run is what lives as long as c.
func (c *Cluster) start(ctx, run context.Context) error {
	heads, err := headsTopic(c.o.Realm)
	if err != nil {
		return err
	}
	if c.door, err = newDoor(c.o.Host, c.trust, c.o.Timing.Ping, c.o.ajar); err != nil {
		return fmt.Errorf("open cluster: %w", err)
	}
	ps, err := newGossip(run, c.door, heads, c.o.Log)
	if err != nil {
		return fmt.Errorf("open cluster: %w", err)
	}
	if c.monitor, err = newMonitor(ps, c.trust, c.o.Timing, c.o.Log); err != nil {
		return fmt.Errorf("open cluster: %w", err)
	}
	c.pinset = newPinset(c.o, c.trust)
	c.pinset.monitor = c.monitor
	c.tracker = stateless.New(trackerConfig(), c.o.Host.ID(), "", c.pinset.State)
	c.pinset.tracker = c.tracker
	return c.join(ctx, run, ps, heads)
}

func (c *Cluster) join(ctx, run context.Context, ps *pubsub.PubSub, heads string) error {
	cfg, err := clusterConfig(c.o)
	if err != nil {
		return fmt.Errorf("open cluster: %w", err)
	}
	if err := c.pinset.mend(ctx); err != nil {
		return fmt.Errorf("open the pinset: %w", err)
	}
	c.inner, err = ipfscluster.NewCluster(run, c.door, nil, nil, cfg, c.pinset.store, c.pinset, nil,
		newConnector(c.o), c.tracker, c.monitor, allocator{},
		[]ipfscluster.Informer{informer{c.o.Blocks, c.o.Site, 4 * c.o.Timing.Ping}},
		(*observations.JaegerTracer)(nil)) // Cluster calls a method of it that an untyped nil has not
	if err != nil {
		return fmt.Errorf("open cluster: %w", err)
	}
	if err := c.pinset.start(ctx, c.door, ps, heads); err != nil {
		return err
	}
	select {
	case <-c.monitor.spoke:
		return nil
	case <-c.inner.Done():
		return fmt.Errorf("open cluster: %w", ErrClosed)
	case <-ctx.Done():
		return fmt.Errorf("open cluster: %w", ctx.Err())
	}
}

// clusterConfig is Cluster as it is used here: lost copies are made anew, on
// trusted peers alone, and nobody may call this peer but to ask how a segment
// is and to try again.
func clusterConfig(o Options) (*ipfscluster.Config, error) {
	cfg := new(ipfscluster.Config)
	if err := cfg.Default(); err != nil {
		return nil, err
	}
	cfg.ListenAddr = o.Host.Addrs() // not used, but one is wanted
	if len(cfg.ListenAddr) == 0 {
		return nil, errors.New("the host listens nowhere")
	}
	cfg.Peername = ""
	cfg.MDNSInterval = 0
	cfg.EnableRelayHop = false
	cfg.DisableRepinning = false
	cfg.PinOnlyOnTrustedPeers = true
	cfg.MonitorPingInterval = o.Timing.Ping
	cfg.PinRecoverInterval = 30 * o.Timing.Recover // the whole pinset; see Cluster.retry
	cfg.StateSyncInterval = 24 * time.Hour         // pins do not expire
	cfg.RPCPolicy = make(map[string]ipfscluster.RPCEndpointType, len(ipfscluster.DefaultRPCPolicy))
	for method := range ipfscluster.DefaultRPCPolicy {
		cfg.RPCPolicy[method] = ipfscluster.RPCClosed
	}
	for _, method := range []string{"PinTracker.Status", "PinTracker.Recover"} {
		cfg.RPCPolicy[method] = ipfscluster.RPCTrusted
	}
	return cfg, nil
}

func trackerConfig() *stateless.Config {
	cfg := new(stateless.Config)
	_ = cfg.Default()             // never fails
	cfg.MaxPinQueueSize = 1 << 17 // pointers, three times, all allocated
	cfg.ConcurrentPins = 16
	return cfg
}

// Close commits what waits and ends everything that Open began. Fetches that
// run are called off.
func (c *Cluster) Close() error {
	c.close.Do(func() {
		if c.inner != nil {
			c.settle()
			c.err = c.inner.Shutdown(context.Background())
		} else {
			c.abandon()
		}
		if c.pinset != nil && c.pinset.failed != nil {
			c.err = errors.Join(c.err, fmt.Errorf("close cluster: %w", c.pinset.failed))
		}
		c.stop()
		c.wg.Wait()
		if c.door != nil {
			c.err = errors.Join(c.err, c.door.Close())
		}
		for _, p := range c.trust.list() {
			c.o.Host.ConnManager().Unprotect(p, protectTag)
		}
	})
	return c.err
}

// settle waits until Cluster has come to run, if its pinset has opened. Its
// Shutdown never returns if it is called while it comes to run, and it says that
// it is ready before that is over.
func (c *Cluster) settle() {
	select {
	case <-c.pinset.started:
		<-c.monitor.spoke
	default:
	}
}

// abandon ends the parts of a cluster that did not come to be.
func (c *Cluster) abandon() {
	ctx := context.Background()
	if c.tracker != nil {
		_ = c.tracker.Shutdown(ctx)
	}
	if c.pinset != nil {
		_ = c.pinset.Shutdown(ctx)
	}
	if c.monitor != nil {
		_ = c.monitor.Shutdown(ctx)
	}
}

// Pin puts a segment into the pinset, or changes how it is held. Asking again
// for what is so already changes nothing, but peers that have come since are
// added up to Max. It returns ErrFewPeers if fewer than Min peers are alive.
//
// What it changes can be read at once. It is durable, and told to the other
// peers, with its batch: within Timing.BatchAge, or when Flush returns.
func (c *Cluster) Pin(ctx context.Context, root cid.Cid, pl Placement) error {
	if !root.Defined() {
		return fmt.Errorf("%w: no root", ErrPlacement)
	}
	if err := pl.check(); err != nil {
		return fmt.Errorf("pin %s: %w", root, err)
	}
	if err := c.pinset.open(); err != nil {
		return fmt.Errorf("pin %s: %w", root, err)
	}
	old, err := c.pinset.get(ctx, capi.NewCid(root))
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return fmt.Errorf("pin %s: %w", root, err)
	}
	p := capi.PinWithOpts(capi.NewCid(root), capi.PinOptions{
		ReplicationFactorMin: pl.Min, ReplicationFactorMax: pl.Max,
		Name: writeName(pl.Label, pl.Size),
	})
	if p.Allocations, err = c.holders(root, old.Allocations, pl); err != nil {
		return err
	}
	if err := c.pinset.LogPin(ctx, p); err != nil {
		return fmt.Errorf("pin %s: %w", root, err)
	}
	return nil
}

// Unpin takes a segment out of the pinset; those that hold it give it up. It is
// no error if it is not there. As to when, see Pin.
//
// What another peer pins, or moves from a lost one, before it knows of the Unpin
// wins over it: after a partition whoever owns the segments must look at the
// pinset and unpin again.
func (c *Cluster) Unpin(ctx context.Context, root cid.Cid) error {
	if err := c.pinset.open(); err != nil {
		return fmt.Errorf("unpin %s: %w", root, err)
	}
	_, err := c.pinset.get(ctx, capi.NewCid(root))
	if errors.Is(err, state.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = c.pinset.LogUnpin(ctx, capi.PinCid(capi.NewCid(root)))
	}
	if err != nil {
		return fmt.Errorf("unpin %s: %w", root, err)
	}
	return nil
}

// Flush returns when all changes made here before are durable and were told to
// the peers that are connected.
func (c *Cluster) Flush(context.Context) error {
	if err := c.pinset.open(); err != nil {
		return err
	}
	return c.pinset.batch.flush()
}

// Lookup says what the pinset has for root.
func (c *Cluster) Lookup(ctx context.Context, root cid.Cid) (Pin, bool, error) {
	if err := c.pinset.open(); err != nil {
		return Pin{}, false, fmt.Errorf("look up %s: %w", root, err)
	}
	p, err := c.pinset.get(ctx, capi.NewCid(root))
	if errors.Is(err, state.ErrNotFound) {
		return Pin{}, false, nil
	}
	if err != nil {
		return Pin{}, false, fmt.Errorf("look up %s: %w", root, err)
	}
	return pinOf(p), true, nil
}

func pinOf(p capi.Pin) Pin {
	label, size := readName(p.Name)
	return Pin{
		Root: p.Cid.Cid, Holders: p.Allocations,
		Placement: Placement{Label: label, Size: size, Min: p.ReplicationFactorMin, Max: p.ReplicationFactorMax},
	}
}

// Pins goes through the pinset, in no order, without holding it in memory. What
// was changed here before is committed first.
func (c *Cluster) Pins(ctx context.Context) iter.Seq2[Pin, error] {
	return func(yield func(Pin, error) bool) {
		if err := c.Flush(ctx); err != nil {
			yield(Pin{}, fmt.Errorf("list the pinset: %w", err))
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		out, done := make(chan capi.Pin), make(chan error, 1)
		go func() { done <- (&view{c.pinset}).List(ctx, out) }()
		defer func() {
			cancel()
			for range out {
			}
		}()
		for p := range out {
			if !yield(pinOf(p), nil) {
				return
			}
		}
		if err := <-done; err != nil {
			yield(Pin{}, fmt.Errorf("list the pinset: %w", err))
		}
	}
}

// Peers are the trusted peers, in order of their IDs, by what each last said.
func (c *Cluster) Peers(ctx context.Context) []Metric {
	by := map[peer.ID]*Metric{}
	for _, p := range c.trust.list() {
		by[p] = &Metric{ID: p, Site: c.monitor.LatestForPeer(ctx, metricSite, p).Value}
	}
	for _, p := range c.monitor.alive() {
		if m := by[p]; m != nil {
			m.Alive = true
		}
	}
	for _, x := range c.monitor.LatestMetrics(ctx, metricFree) {
		if m := by[x.Peer]; m != nil && m.Alive {
			m.Free = x.Weight
		}
	}
	out := make([]Metric, 0, len(by))
	for _, p := range slices.Sorted(maps.Keys(by)) {
		out = append(out, *by[p])
	}
	return out
}

// Trust lets a peer change the pinset and hold segments, from now on. It is not
// remembered: say it again after Open.
func (c *Cluster) Trust(_ context.Context, p peer.ID) error {
	if _, err := peer.IDFromBytes([]byte(p)); err != nil {
		return fmt.Errorf("%w: %q is no peer ID", ErrTrusted, string(p))
	}
	if c.trust.add(p) {
		c.o.Host.ConnManager().Protect(p, protectTag)
	}
	c.door.greet(p)
	return nil
}

// Distrust shuts a peer out at once. What it changed before stays; copies that
// it is to hold are given to others, as far as that falls to this peer and there
// is room.
func (c *Cluster) Distrust(ctx context.Context, p peer.ID) error {
	if !c.trust.remove(p) {
		return nil
	}
	c.o.Host.ConnManager().Unprotect(p, protectTag)
	c.door.evict(p)
	c.monitor.forget(p)
	return c.vacate(ctx, p)
}

// vacate places anew what p was to hold. Of all peers alive one does it for each
// segment.
func (c *Cluster) vacate(ctx context.Context, p peer.ID) error {
	var alive []place.Candidate
	for _, q := range c.monitor.alive() {
		alive = append(alive, place.Candidate{ID: q, Weight: 1})
	}
	for x, err := range c.Pins(ctx) {
		if err != nil {
			return fmt.Errorf("give away what %s holds: %w", p, err)
		}
		mine := place.Choose(x.Root, alive, 1, nil, false)
		if !slices.Contains(x.Holders, p) || len(mine) == 0 || mine[0].ID != c.trust.self {
			continue
		}
		if err := c.Pin(ctx, x.Root, x.Placement); err != nil && !errors.Is(err, ErrFewPeers) {
			return fmt.Errorf("give away what %s holds: %w", p, err)
		}
	}
	return nil
}

// Recover has the holders of a segment that failed to fetch it, or to remove
// it, try again now. Those that cannot be reached are left out.
func (c *Cluster) Recover(ctx context.Context, root cid.Cid) error {
	if err := c.pinset.open(); err != nil {
		return fmt.Errorf("recover %s: %w", root, err)
	}
	if _, err := c.inner.Recover(ctx, capi.NewCid(root)); err != nil {
		return fmt.Errorf("recover %s: %w", root, err)
	}
	return nil
}

// retry tries again what failed here. Cluster's own way goes through the whole
// pinset each time.
func (c *Cluster) retry(ctx context.Context) {
	tick := time.NewTicker(c.o.Timing.Recover)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		out := make(chan capi.PinInfo, 64)
		c.wg.Go(func() {
			_ = c.tracker.StatusAll(ctx, capi.TrackerStatusPinError|capi.TrackerStatusUnpinError, out)
		})
		var failed []capi.Cid
		for x := range out {
			failed = append(failed, x.Cid)
		}
		for _, root := range failed {
			if c.o.Denied(root.Cid) {
				continue
			}
			if _, err := c.tracker.Recover(ctx, root); err != nil {
				c.o.Log.Warn("cannot try again", "root", root, "error", err)
				break
			}
		}
	}
}
