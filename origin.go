package musen

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen/seal"
)

// Records is what an Origin keeps in the catalogue.
type Records interface {
	CreateStation(ctx context.Context, s Station) error
	Station(ctx context.Context, nameOrID string) (Station, error)
	RemoveStation(ctx context.Context, id string) error

	// Begin makes the intent to add a segment, with its wrapped key, durable.
	Begin(ctx context.Context, s Segment) error
	// Commit makes the segment live, durably. It returns ErrExists when the
	// station has a live segment of that fingerprint.
	Commit(ctx context.Context, s Segment, fingerprint []byte, inner []cid.Cid) error
	// Replace does what Commit does and what Remove does of old, both or
	// neither. It returns ErrNotFound if old is not there any more.
	Replace(ctx context.Context, old string, s Segment, fingerprint []byte, inner []cid.Cid) error
	// Abort forgets an intent and destroys its key.
	Abort(ctx context.Context, segment string) error
	// Pending lists the intents that were neither committed nor aborted.
	Pending(ctx context.Context) ([]string, error)

	Segment(ctx context.Context, mh multihash.Multihash) (Segment, error)
	SegmentByFingerprint(ctx context.Context, station string, fingerprint []byte) (Segment, error)
	// Remove leaves a tombstone of a segment and destroys its key, durably.
	Remove(ctx context.Context, segment string) error
	// Roots are the CIDs of all segments whose blocks are kept here: those that
	// are live, and those that were taken down with their keys kept.
	Roots(ctx context.Context) iter.Seq2[cid.Cid, error]
}

// Blocks is what an Origin does with sealed bytes.
type Blocks interface {
	BlockChecker
	// Add stores sealed bytes as an IPFS file. Its blocks are durable and
	// pinned on return; on an error nothing is pinned.
	Add(ctx context.Context, sealed io.Reader) (root cid.Cid, leaves, inner []cid.Cid, err error)
	Pin(ctx context.Context, root cid.Cid) error
	// Remove unpins root; its blocks go with the next GC.
	Remove(ctx context.Context, root cid.Cid) error
	Pins(ctx context.Context) iter.Seq2[cid.Cid, error]
	GC(ctx context.Context) (blocks int, freed int64, err error)
}

// KeyMaker makes keys and destroys them.
type KeyMaker interface {
	AddStation(station string) error
	RemoveStation(station string) error
	NewDataKey(station, segment string) (key []byte, wrapped WrappedKey, err error)
	// Fingerprint is a fresh keyed hash that recognises audio added before.
	Fingerprint() hash.Hash
}

// An Origin takes audio in: seals it, adds it to IPFS, and records it.
type Origin struct {
	Records    Records
	Blocks     Blocks
	Keys       KeyMaker
	Copies     Copies           // nil: no other peer holds any
	MaxSegment int64            // bytes of audio that one segment may have
	Rand       io.Reader        // source of ids
	Now        func() time.Time // clock
	Log        *slog.Logger

	full int32 // adds that found no space and were not collected after
}

// An AddRequest says what is known of audio besides its bytes. Empty fields
// are filled from the headers of the audio.
type AddRequest struct {
	Station       string // name or id
	Title, Artist string
	Filename      string // gives the title when nothing else does
	AIGenerated   bool
	Again         bool // add even if the station has the same audio
	PublishAt     time.Time
	ExpiresAt     time.Time
}

// Add seals audio and adds it. When it returns without an error the segment is
// durable: key, blocks, pin and record survive a power cut. existing tells that
// the station had this audio already, and the segment is that one; if its
// blocks are damaged it is removed, and the audio added in its place. On an
// error nothing is left but blocks that the next GC collects, which is now if
// there was no space.
func (o *Origin) Add(ctx context.Context, req AddRequest, audio io.Reader) (s Segment, existing bool, err error) {
	if !req.ExpiresAt.IsZero() && !req.ExpiresAt.After(req.PublishAt) {
		return Segment{}, false, fmt.Errorf("add a segment: %w: it would expire at %s, before it is published", ErrInvalid, req.ExpiresAt.Format(time.RFC3339))
	}
	station, err := o.Records.Station(ctx, req.Station)
	if err != nil {
		return Segment{}, false, fmt.Errorf("add a segment to station %q: %w", req.Station, err)
	}
	s, existing, err = o.add(ctx, station, req, audio)
	if errors.Is(err, ErrNoSpace) {
		o.makeRoom(ctx)
	}
	if err != nil {
		return Segment{}, false, fmt.Errorf("add a segment to station %q: %w", station.Name, err)
	}
	return s, existing, nil
}

