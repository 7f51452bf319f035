package keep

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/audit"
)

const (
	metricTicks = 5  // ticks between two looks at metrics and standings
	rerankTicks = 10 // ticks between two choices of all places
)

// watch looks after the peers until ctx ends: who is there, who has been away
// for too long, whose hours begin or end.
func (k *Keeper) watch(ctx context.Context) {
	ticker := time.NewTicker(k.timing.Tick)
	defer ticker.Stop()
	for n := 0; ; n++ {
		k.observe(ctx, n%metricTicks == 0)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// observe looks at all peers once.
func (k *Keeper) observe(ctx context.Context, metrics bool) {
	var measured []Metric
	var standings map[peer.ID]audit.Standing
	if metrics {
		if k.o.Trusted != nil {
			measured = k.o.Trusted.Peers(ctx)
		}
		standings = k.standings(k.enrolled())
	}
	for _, n := range k.lookAll(measured, standings, metrics) {
		if k.o.Standings != nil {
			k.o.Standings.Record(n.about, n.outcome, k.now())
		}
	}
}

// news is what the standing of a peer shall hear of besides its audits.
type news struct {
	about   peer.ID
	outcome audit.Outcome
}

// lookAll looks at all peers, and returns whose absence is news, and whose
// losses. It takes the lock itself.
func (k *Keeper) lookAll(measured []Metric, standings map[peer.ID]audit.Standing, metrics bool) (heard []news) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.nowNS()
	if metrics {
		k.measure(measured, now)
		for id, s := range standings {
			k.stand(k.holders[id], s, now)
		}
	}
	for _, h := range k.holders {
		k.look(h, now)
		if h.missed {
			h.missed = false
			heard = append(heard, news{h.id, audit.Offline})
		}
		for ; h.failures.owed > 0; h.failures.owed-- {
			heard = append(heard, news{h.id, audit.Missing})
		}
	}
	k.spreadNews(now)
	return heard
}

// enrolled are the peers on the roster. It takes the lock itself.
func (k *Keeper) enrolled() []peer.ID {
	k.mu.Lock()
	defer k.mu.Unlock()
	ids := make([]peer.ID, 0, len(k.holders))
	for id, h := range k.holders {
		if h.enrolled && !h.self {
			ids = append(ids, id)
		}
	}
	return ids
}

// spreadNews has segments looked at that may have a better place now.
func (k *Keeper) spreadNews(now int64) {
	if k.rerank && now-k.reranked >= rerankTicks*int64(k.timing.Tick) {
		k.rerank, k.hungry, k.reranked = false, false, now
		k.touchAll()
	}
	if !k.hungry {
		return
	}
	k.hungry = false
	for _, s := range k.segments {
		if s.short {
			k.dirty(s)
		}
	}
}
