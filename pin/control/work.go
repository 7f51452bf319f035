package control

import (
	"cmp"
	"container/heap"
	"context"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
)

// A task is an order that is not carried out. The rest of the order is in the
// store.
type task struct {
	seq    uint64
	verb   Verb
	queued bool
	owed   bool   // the peer has not caught up without it
	tries  uint8  // that failed
	told   string // why, as the origin knows; untold: it does not know
	run    *run   // what is carrying it out, or an order that it replaced
}

// untold is no reason that a receipt can have.
const untold = "\x00"

// A run is one call of the handler.
type run struct {
	verb   Verb
	void   bool // its order was replaced by another verb
	cancel context.CancelFunc
}

// A result is what came of a run.
type result struct {
	root    cid.Cid
	run     *run
	outcome Outcome
	reason  string
}

// Work is what a peer has to carry out: the newest order about each segment.
type work struct {
	tasks map[cid.Cid]*task
	queue map[Verb]*fifo
	later delays // failed
	owed  int
	fresh chan struct{} // closed when something is queued
	alarm chan struct{} // something was delayed
}

// A delayed task is queued again when its time comes.
type delayed struct {
	at   time.Time
	root cid.Cid
}

// Delays are a heap with the soonest first.
type delays []delayed

var _ heap.Interface = (*delays)(nil)

func (d delays) Len() int           { return len(d) }
func (d delays) Less(i, j int) bool { return d[i].at.Before(d[j].at) }
func (d delays) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *delays) Push(x any)        { *d = append(*d, x.(delayed)) }
func (d *delays) Pop() any {
	last := (*d)[len(*d)-1]
	*d = slices.Delete(*d, len(*d)-1, len(*d))
	return last
}

func newWork() work {
	return work{
		tasks: map[cid.Cid]*task{},
		queue: map[Verb]*fifo{Hold: {}, Drop: {}, Purge: {}},
		fresh: make(chan struct{}),
		alarm: make(chan struct{}, 1),
	}
}

// add makes an order the newest about its segment.
func (w *work) add(root cid.Cid, seq uint64, verb Verb) {
	t := w.tasks[root]
	if t == nil {
		t = &task{told: untold}
		w.tasks[root] = t
	}
	if t.verb != verb {
		if t.owed && !verb.urgent() {
			t.owed = false
			w.owed--
		}
		if t.run != nil {
			t.run.void = true
			if t.run.verb == Hold {
				t.run.cancel()
			}
		}
		t.queued, t.tries, t.told = false, 0, untold
	}
	t.seq, t.verb = seq, verb
	if t.run == nil && t.tries == 0 {
		w.enqueue(root, t)
	}
}

func (w *work) enqueue(root cid.Cid, t *task) {
	if t.queued {
		return
	}
	t.queued = true
	w.queue[t.verb].push(root)
	close(w.fresh)
	w.fresh = make(chan struct{})
}

// sort puts what was added in the order in which it was given.
func (w *work) sort() {
	for _, q := range w.queue {
		slices.SortFunc(q.roots, func(a, b cid.Cid) int { return cmp.Compare(w.tasks[a].seq, w.tasks[b].seq) })
	}
}

// owe notes which drops and purges up to a number are still to be done.
func (w *work) owe(latest uint64) {
	w.owed = 0
	for _, t := range w.tasks {
		if t.owed = t.verb.urgent() && t.seq <= latest; t.owed {
			w.owed++
		}
	}
}

// next takes the first task of some verbs, for a run.
func (w *work) next(verbs ...Verb) (cid.Cid, *task, bool) {
	for _, v := range verbs {
		for {
			root, ok := w.queue[v].pop()
			if !ok {
				break
			}
			if t := w.tasks[root]; t != nil && t.queued && t.verb == v && t.run == nil {
				t.queued = false
				return root, t, true
			}
		}
	}
	return cid.Undef, nil, false
}

// done is the end of an order.
func (w *work) done(root cid.Cid) {
	t := w.tasks[root]
	if t.owed {
		w.owed--
	}
	delete(w.tasks, root)
}

// delay queues a task again at a time.
func (w *work) delay(root cid.Cid, at time.Time) {
	heap.Push(&w.later, delayed{at, root})
	select {
	case w.alarm <- struct{}{}:
	default:
	}
}

// due queues what was delayed until now, and says when the next is due.
func (w *work) due(now time.Time) (next time.Time, some bool) {
	for len(w.later) > 0 {
		d := w.later[0]
		if d.at.After(now) {
			return d.at, true
		}
		heap.Pop(&w.later)
		if t := w.tasks[d.root]; t != nil && t.run == nil {
			w.enqueue(d.root, t)
		}
	}
	return time.Time{}, false
}

// A fifo is a queue.
type fifo struct {
	roots []cid.Cid
	head  int
}

func (f *fifo) push(c cid.Cid) { f.roots = append(f.roots, c) }

func (f *fifo) pop() (cid.Cid, bool) {
	if f.head == len(f.roots) {
		f.roots, f.head = nil, 0
		return cid.Undef, false
	}
	c := f.roots[f.head]
	f.roots[f.head] = cid.Undef
	if f.head++; f.head >= 1024 && f.head*2 >= len(f.roots) {
		f.roots, f.head = slices.Clone(f.roots[f.head:]), 0
	}
	return c, true
}