// add does the steps of Add in the order that makes a crash after any of them
// harmless: key, blocks, pin, record.
func (o *Origin) add(ctx context.Context, station Station, req AddRequest, audio io.Reader) (s Segment, existing bool, err error) {
	s = Segment{
		Station: station.ID, AIGenerated: req.AIGenerated,
		PublishAt: req.PublishAt, ExpiresAt: req.ExpiresAt, Created: o.Now(),
	}
	if s.ID, err = newID(o.Rand); err != nil {
		return s, false, err
	}
	key, wrapped, err := o.Keys.NewDataKey(station.ID, s.ID)
	if err != nil {
		return s, false, err
	}
	defer clear(key)
	s.Key = wrapped
	if err := o.Records.Begin(ctx, s); err != nil {
		return s, false, err
	}
	in := newIntake(ctx, audio, o.MaxSegment, o.Keys.Fingerprint(), station.ID)
	inner, err := o.store(ctx, &s, key, in)
	if err == nil {
		err = in.describe(&s, req)
	}
	made := s
	if err == nil {
		s, err = o.commit(ctx, s, in.fingerprint(), inner, req.Again)
	}
	if err != nil || s.ID != made.ID {
		o.undo(ctx, made)
	} else {
		o.copies().Keep(s, station)
	}
	return s, s.ID != made.ID, err
}

// commit makes s live, or finds the segment of the same audio that is there. If
// that is damaged s takes its place.
func (o *Origin) commit(ctx context.Context, s Segment, fingerprint []byte, inner []cid.Cid, again bool) (Segment, error) {
	if again {
		return s, o.Records.Commit(ctx, s, nil, inner)
	}
	err := o.Records.Commit(ctx, s, fingerprint, inner)
	if !errors.Is(err, ErrExists) {
		return s, err
	}
	there, err := o.Records.SegmentByFingerprint(ctx, s.Station, fingerprint)
	if err == nil {
		damage := o.check(ctx, there)
		if damage == nil || ctx.Err() != nil || there.State != Live {
			return there, ctx.Err()
		}
		o.Log.Warn("replace a damaged segment by the same audio", "damaged", there.CID.String(), "by", s.CID.String(), "err", damage)
		err = o.Records.Replace(ctx, there.ID, s, fingerprint, inner)
	}
	if errors.Is(err, ErrNotFound) {
		return s, fmt.Errorf("%w: the same audio was there and has just been removed: add it again", ErrUnavailable)
	}
	if err == nil {
		o.copies().Drop(there.CID)
		if err := o.Blocks.Remove(ctx, there.CID); err != nil { // its tombstone tells Recover of the pin
			o.Log.Warn("unpin a damaged segment", "cid", there.CID.String(), "err", err)
		}
	}
	return s, err
}

