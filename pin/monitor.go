package pin

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	ipfscluster "github.com/ipfs-cluster/ipfs-cluster"
	capi "github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs-cluster/ipfs-cluster/monitor/pubsubmon"
	rpc "github.com/libp2p/go-libp2p-gorpc"
	"github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
)

// neverHeard is how many pings a trusted peer that was never heard may miss: at
// the start of a site all of its machines come up in their own time, and so do
// those that join later.
const neverHeard = 12

// monitor tells the metrics of this peer and keeps the newest of each trusted
// peer. How old one is goes by when it came, on the clock that cannot be set:
// what the sender or a time server believes moves no copies.
type monitor struct {
	trust  *trust
	timing Timing
	log    *slog.Logger
	topic  *pubsub.Topic
	sub    *pubsub.Subscription
	alerts chan capi.Alert
	spoke  chan struct{} // closed when this peer has told all of itself for the first time
	once   sync.Once

	stop context.CancelFunc
	wg   sync.WaitGroup

	mu    sync.Mutex
	last  map[peer.ID]map[string]heard
	met   map[peer.ID]time.Time // when each was first looked for
	lost  map[peer.ID]bool      // told to be lost since they were last alive
	fresh bool                  // a peer became a candidate: what the lost held may find room now
}

type heard struct {
	metric capi.Metric
	at     time.Time
}

var _ ipfscluster.PeerMonitor = (*monitor)(nil)

func newMonitor(ps *pubsub.PubSub, t *trust, timing Timing, log *slog.Logger) (*monitor, error) {
	topic, err := ps.Join(pubsubmon.PubsubTopic)
	if err != nil {
		return nil, err
	}
	sub, err := topic.Subscribe()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &monitor{
		trust: t, timing: timing, log: log, topic: topic, sub: sub, stop: cancel,
		alerts: make(chan capi.Alert, 64), spoke: make(chan struct{}),
		last: map[peer.ID]map[string]heard{}, lost: map[peer.ID]bool{}, met: map[peer.ID]time.Time{},
	}
	m.wg.Go(func() { m.listen(ctx) })
	m.wg.Go(func() { m.watch(ctx) })
	return m, nil
}

// life is how long a metric of that name counts.
func (m *monitor) life(name string) time.Duration {
	if name == metricPing {
		return 2 * m.timing.Ping
	}
	return 4 * m.timing.Ping
}

func (m *monitor) listen(ctx context.Context) {
	for {
		msg, err := m.sub.Next(ctx)
		if err != nil {
			return
		}
		if msg.GetFrom() == m.trust.self {
			continue
		}
		if x, err := decodeMetric(msg.GetData()); err == nil && x.Peer == msg.GetFrom() {
			_ = m.LogMetric(ctx, x)
		}
	}
}

func (m *monitor) watch(ctx context.Context) {
	tick := time.NewTicker(m.timing.Check)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.look()
		}
	}
}

// look raises an alert for each trusted peer that is lost: once, and again
// whenever another peer has come, which may have the room that was missing.
func (m *monitor) look() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fresh {
		m.fresh = false
		clear(m.lost)
	}
	for _, p := range m.trust.list() {
		if _, known := m.met[p]; !known {
			m.met[p] = time.Now()
		}
		if p == m.trust.self || m.lost[p] || !m.gone(p) {
			continue
		}
		a := capi.Alert{Metric: capi.Metric{Name: metricPing, Peer: p}, TriggeredAt: time.Now()}
		select {
		case m.alerts <- a:
			m.lost[p] = true
			m.log.Warn("a trusted peer is lost", "peer", p)
		default: // the next look raises it
		}
	}
}

// gone reports whether p gave no sign of life for too long.
func (m *monitor) gone(p peer.ID) bool {
	h, ok := m.last[p][metricPing]
	if !ok {
		met, known := m.met[p]
		return known && time.Since(met) > neverHeard*m.timing.Ping
	}
	return time.Since(h.at) > m.life(metricPing)
}

// LogMetric keeps a metric as if it had just come.
func (m *monitor) LogMetric(_ context.Context, x capi.Metric) error {
	if !m.trust.has(x.Peer) {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.candidate(x.Peer)
	if m.last[x.Peer] == nil {
		m.last[x.Peer] = map[string]heard{}
	}
	m.last[x.Peer][x.Name] = heard{x, time.Now()}
	if x.Name == metricPing {
		delete(m.lost, x.Peer)
	}
	if !before && m.candidate(x.Peer) {
		m.fresh = true
	}
	return nil
}

// candidate reports whether p may be given copies: it lives and has told the
// rest as well.
func (m *monitor) candidate(p peer.ID) bool {
	for _, name := range m.MetricNames(context.Background()) {
		if h, ok := m.last[p][name]; !ok || time.Since(h.at) > m.life(name) {
			return false
		}
	}
	return true
}

// PublishMetric tells all trusted peers that are connected.
func (m *monitor) PublishMetric(ctx context.Context, x capi.Metric) error {
	if len(x.Value) > maxValue {
		x.Value = "" // none of ours needs more
	}
	if err := m.LogMetric(ctx, x); err != nil {
		return err
	}
	b, err := encodeMetric(x)
	if err == nil {
		err = m.topic.Publish(ctx, b)
	}
	m.said()
	return err
}

// said notes whether this peer has told all that it always tells. Its room may
// be nothing to tell of.
func (m *monitor) said() {
	m.mu.Lock()
	defer m.mu.Unlock()
	own := m.last[m.trust.self]
	if _, ok := own[metricPing]; !ok {
		return
	}
	if _, ok := own[metricSite]; ok {
		m.once.Do(func() { close(m.spoke) })
	}
}

// LatestMetrics are those that still count, of trusted peers that are alive: the
// room of one that is lost is no room.
func (m *monitor) LatestMetrics(_ context.Context, name string) []capi.Metric {
	m.mu.Lock()
	defer m.mu.Unlock()
	var l []capi.Metric
	for p, of := range m.last {
		h, ok := of[name]
		left := m.life(name) - time.Since(h.at)
		if !ok || left <= 0 || m.gone(p) || !m.trust.has(p) {
			continue
		}
		x := h.metric
		x.SetTTL(left)
		l = append(l, x)
	}
	slices.SortFunc(l, func(a, b capi.Metric) int { return strings.Compare(string(a.Peer), string(b.Peer)) })
	return l
}

// LatestForPeer may be too old to count, or empty.
func (m *monitor) LatestForPeer(_ context.Context, name string, p peer.ID) capi.Metric {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last[p][name].metric
}

// alive are the trusted peers that gave a sign of life, this one included.
func (m *monitor) alive() []peer.ID {
	l := []peer.ID{m.trust.self}
	for _, x := range m.LatestMetrics(context.Background(), metricPing) {
		if x.Peer != m.trust.self {
			l = append(l, x.Peer)
		}
	}
	slices.Sort(l)
	return l
}

// forget drops what a peer said.
func (m *monitor) forget(p peer.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.last, p)
	delete(m.lost, p)
	delete(m.met, p)
}

// MetricNames are the three.
func (m *monitor) MetricNames(context.Context) []string {
	return []string{metricPing, metricFree, metricSite}
}

// Alerts name peers that are lost.
func (m *monitor) Alerts() <-chan capi.Alert { return m.alerts }

// SetClient does nothing: a monitor calls nobody.
func (m *monitor) SetClient(*rpc.Client) {}

// Shutdown returns when nothing of the monitor runs.
func (m *monitor) Shutdown(context.Context) error {
	m.stop()
	m.sub.Cancel()
	m.wg.Wait()
	_ = m.topic.Close()
	return nil
}
