package audit

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/wire"
)

// Standings keeps the conduct of peers, in memory and in a store. Its methods
// may be called at once.
type Standings struct {
	store datastore.Batching
	now   func() time.Time

	mu    sync.Mutex
	peers map[peer.ID]Conduct
	dirty map[peer.ID]debt
}

// debt is what the store does not know yet of a peer.
type debt struct {
	outcomes int
	since    time.Time // when its conduct was last written
}

const (
	maxDebt    = 32               // outcomes that need not be written at once
	maxDebtAge = 10 * time.Minute // since the last time that they were
)

func standingsKey() datastore.Key { return datastore.NewKey("/audit/standing") }

func standingKey(p peer.ID) datastore.Key { return standingsKey().ChildString(p.String()) }

// OpenStandings reads the standings in store, under /audit. A nil now is
// time.Now.
func OpenStandings(ctx context.Context, store datastore.Batching, now func() time.Time) (*Standings, error) {
	if now == nil {
		now = time.Now
	}
	s := &Standings{store: store, now: now, peers: map[peer.ID]Conduct{}, dirty: map[peer.ID]debt{}}
	found, err := store.Query(ctx, query.Query{Prefix: standingsKey().String()})
	if err != nil {
		return nil, fmt.Errorf("read standings: %w", err)
	}
	defer found.Close()
	for e := range found.Next() {
		if e.Error != nil {
			return nil, fmt.Errorf("read standings: %w", e.Error)
		}
		p, err := peer.Decode(strings.TrimPrefix(e.Key, standingsKey().String()+"/"))
		if err != nil {
			return nil, fmt.Errorf("read standing %q: %w", e.Key, err)
		}
		var c Conduct
		if err := wire.Unmarshal(e.Value, &c); err != nil {
			return nil, fmt.Errorf("read standing of %s: %w", p, err)
		}
		s.peers[p] = c
	}
	return s, nil
}

// of is the conduct of p as it is at a time. The lock is held.
func (s *Standings) of(p peer.ID, at time.Time) Conduct {
	c, ok := s.peers[p]
	if !ok {
		return Conduct{Standing: New, Since: at}
	}
	c.pass(at)
	return c
}

// set keeps c, in the store first. The lock is held.
func (s *Standings) set(ctx context.Context, p peer.ID, c Conduct) error {
	b, err := wire.Marshal(c)
	if err == nil {
		err = s.store.Put(ctx, standingKey(p), b)
	}
	if err == nil && s.peers[p].Standing != c.Standing {
		err = s.store.Sync(ctx, standingKey(p))
	}
	if err != nil {
		return fmt.Errorf("keep standing of %s: %w", p, err)
	}
	s.peers[p] = c
	delete(s.dirty, p)
	return nil
}

// Record takes outcomes of p, in the order in which they came about, and says
// what its standing is then. A failure, and a change of standing, is durable on
// return. Anything else is written now and then, and by Flush: a crash may cost
// a peer some of the answers that it proved last.
func (s *Standings) Record(ctx context.Context, p peer.ID, at time.Time, outcomes ...Outcome) (Standing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at = at.UTC().Truncate(time.Second) // as precise as the store
	c, before, owed := s.of(p, at), s.peers[p], s.dirty[p]
	for _, o := range outcomes {
		c.observe(o, at)
	}
	owed.outcomes += len(outcomes)
	changed := c.Standing != before.Standing || c.Failed != before.Failed || c.Away.IsZero() != before.Away.IsZero()
	if age := at.Sub(owed.since); changed || owed.outcomes >= maxDebt || age < 0 || age >= maxDebtAge {
		if err := s.set(ctx, p, c); err != nil {
			return s.of(p, at).Standing, err
		}
		owed = debt{since: at}
	}
	s.peers[p], s.dirty[p] = c, owed
	return c.Standing, nil
}

// Flush writes what Record has not written yet. Call it before the end.
func (s *Standings) Flush(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, owed := range s.dirty {
		if owed.outcomes == 0 {
			continue
		}
		if err := s.set(ctx, p, s.peers[p]); err != nil {
			return err
		}
	}
	return nil
}

// Get is how p has done so far; one that was never audited is New.
func (s *Standings) Get(p peer.ID) Conduct {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.of(p, s.now())
	c.Wrongs = append([]time.Time(nil), c.Wrongs...)
	return c
}

// Excuse lets p be away until then, at most 30 days from now. A time that has
// passed ends an excuse. It is durable on return.
func (s *Standings) Excuse(ctx context.Context, p peer.ID, until time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if most := now.Add(maxExcuse); until.After(most) {
		until = most
	}
	c := s.of(p, now)
	c.Excused = until
	return s.durable(ctx, p, c)
}

// Reinstate makes p new again, whatever it was, for a reason. What it did before
// is forgotten. It is durable on return.
func (s *Standings) Reinstate(ctx context.Context, p peer.ID, reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.durable(ctx, p, Conduct{Standing: New, Since: s.now(), Reason: reason})
}

// Forget deletes what is known of p, who left.
func (s *Standings) Forget(ctx context.Context, p peer.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.store.Delete(ctx, standingKey(p)); err != nil {
		return fmt.Errorf("forget standing of %s: %w", p, err)
	}
	delete(s.peers, p)
	delete(s.dirty, p)
	return nil
}

func (s *Standings) durable(ctx context.Context, p peer.ID, c Conduct) error {
	if err := s.set(ctx, p, c); err != nil {
		return err
	}
	if err := s.store.Sync(ctx, standingKey(p)); err != nil {
		return fmt.Errorf("keep standing of %s: %w", p, err)
	}
	return nil
}