// check reads the blocks of a segment and checks their hashes.
func (o *Origin) check(ctx context.Context, s Segment) error {
	for _, c := range append([]cid.Cid{s.CID}, s.Leaves...) {
		if err := o.Blocks.Verify(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// errStoreDone ends the sealing of audio that nobody stores any more.
var errStoreDone = errors.New("storing ended")

// store streams audio through the seal into blocks and fills in what that
// tells of the segment.
func (o *Origin) store(ctx context.Context, s *Segment, key []byte, in *intake) (inner []cid.Cid, err error) {
	pr, pw := io.Pipe()
	sealed := make(chan error, 1)
	go func() {
		err := sealTo(pw, key, seal.AssociatedData(s.Station, s.ID), in)
		pw.CloseWithError(err) // nil closes with EOF
		sealed <- err
	}()
	s.CID, s.Leaves, inner, err = o.Blocks.Add(ctx, pr)
	pr.CloseWithError(errStoreDone)
	if sealErr := <-sealed; sealErr != nil && !errors.Is(sealErr, errStoreDone) {
		err = sealErr
	}
	s.Size, s.SealedSize = in.size, seal.SealedSize(in.size)
	return inner, err
}

func sealTo(w io.Writer, key, ad []byte, audio io.Reader) error {
	sw, err := seal.NewWriter(w, key, ad)
	if err != nil {
		return err
	}
	buf := make([]byte, 32<<10)
	if _, err := io.CopyBuffer(sw, audio, buf); err != nil {
		return err
	}
	return sw.Close()
}

// undo takes back what add did, also when the caller is gone. What it cannot
// take back now, Recover does at the next start, which knows by the intent that
// there is a pin of nobody: so that goes last. A commit that happened although
// it seemed to fail stays.
func (o *Origin) undo(ctx context.Context, s Segment) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	var err error
	if s.CID.Defined() {
		_, err = o.Records.Segment(ctx, s.CID.Hash())
		switch {
		case err == nil:
			return
		case errors.Is(err, ErrNotFound):
			err = o.Blocks.Remove(ctx, s.CID)
		}
	}
	if err == nil {
		err = o.Records.Abort(ctx, s.ID)
	}
	if err != nil {
		o.Log.Warn("forget a segment that was not added", "segment", s.ID, "err", err)
	}
}

// makeRoom collects what adds left that found no space. While one caller does,
// others do not wait: it collects once more for them.
func (o *Origin) makeRoom(ctx context.Context) {
	if atomic.AddInt32(&o.full, 1) > 1 {
		return
	}
	for served := int32(1); ; {
		blocks, freed, err := o.Blocks.GC(context.WithoutCancel(ctx))
		if err != nil {
			o.Log.Error("no space left, and garbage stays; run verify, then gc", "err", err)
		} else {
			o.Log.Info("no space left: collected garbage", "blocks", blocks, "bytes", freed)
		}
		if atomic.CompareAndSwapInt32(&o.full, served, 0) {
			return
		}
		served = atomic.LoadInt32(&o.full)
	}
}

// Remove forgets a segment: destroys its key, then unpins it. It does not
// recall copies that a listener saved, nor ciphertext that others hold, which
// nobody can open any more. It returns ErrGone for a segment that was removed
// before, whose pin it takes if that was left.
func (o *Origin) Remove(ctx context.Context, c cid.Cid) error {
	s, err := o.Records.Segment(ctx, c.Hash())
	switch {
	case err != nil:
	case s.State == Removed:
		o.copies().Drop(s.CID)
		err = errors.Join(ErrGone, o.Blocks.Remove(ctx, s.CID))
	default:
		if err = o.Records.Remove(ctx, s.ID); err == nil {
			o.copies().Drop(s.CID)
			err = o.Blocks.Remove(ctx, s.CID)
		}
	}
	if err != nil {
		return fmt.Errorf("remove segment %s: %w", c, err)
	}
	return nil
}

// CreateStation makes a station, with the name, description, downloads and
// replication of s, and its key, durably. The zero Replication stands for
// NoReplication.
func (o *Origin) CreateStation(ctx context.Context, s Station) (Station, error) {
	if s.Replication == (Replication{}) {
		s.Replication = NoReplication()
	}
	if err := CheckStationName(s.Name); err != nil {
		return Station{}, err
	}
	if err := s.Replication.Check(); err != nil {
		return Station{}, fmt.Errorf("create station %q: %w", s.Name, err)
	}
	if _, err := o.Records.Station(ctx, s.Name); err == nil {
		return Station{}, fmt.Errorf("create station %q: %w", s.Name, ErrExists)
	}
	s.Epoch, s.Created = 1, o.Now()
	var err error
	if s.ID, err = newID(o.Rand); err == nil {
		s.Label, err = newLabel(o.Rand)
	}
	if err != nil {
		return Station{}, err
	}
	if err = o.Keys.AddStation(s.ID); err == nil {
		err = o.Records.CreateStation(ctx, s)
		if errors.Is(err, ErrExists) { // after other errors the station may be there and need its key
			err = errors.Join(err, o.Keys.RemoveStation(s.ID))
		}
	}
	if err != nil {
		return Station{}, fmt.Errorf("create station %q: %w", s.Name, err)
	}
	return s, nil
}

// RemoveStation removes a station that has no live segments, and destroys its
// keys. It returns ErrNotFound for a station that was removed before, whose
// keys it destroys if they were left.
func (o *Origin) RemoveStation(ctx context.Context, id string) error {
	err := o.Records.RemoveStation(ctx, id)
	if err == nil || errors.Is(err, ErrNotFound) {
		err = errors.Join(err, o.Keys.RemoveStation(id))
	}
	if err != nil {
		return fmt.Errorf("remove station %q: %w", id, err)
	}
	return nil
}

// Recover makes catalogue and pins agree after a stop of any kind. It must run
// before the first Add: intents that never were acknowledged are forgotten and
// their keys destroyed, and a segment that lost its pin gets it back. Pins that
// no segment owns go if the catalogue explains them: by a tombstone, or as those
// of unfinished adds, of which each leaves one at most. If there are more, the
// catalogue may be older than the audio: then all of these stay. Garbage is
// collected if there may be some and it can.
func (o *Origin) Recover(ctx context.Context) error {
	pending, err := o.Records.Pending(ctx)
	if err != nil {
		return fmt.Errorf("recover: list unfinished adds: %w", err)
	}
	found, err := o.comparePins(ctx)
	if err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	unknown := len(found.unknown)
	if unknown <= len(pending) {
		found.dead, unknown = append(found.dead, found.unknown...), 0
	} else {
		o.Log.Error("stored audio is not in the catalogue, which may be an older copy: it was left alone; stop the node and put the newest catalogue back", "segments", unknown)
	}
	if err := o.mendPins(ctx, found); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	var blocks int
	var freed int64
	if unknown == 0 && len(pending)+len(found.dead) > 0 {
		if blocks, freed, err = o.Blocks.GC(ctx); err != nil { // a rotten block must not keep the sound ones from being heard
			o.Log.Error("garbage is left; run verify, then gc", "err", err)
		}
	}
	// Only now: a start that is killed before this knows that there is garbage.
	for _, id := range pending {
		if err := o.Records.Abort(ctx, id); err != nil {
			return fmt.Errorf("recover: forget unfinished segment %s: %w", id, err)
		}
	}
	if len(pending)+len(found.dead)+len(found.missing) > 0 {
		o.Log.Info("recovered", "unfinished", len(pending), "orphan_pins", len(found.dead), "repinned", len(found.missing), "blocks", blocks, "bytes", freed)
	}
	return nil
}

// disagreement is where pins are not those of the live segments.
type disagreement struct {
	dead    []cid.Cid // pinned, of segments that were removed
	unknown []cid.Cid // pinned, and never heard of
	missing []cid.Cid // to be kept, and not pinned
}

func (o *Origin) comparePins(ctx context.Context) (d disagreement, err error) {
	owned := map[string]cid.Cid{}
	for c, err := range o.Records.Roots(ctx) {
		if err != nil {
			return d, fmt.Errorf("list segments: %w", err)
		}
		owned[string(c.Hash())] = c
	}
	for c, err := range o.Blocks.Pins(ctx) {
		if err != nil {
			return d, fmt.Errorf("list pins: %w", err)
		}
		if _, ok := owned[string(c.Hash())]; ok {
			delete(owned, string(c.Hash()))
			continue
		}
		switch s, err := o.Records.Segment(ctx, c.Hash()); {
		case errors.Is(err, ErrNotFound):
			d.unknown = append(d.unknown, c)
		case err != nil:
			return d, err
		case s.State == Removed:
			d.dead = append(d.dead, c)
		}
	}
	for _, c := range owned {
		d.missing = append(d.missing, c)
	}
	return d, nil
}

func (o *Origin) mendPins(ctx context.Context, d disagreement) error {
	for _, c := range d.dead {
		if err := o.Blocks.Remove(ctx, c); err != nil {
			return fmt.Errorf("unpin %s: %w", c, err)
		}
	}
	for _, c := range d.missing {
		if err := o.Blocks.Pin(ctx, c); err != nil {
			return fmt.Errorf("pin %s again: %w", c, err)
		}
	}
	return nil
}
