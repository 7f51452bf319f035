package keep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/peer"
)

// record is a segment as it is stored, under /keep/s and its root.
type record struct {
	Size      int64        `cbor:"1,keyasint"`
	Label     string       `cbor:"2,keyasint,omitempty"`
	Min       uint8        `cbor:"3,keyasint"`
	Max       uint8        `cbor:"4,keyasint"`
	Community uint8        `cbor:"5,keyasint,omitempty"`
	Spread    bool         `cbor:"6,keyasint,omitempty"`
	Gone      bool         `cbor:"7,keyasint,omitempty"`
	Pinned    bool         `cbor:"8,keyasint,omitempty"`
	Since     int64        `cbor:"9,keyasint"`
	Slots     []slotRecord `cbor:"10,keyasint,omitempty"`
	Lifted    bool         `cbor:"11,keyasint,omitempty"`
}

// slotRecord is a slot as it is stored.
type slotRecord struct {
	_       struct{} `cbor:",toarray"`
	Peer    []byte
	Stage   uint8
	Outcome uint8
	Since   int64
	Proved  int64
	Due     int64
	Reason  string
	Tries   uint8
	Flags   uint8
}

const (
	flagPinned = 1 << iota
	flagTold
	flagLeave
)

func flag(on bool, bit uint8) uint8 {
	if on {
		return bit
	}
	return 0
}

func prefix() datastore.Key { return datastore.NewKey("/keep/s") }

func keyOf(c cid.Cid) datastore.Key { return datastore.RawKey("/keep/s/" + c.String()) }

// season reads the salt of this keeper, or makes it: the moments at which copies
// are challenged stay the same when it runs again.
func (k *Keeper) season(ctx context.Context, random io.Reader) error {
	key := datastore.NewKey("/keep/salt")
	b, err := k.o.Store.Get(ctx, key)
	if err == nil && len(b) == len(k.salt) {
		copy(k.salt[:], b)
		return nil
	}
	if err != nil && !errors.Is(err, datastore.ErrNotFound) {
		return err
	}
	if _, err := io.ReadFull(random, k.salt[:]); err != nil {
		return err
	}
	if err := k.o.Store.Put(ctx, key, k.salt[:]); err != nil {
		return err
	}
	return k.o.Store.Sync(ctx, key)
}

// recordOf is the record of a segment. The lock is held.
func recordOf(s *segment) record {
	r := record{
		Size: s.size, Label: s.label, Min: s.min, Max: s.max, Community: s.community,
		Spread: s.spread, Lifted: s.lifted, Gone: s.gone, Pinned: s.pinned, Since: s.since,
		Slots: make([]slotRecord, len(s.slots)),
	}
	for i := range s.slots {
		x := &s.slots[i]
		r.Slots[i] = slotRecord{
			Peer: []byte(x.h.id), Stage: uint8(x.stage), Outcome: x.outcome, Since: x.since,
			Proved: x.proved, Due: x.due, Reason: x.reason, Tries: x.tries,
			Flags: flag(x.pinned, flagPinned) | flag(x.told, flagTold) | flag(x.leave, flagLeave),
		}
	}
	return r
}

// restore makes the segment of a record.
func (k *Keeper) restore(c cid.Cid, r record) (*segment, error) {
	s := &segment{
		root: c, size: r.Size, label: k.intern(r.Label), min: max(r.Min, 1), max: max(r.Max, r.Min, 1),
		community: r.Community, spread: r.Spread, lifted: r.Lifted, gone: r.Gone, pinned: r.Pinned, since: r.Since,
		repin: r.Gone, index: -1, slots: make([]slot, 0, len(r.Slots)),
	}
	for _, x := range r.Slots {
		id, err := peer.IDFromBytes(x.Peer)
		if err != nil {
			return nil, err
		}
		if stage(x.Stage) > purged || int(x.Outcome) >= len(outcomes()) {
			return nil, errors.New("unknown state")
		}
		h := k.holder(id)
		restored := slot{
			h: h, stage: stage(x.Stage), outcome: x.Outcome, since: x.Since, proved: x.Proved,
			due: x.Due, reason: x.Reason, tries: x.Tries,
			pinned: x.Flags&flagPinned != 0, told: x.Flags&flagTold != 0, leave: x.Flags&flagLeave != 0,
		}
		restored.askAgain()
		s.slots = append(s.slots, restored)
		if restored.has() {
			h.holds++
		}
		if restored.stage == ordered {
			h.promise(s.size, k.nowNS())
		}
	}
	return s, nil
}

