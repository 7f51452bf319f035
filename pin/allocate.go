package pin

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	ipfscluster "github.com/ipfs-cluster/ipfs-cluster"
	capi "github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs/go-cid"
	rpc "github.com/libp2p/go-libp2p-gorpc"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/place"
)

// informer tells how much room this peer has, and where it stands.
type informer struct {
	inventory Inventory
	site      string
	life      time.Duration
}

var _ ipfscluster.Informer = informer{}

// Name is that of the first metric.
func (i informer) Name() string { return metricFree }

// SetClient does nothing: an informer calls nobody.
func (i informer) SetClient(*rpc.Client) {}

// Shutdown has nothing to end.
func (i informer) Shutdown(context.Context) error { return nil }

// GetMetrics leaves a peer without room no candidate: its room is not valid,
// and what is not valid is not told.
func (i informer) GetMetrics(ctx context.Context) []capi.Metric {
	_, free, err := i.inventory.Space(ctx)
	room := capi.Metric{
		Name: metricFree, Value: strconv.FormatInt(free, 10), Weight: free, Valid: err == nil && free > 0,
	}
	site := capi.Metric{Name: metricSite, Value: i.site, Valid: true, Partitionable: true}
	room.SetTTL(i.life)
	site.SetTTL(i.life)
	return []capi.Metric{room, site}
}

// allocator is what Cluster asks when it moves the copies of a lost peer.
type allocator struct{}

var _ ipfscluster.PinAllocator = allocator{}

// SetClient does nothing: an allocator calls nobody.
func (allocator) SetClient(*rpc.Client) {}

// Shutdown has nothing to end.
func (allocator) Shutdown(context.Context) error { return nil }

// Metrics are the two that a candidate must have.
func (allocator) Metrics() []string { return []string{metricFree, metricSite} }

// Allocate orders candidates by rendezvous over free space, sites that hold no
// copy yet first.
func (allocator) Allocate(
	_ context.Context, root capi.Cid, current, candidates, priority capi.MetricsSet,
) ([]peer.ID, error) {
	taken := make([]string, 0, len(current[metricSite]))
	for _, m := range current[metricSite] {
		taken = append(taken, m.Value)
	}
	var out []peer.ID
	for _, set := range []capi.MetricsSet{priority, candidates} {
		all := candidatesOf(set[metricFree], set[metricSite])
		for _, c := range place.Choose(root.Cid, all, len(all), taken, true) {
			out = append(out, c.ID)
			taken = append(taken, c.Site)
		}
	}
	return out, nil
}

// candidatesOf are the peers that have room and a site.
func candidatesOf(room, sites []capi.Metric) []place.Candidate {
	at := make(map[peer.ID]string, len(sites))
	for _, m := range sites {
		at[m.Peer] = m.Value
	}
	l := make([]place.Candidate, 0, len(room))
	for _, m := range room {
		if site, ok := at[m.Peer]; ok {
			l = append(l, place.Candidate{ID: m.Peer, Weight: float64(m.Weight), Site: site})
		}
	}
	return l
}

// holders chooses who holds root. Peers that are preferred and alive come
// first, then those that have it already, then others by rendezvous. Holders
// that are lost keep their place as long as enough others are alive. Of those to
// avoid only who is preferred and holds it already can be chosen.
func (c *Cluster) holders(root cid.Cid, old []peer.ID, pl Placement) ([]peer.ID, error) {
	ctx := context.Background()
	alive, sites := c.monitor.alive(), c.monitor.LatestMetrics(ctx, metricSite)
	all := candidatesOf(c.monitor.LatestMetrics(ctx, metricFree), sites)

	var out []peer.ID
	add := func(p peer.ID) {
		if len(out) < pl.Max && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	live := func(l []peer.ID) int {
		n := 0
		for _, p := range l {
			if slices.Contains(alive, p) && c.trust.has(p) {
				n++
			}
		}
		return n
	}
	avoid := func(p peer.ID) bool {
		return slices.Contains(pl.Avoid, p) && !(slices.Contains(pl.Prefer, p) && slices.Contains(old, p))
	}
	for _, p := range pl.Prefer {
		if live([]peer.ID{p}) == 1 && !avoid(p) {
			add(p)
		}
	}
	old = slices.DeleteFunc(slices.Clone(old), avoid)
	enough := live(old) >= pl.Min
	for _, p := range old {
		if c.trust.has(p) && (enough || slices.Contains(alive, p)) {
			add(p)
		}
	}
	var taken []string
	for _, m := range sites {
		if slices.Contains(out, m.Peer) {
			taken = append(taken, m.Value)
		}
	}
	rest := slices.DeleteFunc(all, func(x place.Candidate) bool { return slices.Contains(out, x.ID) || avoid(x.ID) })
	for _, x := range place.Choose(root, rest, pl.Max-len(out), taken, true) {
		add(x.ID)
	}
	if n := live(out); n < pl.Min {
		return nil, fmt.Errorf("pin %s: %w: %d, at least %d are needed", root, ErrFewPeers, n, pl.Min)
	}
	return out, nil
}

// check reports what is wrong with a placement.
func (pl Placement) check() error {
	switch {
	case pl.Min < 1, pl.Max < pl.Min, pl.Max > maxCopies:
		return fmt.Errorf("%w: %d to %d copies", ErrPlacement, pl.Min, pl.Max)
	case pl.Size < 0:
		return fmt.Errorf("%w: %d bytes", ErrPlacement, pl.Size)
	case len(pl.Label) > maxLabel, strings.ContainsFunc(pl.Label, notOpaque):
		return fmt.Errorf("%w: label %.80q", ErrPlacement, pl.Label)
	}
	return nil
}

// notOpaque reports whether r has no place in a label.
func notOpaque(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
}

// writeName is all that the pinset keeps of a segment.
func writeName(label string, size int64) string { return label + "/" + strconv.FormatInt(size, 10) }

// readName is tolerant: what it does not understand is empty.
func readName(name string) (label string, size int64) {
	label, digits, _ := strings.Cut(name, "/")
	size, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || size < 0 {
		size = 0
	}
	if len(label) > maxLabel || strings.ContainsFunc(label, notOpaque) {
		label = ""
	}
	return label, size
}
