package swarm

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"
)

const (
	// takes is how many times a replica may take what it was ordered to hold and
	// has not acknowledged, in each term: a line that breaks off costs an honest
	// one some of it again. overhead is what a segment has besides its bytes.
	takes    = 4
	term     = 6 * time.Hour
	overhead = 4 << 10
	// wantRate is how many wants of one peer are looked up in a second, in runs of
	// wantRun, which cost less than as many one by one; and wantBurst how many at
	// once after a pause: those of the next segments.
	wantRate  = 1000
	wantRun   = 256
	wantBurst = 16 * wantRun
)

// limits bound what each peer takes of this origin that is not trusted. They
// remember nothing over a restart, and of a peer no more than its open orders.
type limits struct {
	ctx context.Context // ends the waits
	now func() time.Time
	log *slog.Logger

	mu     sync.Mutex
	peers  map[peer.ID]*quota
	purses map[string]*purse // by the name of the pinning service
	stays  map[peer.ID]*stay // of its nodes
}

// quota is what one peer may take in its present term.
type quota struct {
	began  time.Time
	wants  *rate.Limiter
	run    int                  // wants of the present run that may be looked up
	orders map[cid.Cid]struct{} // open ones that were asked for
	most   int64                // bytes for them
	taken  int64                // bytes that were sent
	told   bool                 // the operator was told that it wants more
}

func newLimits(ctx context.Context, now func() time.Time, log *slog.Logger) *limits {
	return &limits{ctx: ctx, now: now, log: log, peers: map[peer.ID]*quota{}, purses: map[string]*purse{}, stays: map[peer.ID]*stay{}}
}

// pace waits until another want of p may be looked up. It reports false when
// the origin is closed meanwhile. What p sends after that waits with p.
func (l *limits) pace(p peer.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.quota(p)
	for q.run == 0 && l.ctx.Err() == nil {
		l.mu.Unlock()
		err := q.wants.WaitN(l.ctx, wantRun)
		l.mu.Lock()
		if err == nil {
			q.run += wantRun
		}
	}
	q.run--
	return l.ctx.Err() == nil
}

// grant reports whether p may take more, and gives it what belongs to an order
// that is still open, of size bytes.
func (l *limits) grant(p peer.ID, root cid.Cid, size int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.quota(p)
	if _, known := q.orders[root]; !known {
		q.orders[root] = struct{}{}
		q.most += takes * (size + overhead)
	}
	more := q.taken < q.most
	if !more && !q.told {
		q.told = true
		l.log.Warn("a replica fetches what it was ordered to hold again and again, and gets no more for now", "peer", p.String(), "bytes", q.taken)
	}
	return more
}

// took notes that n bytes go to p. Blocks that were granted before go out even
// if they are more than p may have: each of them once.
func (l *limits) took(p peer.ID, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if q := l.peers[p]; q != nil { // without one it is trusted, or a guest
		q.taken += int64(n)
	}
	if v := l.stays[p]; v != nil {
		v.left -= int64(n)
	}
}

// quota is that of p, in its present term. The lock is held.
func (l *limits) quota(p peer.ID) *quota {
	now := l.now()
	q := l.peers[p]
	switch {
	case q == nil:
		l.forget(now)
		q = &quota{began: now, wants: rate.NewLimiter(wantRate, wantBurst), orders: map[cid.Cid]struct{}{}}
		l.peers[p] = q
	case now.Sub(q.began) >= term:
		q.began, q.taken, q.most, q.told = now, 0, 0, false
		clear(q.orders)
	}
	return q
}

// forget lets go of peers that have asked for nothing lately. The lock is held.
func (l *limits) forget(now time.Time) {
	for p, q := range l.peers {
		if now.Sub(q.began) >= 2*term {
			delete(l.peers, p)
		}
	}
	for name, b := range l.purses {
		if now.Sub(b.began) >= 2*term {
			delete(l.purses, name)
		}
	}
}