// askAgain is for an order that was on its way when the keeper ended. Its
// receipt may have come since and not be in the record, so it is given anew: if
// it still waits that changes nothing, and if not the peer answers again. An own
// copy that failed is looked at anew: blocks may have been put back.
func (x *slot) askAgain() {
	switch {
	case x.stage == ordered && !x.pinned:
		x.told = false
	case x.stage == purging:
		x.told, x.tries = false, 0
	case x.h.self && x.broken():
		x.due, x.tries = 0, 0
	}
}

// load reads all records. One that is damaged is left out: the next survey
// finds its segment again.
func (k *Keeper) load(ctx context.Context) error {
	for e, err := range datastore.QueryIter(ctx, k.o.Store, query.Query{Prefix: prefix().String()}) {
		if err != nil {
			return fmt.Errorf("read the state of copies: %w", err)
		}
		var r record
		c, err := cid.Decode(datastore.RawKey(e.Key).BaseNamespace())
		if err == nil {
			err = cbor.Unmarshal(e.Value, &r)
		}
		var s *segment
		if err == nil {
			s, err = k.restore(c, r)
		}
		if err != nil {
			k.log.Error("a record of copies is damaged", "key", e.Key, "err", err)
			continue
		}
		k.segments[c] = s
	}
	return nil
}

// flush makes durable all that changed before the call.
func (k *Keeper) flush(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case k.flushes <- done:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lull is how long changes that nobody waits for may take to be stored.
const lull = time.Second

// save stores what changed, in groups, until ctx ends, and then once more.
func (k *Keeper) save(ctx context.Context) {
	for {
		var waiting []chan error
		select {
		case <-ctx.Done():
		case done := <-k.flushes:
			waiting = append(waiting, done)
		case <-k.unsavedSome:
			waiting = k.gather(ctx)
		}
		waiting = k.others(waiting)
		err := k.commit(context.WithoutCancel(ctx))
		if err != nil {
			k.log.Error("the state of copies could not be stored", "err", err)
		}
		for _, done := range waiting {
			done <- err
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// gather lets changes gather until somebody waits for them.
func (k *Keeper) gather(ctx context.Context) []chan error {
	timer := time.NewTimer(lull)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case done := <-k.flushes:
		return []chan error{done}
	}
	return nil
}

// others adds those who wait by now.
func (k *Keeper) others(waiting []chan error) []chan error {
	for {
		select {
		case done := <-k.flushes:
			waiting = append(waiting, done)
		default:
			return waiting
		}
	}
}

// wakeSaver has changes stored after a lull.
func (k *Keeper) wakeSaver() {
	select {
	case k.unsavedSome <- struct{}{}:
	default:
	}
}

// commit stores all that changed.
func (k *Keeper) commit(ctx context.Context) error {
	k.mu.Lock()
	segments, erased := k.unsaved, k.erased
	k.unsaved, k.erased = nil, nil
	b, err := k.o.Store.Batch(ctx)
	for _, s := range segments {
		s.saving, s.unsaved = false, false
		if err == nil && k.segments[s.root] == s {
			err = k.put(ctx, b, s)
		}
	}
	k.mu.Unlock()
	if len(segments)+len(erased) == 0 {
		return nil
	}
	for _, c := range erased {
		if err == nil {
			err = b.Delete(ctx, keyOf(c))
		}
	}
	if err == nil {
		err = b.Commit(ctx)
	}
	if err == nil {
		err = k.o.Store.Sync(ctx, prefix())
	}
	if err != nil {
		k.unsave(segments, erased)
		return fmt.Errorf("store the state of copies: %w", err)
	}
	return nil
}

func (k *Keeper) put(ctx context.Context, b datastore.Batch, s *segment) error {
	v, err := cbor.Marshal(recordOf(s))
	if err != nil {
		return err
	}
	return b.Put(ctx, keyOf(s.root), v)
}

// unsave notes that changes are not stored after all.
func (k *Keeper) unsave(segments []*segment, erased []cid.Cid) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range segments {
		k.note(s)
	}
	for _, c := range erased {
		if k.segments[c] == nil {
			k.erased = append(k.erased, c)
		}
	}
}

// note has a segment stored.
func (k *Keeper) note(s *segment) {
	s.unsaved = true
	if !s.saving {
		s.saving = true
		k.unsaved = append(k.unsaved, s)
	}
	k.wakeSaver()
}
