package keep

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
)

// The catalogue.

func (w *world) All(context.Context) iter.Seq2[Want, error] {
	w.mu.Lock()
	all := slices.Collect(maps.Values(w.want))
	w.mu.Unlock()
	return func(yield func(Want, error) bool) {
		for _, x := range all {
			if !yield(x, nil) {
				return
			}
		}
	}
}

func (w *world) Gone(_ context.Context, root cid.Cid) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gone[root]
}

// The roster and the metrics: both are called Peers.

type metrics struct{ *world }

func (w *world) Peers() []member.Peer {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.roster)
}

func (w metrics) Peers(context.Context) []Metric {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Metric
	for _, m := range w.peers {
		if m.Role == member.Storage {
			out = append(out, Metric{ID: m.ID, Alive: m.up, Free: m.free, Site: m.Site})
		}
	}
	return out
}

func (w metrics) Recover(context.Context, cid.Cid) error {
	w.mu.Lock()
	w.count.recovers++
	w.mu.Unlock()
	w.follow()
	return nil
}

// The pinset.

func (w *world) Pin(_ context.Context, p Pin) error {
	w.mu.Lock()
	if w.pinErr != nil {
		defer w.mu.Unlock()
		return w.pinErr
	}
	w.count.pins++
	old, dropping := w.pins[p.Root].Holders, w.dropping
	w.pins[p.Root] = p
	w.mu.Unlock()
	for _, h := range old {
		if dropping != nil && !slices.Contains(p.Holders, h) {
			dropping(h, p.Root)
		}
	}
	w.follow(p.Root)
	return nil
}

func (w *world) Unpin(_ context.Context, root cid.Cid) error {
	w.mu.Lock()
	if w.pinErr != nil {
		defer w.mu.Unlock()
		return w.pinErr
	}
	w.count.unpins++
	delete(w.pins, root)
	w.mu.Unlock()
	w.follow(root)
	return nil
}

func (w *world) Pins(context.Context) iter.Seq2[Pin, error] {
	w.mu.Lock()
	all := slices.Collect(maps.Values(w.pins))
	w.mu.Unlock()
	return func(yield func(Pin, error) bool) {
		for _, p := range all {
			if !yield(p, nil) {
				return
			}
		}
	}
}

// follow has the storage peers that are up do what the pinset says, about one
// segment or about all.
func (w *world) follow(about ...cid.Cid) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.peers {
		if m.Role != member.Storage || !m.up {
			continue
		}
		roots := about
		if len(roots) == 0 {
			roots = slices.AppendSeq(slices.Collect(maps.Keys(w.pins)), maps.Keys(m.holds))
		}
		for _, root := range roots {
			wanted := slices.Contains(w.pins[root].Holders, m.ID)
			if !wanted {
				delete(m.holds, root)
			} else if !m.holds[root] && !m.denied[root] {
				w.fetch(m, control.Order{Verb: control.Hold, Root: root})
			}
		}
	}
}

// The lines.

func (w *world) Order(_ context.Context, to peer.ID, in control.Instruction) error {
	root, verb := in.Root, in.Verb
	w.mu.Lock()
	if w.ordErr != nil {
		defer w.mu.Unlock()
		return w.ordErr
	}
	m := w.peers[to]
	if m == nil || !slices.ContainsFunc(w.roster, func(p member.Peer) bool { return p.ID == to }) {
		defer w.mu.Unlock()
		return errors.New("no such peer")
	}
	w.count.orders++
	if w.asked[root] == nil {
		w.asked[root] = map[peer.ID][]control.Verb{}
	}
	w.asked[root][to] = append(w.asked[root][to], verb)
	o := control.Order{Seq: uint64(w.count.orders), Peer: to, Verb: verb, Root: root, Size: in.Size, Label: in.Label, Lifted: in.Lifted}
	up := m.up
	if !up {
		m.queue = append(slices.DeleteFunc(m.queue, func(q control.Order) bool { return q.Root == root }), o)
	}
	dropping := w.dropping
	w.mu.Unlock()
	if verb == control.Drop && dropping != nil {
		dropping(to, root)
	}
	if up {
		w.obey(m, o)
	}
	return nil
}

// obey has a peer carry out an order after its delay.
func (w *world) obey(m *machine, o control.Order) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fetch(m, o)
}

// fetch is obey; the lock is held.
func (w *world) fetch(m *machine, o control.Order) {
	if m.newest == nil {
		m.newest = map[cid.Cid]uint64{}
	}
	m.newest[o.Root] = max(m.newest[o.Root], o.Seq)
	time.AfterFunc(m.delay, func() {
		w.mu.Lock()
		if o.Seq > 0 && o.Seq < m.newest[o.Root] { // a newer order about it counts
			w.mu.Unlock()
			return
		}
		r := control.Receipt{Seq: o.Seq, Verb: o.Verb, Root: o.Root, Outcome: control.Done, At: time.Now()}
		if !m.up {
			m.queue = append(m.queue, o)
			w.mu.Unlock()
			return
		}
		switch o.Verb {
		case control.Hold:
			if m.refuse != nil {
				if out, why := m.refuse(o); out != "" {
					r.Outcome, r.Reason = out, why
				}
			}
			if o.Lifted {
				delete(m.denied, o.Root)
			}
			if m.denied[o.Root] {
				r.Outcome, r.Reason = control.Failed, "purged"
			}
			if r.Outcome == control.Done {
				m.holds[o.Root] = true
			}
		case control.Drop:
			delete(m.holds, o.Root)
		case control.Purge:
			delete(m.holds, o.Root)
			m.denied[o.Root] = true
		}
		mute, k := m.mute, w.k
		w.mu.Unlock()
		if !mute {
			k.Receipt(m.ID, r)
		}
	})
}

// The audits.

func (w *world) Audit(ctx context.Context, p peer.ID, roots []cid.Cid) ([]audit.Outcome, error) {
	select {
	case <-time.After(10*time.Millisecond + time.Duration(p[len(p)-1])*10*time.Microsecond): // no two at once
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.peers[p]
	out := make([]audit.Outcome, len(roots))
	w.count.audits++
	for i, root := range roots {
		w.count.challenges++
		switch {
		case !m.up:
			out[i] = audit.Offline
		case m.answer != "":
			out[i] = m.answer
		case m.holds[root]:
			out[i] = audit.Proved
		default:
			out[i] = audit.Missing
		}
		m.seen[out[i]]++
		if w.learn != nil && out[i] != audit.Offline && out[i] != audit.Late {
			w.learn(root, p, out[i] == audit.Proved)
		}
	}
	return out, nil
}

// The standings: two wrong answers pause a peer.

type standings struct{ *world }

func (w standings) Record(p peer.ID, o audit.Outcome, _ time.Time) audit.Standing {
	w.smu.Lock()
	defer w.smu.Unlock()
	if o == audit.Wrong {
		w.bad[p]++
		if w.bad[p] >= 2 {
			w.stands[p] = audit.Paused
		}
	}
	return w.get(p)
}

func (w standings) Get(p peer.ID) audit.Standing {
	w.smu.Lock()
	defer w.smu.Unlock()
	return w.get(p)
}

func (w standings) get(p peer.ID) audit.Standing {
	if s := w.stands[p]; s != "" {
		return s
	}
	return audit.Good
}

// The own copies.

func (w *world) Verify(_ context.Context, root cid.Cid) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.broken[root]
}

func (w *world) Mend(ctx context.Context, root cid.Cid, _ int64) error {
	w.mu.Lock()
	w.count.mends++
	takes, err := w.mends, w.mendErr[root]
	w.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		delete(w.broken, root)
	}
	return err
}
