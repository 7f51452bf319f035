package keep

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
	"github.com/musenai/musen/pin/place"
)

// A Keeper keeps the copies of all segments. Its methods are safe for
// concurrent use. The methods that take note of an event never block; what
// follows from them happens in Run.
type Keeper struct {
	o       Options
	timing  Timing
	log     *slog.Logger
	now     func() time.Time
	started int64
	pause   time.Duration // between two slices of a survey
	salt    [16]byte      // so that nobody can tell when a copy is challenged

	jobs        chan *job
	letters     chan letter
	flushes     chan chan error // each wants to hear when all changes are stored
	unsavedSome chan struct{}
	awake       chan struct{}
	sooner      chan struct{} // a survey is needed sooner than thought
	closed      chan struct{}
	running     sync.WaitGroup

	mu       sync.Mutex
	ran      bool
	self     *holder
	segments map[cid.Cid]*segment
	holders  map[peer.ID]*holder
	storages []*holder // trusted peers but this one, enrolled, ordered by ID
	replicas []*holder // enrolled, ordered by ID
	labels   map[string]string
	problems map[*segment]string          // why the pinset or a line could not be told
	waiting  map[*segment][]chan struct{} // closed when the level changes
	trusted  int                          // peers on the roster, this one included
	capable  int                          // of those, whose copies may count
	epoch    uint32                       // changes when copies may have better places
	rerank   bool                         // the epoch shall change
	reranked int64
	hungry   bool // somebody can take more
	queue    []*segment
	urgent   []*segment // removed ones
	agenda   agenda
	ready    []*holder
	auditing int
	wounds   []*segment // own copies to mend
	scars    []*segment // the same, of which mending failed before
	mends    int
	mending  map[*segment]*attempt // those in wounds and scars, and at work
	unsaved  []*segment
	erased   []cid.Cid
	scratch  []place.Candidate
	table    *place.Table // the replicas; nil: to be made anew
	survey   survey
}

// New makes a Keeper that remembers what it knew when it last ran. Nothing
// happens before Run.
func New(o Options) (*Keeper, error) {
	if o.Store == nil || o.Wants == nil || o.Roster == nil || o.Self == "" {
		return nil, errors.New("keep copies: needs a store, a catalogue, a roster and an own name")
	}
	k := &Keeper{
		o: o, timing: o.Timing.withDefaults(), log: o.Log, now: o.Now, pause: surveyPause,
		jobs: make(chan *job), letters: make(chan letter), flushes: make(chan chan error),
		unsavedSome: make(chan struct{}, 1), awake: make(chan struct{}, 1),
		sooner: make(chan struct{}, 1), closed: make(chan struct{}),
		segments: map[cid.Cid]*segment{}, holders: map[peer.ID]*holder{}, labels: map[string]string{},
		problems: map[*segment]string{}, waiting: map[*segment][]chan struct{}{},
		mending: map[*segment]*attempt{},
	}
	if k.log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	if k.now == nil {
		k.now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if err := k.season(context.Background(), o.Rand); err != nil {
		return nil, fmt.Errorf("keep copies: %w", err)
	}
	k.started = k.nowNS()
	k.self = &holder{id: o.Self, role: member.Origin, site: o.Site, self: true, enrolled: true, present: true, standing: audit.Good}
	k.holders[o.Self] = k.self
	if err := k.load(context.Background()); err != nil {
		return nil, err
	}
	peers, standings := k.roster()
	k.enrol(peers, standings, k.started)
	k.touchAll()
	return k, nil
}

func (k *Keeper) nowNS() int64 { return k.now().UnixNano() }

// intern keeps one string for each label.
func (k *Keeper) intern(label string) string {
	if l, ok := k.labels[label]; ok {
		return l
	}
	k.labels[label] = label
	return label
}

// Run keeps the copies until ctx ends, and returns when all that it began has
// ended and its state is stored. It can run once.
func (k *Keeper) Run(ctx context.Context) error {
	k.mu.Lock()
	ran := k.ran
	k.ran = true
	k.mu.Unlock()
	if ran {
		return errors.New("keep copies: runs already, or has run")
	}
	saving, saved := context.WithCancel(context.WithoutCancel(ctx))
	var saver sync.WaitGroup
	saver.Go(func() { k.save(saving) })
	for range workers {
		k.running.Go(func() { k.work(ctx) })
	}
	if many, ok := k.o.Orders.(orderMany); ok {
		k.running.Go(func() { k.post(ctx, many) })
	}
	k.running.Go(func() { k.watch(ctx) })
	k.running.Go(func() { k.surveys(ctx) })
	k.mend(ctx)
	k.running.Wait()
	saved()
	saver.Wait()
	close(k.closed)
	return nil
}

// wake has the mending loop look for work.
func (k *Keeper) wake() {
	select {
	case k.awake <- struct{}{}:
	default:
	}
}

// dirty has a segment looked at. The lock is held.
func (k *Keeper) dirty(s *segment) {
	if s.busy {
		s.again = true
		return
	}
	if s.queued {
		return
	}
	s.queued = true
	if s.gone {
		k.urgent = append(k.urgent, s)
	} else {
		k.queue = append(k.queue, s)
	}
	k.wake()
}

// slice is how many segments are looked at before others get the lock.
const slice = 64

// mend plans for the segments that need it until ctx ends.
func (k *Keeper) mend(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		jobs, more, next := k.round(ctx)
		for _, j := range jobs {
			select {
			case k.jobs <- j:
			case <-ctx.Done():
				return
			}
		}
		if more && ctx.Err() == nil {
			continue
		}
		if next > 0 {
			timer.Reset(time.Duration(next - k.nowNS()))
		}
		select {
		case <-ctx.Done():
			return
		case <-k.awake:
		case <-timer.C:
		}
	}
}

