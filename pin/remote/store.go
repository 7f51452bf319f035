package remote

import (
	"container/heap"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/musenai/musen/pin/wire"
)

// pinRecord is a copy as it is stored, under /remote/p, the name of the service
// and the root.
type pinRecord struct {
	Label  string    `cbor:"1,keyasint,omitempty"`
	ID     string    `cbor:"2,keyasint,omitempty"`
	State  State     `cbor:"3,keyasint"`
	Since  time.Time `cbor:"4,keyasint"`
	Next   time.Time `cbor:"5,keyasint"`
	Reason string    `cbor:"6,keyasint,omitempty"`
	Begun  time.Time `cbor:"7,keyasint,omitzero"`
}

func serviceKey(name string) datastore.Key { return datastore.NewKey("/remote/s/" + name) }
func pinsKey(name string) datastore.Key    { return datastore.NewKey("/remote/p/" + name) }
func pinKey(name string, root cid.Cid) datastore.Key {
	return pinsKey(name).ChildString(root.String())
}

func (s *Services) put(ctx context.Context, k datastore.Key, v any, sync bool) error {
	b, err := wire.Marshal(v)
	if err != nil {
		return err
	}
	if err := s.o.Store.Put(ctx, k, b); err != nil || !sync {
		return err
	}
	return s.o.Store.Sync(ctx, k)
}

func (s *Services) putService(ctx context.Context, v Service) error {
	return s.put(ctx, serviceKey(v.Name), v, true)
}

// putPin stores a copy. What a crash may lose of it is asked again.
func (s *Services) putPin(ctx context.Context, n *service, p *pin) error {
	if s.services[n.Name] != n {
		return nil
	}
	return s.put(ctx, pinKey(n.Name, p.root), recordOf(p), false)
}

func recordOf(p *pin) pinRecord {
	return pinRecord{
		Label: p.label, ID: p.id, State: p.state, Since: p.since.UTC().Truncate(time.Second),
		Next: p.next.UTC().Truncate(time.Second), Reason: p.reason,
		Begun: p.begun.UTC().Truncate(time.Second),
	}
}

// noteAsked makes durable that a service may come to know of a segment, before
// it is asked. The lock is not held.
func (s *Services) noteAsked(ctx context.Context, v Service, root cid.Cid) error {
	s.mu.Lock()
	n := s.services[v.Name]
	var r pinRecord
	if n != nil && n.pins[root] != nil {
		n.pins[root].asked = true
		r = recordOf(n.pins[root])
	}
	s.mu.Unlock()
	if r.State == "" {
		return fmt.Errorf("%q: %w", v.Name, ErrService)
	}
	return s.put(ctx, pinKey(v.Name, root), r, true)
}

func (s *Services) erase(ctx context.Context, n *service, root cid.Cid) error {
	if err := s.o.Store.Delete(ctx, pinKey(n.Name, root)); err != nil {
		return err
	}
	if n.Leaving && len(n.pins) == 0 && s.services[n.Name] == n {
		return s.forget(ctx, n)
	}
	return nil
}

// forget deletes all that is known of a service. The lock is held.
func (s *Services) forget(ctx context.Context, n *service) error {
	b, err := s.o.Store.Batch(ctx)
	if err == nil {
		err = b.Delete(ctx, serviceKey(n.Name))
	}
	for root := range n.pins {
		if err == nil {
			err = b.Delete(ctx, pinKey(n.Name, root))
		}
	}
	if err == nil {
		err = b.Commit(ctx)
	}
	if err == nil {
		err = s.o.Store.Sync(ctx, datastore.NewKey("/remote"))
	}
	if err != nil {
		return fmt.Errorf("forget %q: %w", n.Name, err)
	}
	delete(s.services, n.Name)
	s.visits.end(n.Name)
	n.due = agenda{}
	return nil
}

// load reads the services and their copies.
func (s *Services) load(ctx context.Context) error {
	for e, err := range datastore.QueryIter(ctx, s.o.Store, query.Query{Prefix: "/remote/s"}) {
		if err != nil {
			return err
		}
		n := &service{pins: map[cid.Cid]*pin{}}
		if err := wire.Unmarshal(e.Value, &n.Service); err != nil {
			return fmt.Errorf("read %q: %w", e.Key, err)
		}
		s.services[n.Name] = n
	}
	for e, err := range datastore.QueryIter(ctx, s.o.Store, query.Query{Prefix: "/remote/p"}) {
		if err != nil {
			return err
		}
		if err := s.restore(e); err != nil {
			s.log.Error("a record of a copy at a pinning service is damaged", "key", e.Key, "err", err)
		}
	}
	return nil
}

// restore reads one copy.
func (s *Services) restore(e query.Entry) error {
	name, at, _ := strings.Cut(strings.TrimPrefix(e.Key, "/remote/p/"), "/")
	root, err := cid.Decode(at)
	if err != nil {
		return err
	}
	var r pinRecord
	if err := wire.Unmarshal(e.Value, &r); err != nil {
		return err
	}
	n := s.services[name]
	if n == nil {
		return nil
	}
	p := &pin{
		root: root, label: r.Label, id: r.ID, state: r.State, since: r.Since, reason: r.Reason,
		begun: r.Begun, asked: true, index: -1,
	}
	n.pins[root] = p
	if n.Leaving {
		s.become(p, Removing, "")
	}
	if p.state != Removing {
		s.keeping[root] = r.Label
	}
	if p.state == Queued || p.state == Pinning {
		r.Next = s.o.Now() // nobody knows its nodes any more
	}
	n.due.set(p, r.Next)
	return nil
}

// agenda orders copies by when to look at them. The zero agenda is empty.
type agenda struct{ h byTime }

// byTime is a heap whose copies know their places.
type byTime []*pin

func (b byTime) Len() int           { return len(b) }
func (b byTime) Less(i, j int) bool { return b[i].next.Before(b[j].next) }
func (b byTime) Swap(i, j int) {
	b[i], b[j] = b[j], b[i]
	b[i].index, b[j].index = i, j
}

// Push is for package heap.
func (b *byTime) Push(x any) {
	p := x.(*pin)
	p.index = len(*b)
	*b = append(*b, p)
}

// Pop is for package heap.
func (b *byTime) Pop() any {
	old := *b
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*b = old[:len(old)-1]
	p.index = -1
	return p
}

// set puts a copy on the agenda, or moves it there.
func (a *agenda) set(p *pin, when time.Time) {
	p.next = when
	if p.index >= 0 {
		heap.Fix(&a.h, p.index)
		return
	}
	heap.Push(&a.h, p)
}

func (a *agenda) ready(now time.Time) bool { return len(a.h) > 0 && !a.h[0].next.After(now) }

func (a *agenda) pop() *pin { return heap.Pop(&a.h).(*pin) }

func (a *agenda) next() time.Time {
	if len(a.h) == 0 {
		return time.Time{}
	}
	return a.h[0].next
}
