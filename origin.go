package musen

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"log/slog"
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
	// Abort forgets an intent and destroys its key.
	Abort(ctx context.Context, segment string) error
	// Pending lists the intents that were neither committed nor aborted.
	Pending(ctx context.Context) ([]string, error)

	Segment(ctx context.Context, mh multihash.Multihash) (Segment, error)
	SegmentByFingerprint(ctx context.Context, station string, fingerprint []byte) (Segment, error)
	// Remove leaves a tombstone of a segment and destroys its key, durably.
	Remove(ctx context.Context, segment string) error
	// Roots are the CIDs of all live segments.
	Roots(ctx context.Context) iter.Seq2[cid.Cid, error]
}

// Blocks is what an Origin does with sealed bytes.
type Blocks interface {
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
	MaxSegment int64            // bytes of audio that one segment may have
	Rand       io.Reader        // source of ids
	Now        func() time.Time // clock
	Log        *slog.Logger
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
// the station had this audio already, and the segment is that one. On an error
// nothing is left but blocks that the next GC collects.
func (o *Origin) Add(ctx context.Context, req AddRequest, audio io.Reader) (s Segment, existing bool, err error) {
	if !req.ExpiresAt.IsZero() && !req.ExpiresAt.After(req.PublishAt) {
		return Segment{}, false, fmt.Errorf("add a segment: %w: it would expire at %s, before it is published", ErrInvalid, req.ExpiresAt.Format(time.RFC3339))
	}
	station, err := o.Records.Station(ctx, req.Station)
	if err != nil {
		return Segment{}, false, fmt.Errorf("add a segment to station %q: %w", req.Station, err)
	}
	s, fingerprint, err := o.add(ctx, station, req, audio)
	if errors.Is(err, ErrExists) {
		s, err = o.Records.SegmentByFingerprint(ctx, station.ID, fingerprint)
		existing = true
		if errors.Is(err, ErrNotFound) {
			err = fmt.Errorf("%w: the same audio was there and has just been removed: add it again", ErrUnavailable)
		}
	}
	if err != nil {
		return Segment{}, false, fmt.Errorf("add a segment to station %q: %w", station.Name, err)
	}
	return s, existing, nil
}

// add does the steps of Add in the order that makes a crash after any of them
// harmless: key, blocks, pin, record.
func (o *Origin) add(ctx context.Context, station Station, req AddRequest, audio io.Reader) (s Segment, fingerprint []byte, err error) {
	s = Segment{
		Station: station.ID, AIGenerated: req.AIGenerated,
		PublishAt: req.PublishAt, ExpiresAt: req.ExpiresAt, Created: o.Now(),
	}
	if s.ID, err = newID(o.Rand); err != nil {
		return s, nil, err
	}
	key, wrapped, err := o.Keys.NewDataKey(station.ID, s.ID)
	if err != nil {
		return s, nil, err
	}
	defer clear(key)
	s.Key = wrapped
	if err := o.Records.Begin(ctx, s); err != nil {
		return s, nil, err
	}
	in := newIntake(ctx, audio, o.MaxSegment, o.Keys.Fingerprint(), station.ID)
	inner, err := o.store(ctx, &s, key, in)
	if err == nil {
		err = in.describe(&s, req)
	}
	if err == nil {
		fingerprint = in.fingerprint()
		unique := fingerprint
		if req.Again {
			unique = nil
		}
		err = o.Records.Commit(ctx, s, unique, inner)
	}
	if err != nil {
		o.undo(ctx, s)
	}
	return s, fingerprint, err
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
// take back now, Recover does at the next start. The pin goes last: a commit
// that happened although it seemed to fail keeps it.
func (o *Origin) undo(ctx context.Context, s Segment) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	err := o.Records.Abort(ctx, s.ID)
	if err == nil && s.CID.Defined() {
		err = o.Blocks.Remove(ctx, s.CID)
	}
	if err != nil {
		o.Log.Warn("forget a segment that was not added", "segment", s.ID, "err", err)
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
		err = errors.Join(ErrGone, o.Blocks.Remove(ctx, s.CID))
	default:
		if err = o.Records.Remove(ctx, s.ID); err == nil {
			err = o.Blocks.Remove(ctx, s.CID)
		}
	}
	if err != nil {
		return fmt.Errorf("remove segment %s: %w", c, err)
	}
	return nil
}

// CreateStation makes a station and its key, durably.
func (o *Origin) CreateStation(ctx context.Context, name, description string, downloads bool) (Station, error) {
	if err := CheckStationName(name); err != nil {
		return Station{}, err
	}
	if _, err := o.Records.Station(ctx, name); err == nil {
		return Station{}, fmt.Errorf("create station %q: %w", name, ErrExists)
	}
	id, err := newID(o.Rand)
	if err != nil {
		return Station{}, err
	}
	s := Station{ID: id, Name: name, Description: description, Downloads: downloads, Epoch: 1, Created: o.Now()}
	if err = o.Keys.AddStation(id); err == nil {
		err = o.Records.CreateStation(ctx, s)
		if errors.Is(err, ErrExists) { // after other errors the station may be there and need its key
			err = errors.Join(err, o.Keys.RemoveStation(id))
		}
	}
	if err != nil {
		return Station{}, fmt.Errorf("create station %q: %w", name, err)
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
// their keys destroyed, pins that no segment owns go, and a segment that lost
// its pin gets it back. Garbage is collected if there may be some and it can.
func (o *Origin) Recover(ctx context.Context) error {
	pending, err := o.Records.Pending(ctx)
	if err != nil {
		return fmt.Errorf("recover: list unfinished adds: %w", err)
	}
	orphans, repinned, err := o.reconcilePins(ctx)
	if err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	if len(pending)+orphans+repinned == 0 {
		return nil
	}
	blocks, freed, err := o.Blocks.GC(ctx)
	if err != nil { // a rotten block must not keep the sound ones from being heard
		o.Log.Error("garbage is left; run verify, then gc", "err", err)
	}
	// Only now: a start that is killed before this knows that there is garbage.
	for _, id := range pending {
		if err := o.Records.Abort(ctx, id); err != nil {
			return fmt.Errorf("recover: forget unfinished segment %s: %w", id, err)
		}
	}
	o.Log.Info("recovered", "unfinished", len(pending), "orphan_pins", orphans, "repinned", repinned, "blocks", blocks, "bytes", freed)
	return nil
}

func (o *Origin) reconcilePins(ctx context.Context) (orphans, repinned int, err error) {
	owned := map[string]cid.Cid{}
	for c, err := range o.Records.Roots(ctx) {
		if err != nil {
			return 0, 0, fmt.Errorf("list segments: %w", err)
		}
		owned[string(c.Hash())] = c
	}
	var lost []cid.Cid
	for c, err := range o.Blocks.Pins(ctx) {
		if err != nil {
			return 0, 0, fmt.Errorf("list pins: %w", err)
		}
		if _, ok := owned[string(c.Hash())]; !ok {
			lost = append(lost, c)
		}
		delete(owned, string(c.Hash()))
	}
	for _, c := range lost {
		if err := o.Blocks.Remove(ctx, c); err != nil {
			return 0, 0, fmt.Errorf("unpin %s: %w", c, err)
		}
	}
	for _, c := range owned {
		if err := o.Blocks.Pin(ctx, c); err != nil {
			return 0, 0, fmt.Errorf("pin %s again: %w", c, err)
		}
	}
	return len(lost), len(owned), nil
}