// round plans for a slice of the segments that need it. more says that there
// are others; if not, next is when there will be, 0 for never.
func (k *Keeper) round(ctx context.Context) (jobs []*job, more bool, next int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.nowNS()
	for s := k.agenda.due(now); s != nil; s = k.agenda.due(now) {
		k.dirty(s)
	}
	for range slice {
		s := k.take()
		if s == nil {
			break
		}
		if s.busy || k.segments[s.root] != s {
			s.again = s.busy
			continue
		}
		if j := k.plan(s, now); !j.empty() {
			jobs = append(jobs, j)
		}
	}
	more = len(k.queue)+len(k.urgent) > 0
	if !more {
		k.launch(ctx, now)
	}
	return jobs, more, k.agenda.next()
}

// take is the next segment to look at: removed ones first.
func (k *Keeper) take() *segment {
	for _, q := range []*[]*segment{&k.urgent, &k.queue} {
		if len(*q) == 0 {
			continue
		}
		s := (*q)[0]
		(*q)[0] = nil
		if *q = (*q)[1:]; len(*q) == 0 {
			*q = nil
		}
		s.queued = false
		return s
	}
	return nil
}

// Keep has the copies of a segment made that has just been stored here,
// durably. It is also for a station's changed wishes. It does not block. A
// segment that was removed stays removed, unless the Want says that it was lifted.
func (k *Keeper) Keep(w Want) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.nowNS()
	s, known := k.want(w, now)
	if s == nil || known {
		return
	}
	own := s.slotOf(k.self)
	k.prove(s, own, now)
	own.outcome = outcomeIndex(audit.Proved)
}

// want takes note of a Want; the segment is nil if it was removed, and not put
// back.
func (k *Keeper) want(w Want, now int64) (s *segment, known bool) {
	w = w.sane()
	s, known = k.segments[w.Root]
	if known && s.gone && !w.Lifted || !w.Root.Defined() {
		return nil, known
	}
	if known && s.gone {
		k.unbury(s, now)
	}
	if !known {
		s = &segment{root: w.Root, index: -1, since: now, slots: make([]slot, 0, w.Max+w.Community)}
		k.segments[w.Root] = s
	} else if s.want() == w && s.slotOf(k.self) != nil {
		s.seen = k.survey.number
		return s, true
	}
	s.size, s.label, s.spread, s.lifted = w.Size, k.intern(w.Label), w.Spread, w.Lifted
	s.min, s.max, s.community = uint8(w.Min), uint8(w.Max), uint8(w.Community)
	s.seen, s.unsaved = k.survey.number, true
	if own := s.addSlot(k.self); !own.active() {
		s.move(own, held, now)
		own.told, own.due = true, now
	}
	if k.o.Services != nil {
		k.o.Services.Keep(s.root, s.label)
	}
	k.dirty(s)
	return s, known
}

// Drop has all copies of a removed segment purged: it is unpinned, and every
// peer that ever held it is ordered to delete it, until each has sent a
// receipt. It does not block. When it returns nothing is durable yet, but the
// catalogue is: what it says is gone is dropped after a crash as well.
func (k *Keeper) Drop(root cid.Cid) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !root.Defined() {
		return
	}
	now := k.nowNS()
	s := k.segments[root]
	if s == nil {
		s = &segment{root: root, index: -1, since: now, min: 1, max: 1}
		k.segments[root] = s
	}
	k.survey.dropped(root)
	if k.o.Services != nil {
		k.o.Services.Drop(root)
	}
	k.bury(s, now)
	k.dirty(s)
}

// Look has a segment looked at, for instance when a pinning service has done
// something about it.
func (k *Keeper) Look(root cid.Cid) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s := k.segments[root]; s != nil {
		k.dirty(s)
	}
}

// Members takes note that the roster has changed.
func (k *Keeper) Members() {
	peers, standings := k.roster()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.enrol(peers, standings, k.nowNS())
}

// Line takes note that the line of a peer is up, or is not any more.
func (k *Keeper) Line(p peer.ID, up bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h := k.holders[p]
	if h == nil || h.self {
		return
	}
	h.lined, h.line, h.said = true, up, h.said && up
	k.look(h, k.nowNS())
}

// Report takes note of what a peer says about itself.
func (k *Keeper) Report(p peer.ID, r control.Report) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if h := k.holders[p]; h != nil && !h.self {
		k.report(h, r, k.nowNS())
	}
}
