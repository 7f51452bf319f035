package musen

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"syscall"

	"github.com/ipfs/go-cid"
	"github.com/maypok86/otter/v2"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen/policy"
	"github.com/musenai/musen/seal"
)

// Directory is what an Edge looks up. Station and Version are called for every
// request and must not touch a disk.
type Directory interface {
	Station(ctx context.Context, nameOrID string) (Station, error)
	Segment(ctx context.Context, mh multihash.Multihash) (Segment, error)
	// Version changes whenever a segment that was committed changes.
	Version() uint64
}

// BlockReader reads sealed bytes of blocks, without checking their hashes: on
// this path the seal is the check.
type BlockReader interface {
	ReadBlockAt(ctx context.Context, c cid.Cid, p []byte, off int64) (int, error)
	// Heal checks the hash of a block, and replaces a rotten copy by a peer's.
	Heal(ctx context.Context, c cid.Cid) error
}

// KeyReleaser gives out a data key against a decision that allows it.
type KeyReleaser interface {
	Release(d policy.Decision, station, segment string, w WrappedKey) ([]byte, error)
}

// Decider answers requests.
type Decider interface {
	Decide(g policy.Grant, a policy.Action, r policy.Resource) policy.Decision
}

// A Denier says which blocks must not be had, whatever the catalogue says of
// them. It is asked for every request and must not touch a disk.
type Denier interface {
	Denied(mh multihash.Multihash) bool
}

// EdgeOptions are the parts of an Edge.
type EdgeOptions struct {
	Directory   Directory
	Blocks      BlockReader
	Keys        KeyReleaser
	Policy      Decider
	Consent     Consent // asked once Policy allows, before a key is released; nil: nobody
	Denied      Denier  // asked once Policy allows, before anybody else; nil: nothing is denied
	MaxSegments int     // segments kept open in memory, about 1 KiB each; 0: 4096
	Log         *slog.Logger
	// Damaged is told what is wrong with the copy that this node has of a
	// segment, by whoever reads it: a block is gone, rotten or does not open. It
	// must be quick, and may be told often. That a block is gone, though peers
	// had it, shows only where Blocks also has ReadLocalAt, which reads what is
	// here and no more. nil: nobody is told.
	Damaged func(root cid.Cid, wrong error)
	// Sound is told that Verify has read all of a segment and found it whole. It
	// must be quick. nil: nobody is told.
	Sound func(root cid.Cid)
}

// localReader is Blocks that can tell what is here.
type localReader interface {
	ReadLocalAt(ctx context.Context, c cid.Cid, p []byte, off int64) (int, error)
}

// damaged tells what is wrong with the own copy of a segment.
func (e *Edge) damaged(root cid.Cid, wrong error) {
	if e.Damaged != nil {
		e.Damaged(root, wrong)
	}
}

// missed tells if a block of a segment is not here: then reading it fetches it.
func (e *Edge) missed(ctx context.Context, root, block cid.Cid) {
	local, ok := e.Blocks.(localReader)
	if !ok || e.Damaged == nil {
		return
	}
	if _, err := local.ReadLocalAt(ctx, block, nil, 0); err != nil {
		e.Damaged(root, err)
	}
}

// An Edge opens sealed segments for those whom policy allows to.
type Edge struct {
	EdgeOptions
	buffers seal.Buffers                       // shared by all streams
	open    *otter.Cache[string, *openSegment] // by multihash
}

// openSegment is a segment that is kept at hand.
type openSegment struct {
	segment Segment
	version uint64 // of the directory when segment was read
	*unlocked
}

// unlocked holds the opener of a segment, which exists once a key was released
// for it, and is handed on only against a decision.
type unlocked struct {
	mu     sync.Mutex
	opener *seal.Opener
}

// NewEdge makes an Edge.
func NewEdge(o EdgeOptions) (*Edge, error) {
	if o.MaxSegments <= 0 {
		o.MaxSegments = 4096
	}
	open, err := otter.New(&otter.Options[string, *openSegment]{MaximumSize: o.MaxSegments})
	if err != nil {
		return nil, fmt.Errorf("make the cache of open segments: %w", err)
	}
	return &Edge{EdgeOptions: o, open: open}, nil
}

// Open answers whether the bearer of g may do a with the segment that c names
// in any of its spellings, and opens it. A grant that does not cover the
// segment gets ErrNotFound, exactly as an unknown CID does; one that does may
// get ErrGone, ErrExpired or ErrTakenDown. No key is released before the
// decision. An ErrNotFound costs one decision and one look-up in the directory,
// whether or not the segment is there: its time does not tell.
func (e *Edge) Open(ctx context.Context, g policy.Grant, a policy.Action, c cid.Cid) (*Stream, error) {
	held, asked, err := e.lookUp(ctx, c.Hash())
	if errors.Is(err, ErrNotFound) {
		e.Policy.Decide(g, a, policy.Resource{Segment: "none"})
	}
	if err != nil {
		return nil, err
	}
	station, err := e.Directory.Station(ctx, held.segment.Station)
	if err != nil {
		return nil, err
	}
	d := e.Policy.Decide(g, a, resource(station, held.segment))
	if err := refusal(d, held.segment); err != nil {
		if errors.Is(err, ErrNotFound) && !asked {
			e.missNeighbour(ctx, c.Hash())
		}
		return nil, err
	}
	if e.denied(held.segment) {
		return nil, ErrTakenDown
	}
	if err := e.consent(ctx, g, a, station, held.segment); err != nil {
		return nil, err
	}
	opener, err := e.opener(ctx, held, d)
	if err != nil {
		return nil, fmt.Errorf("open segment %s: %w", held.segment.CID, errors.Join(ErrUnavailable, err))
	}
	return &Stream{edge: e, held: held, station: station, grant: g, decision: d, opener: opener}, nil
}

// denied reports whether a block that a segment is heard from is denied.
func (e *Edge) denied(s Segment) bool {
	if e.Denied == nil {
		return false
	}
	return e.Denied.Denied(s.CID.Hash()) ||
		slices.ContainsFunc(s.Leaves, func(c cid.Cid) bool { return e.Denied.Denied(c.Hash()) })
}

// missNeighbour takes the time of a look-up of mh that finds nothing.
func (e *Edge) missNeighbour(ctx context.Context, mh multihash.Multihash) {
	neighbour := bytes.Clone(mh)
	neighbour[len(neighbour)-1] ^= 1
	_, _ = e.Directory.Segment(ctx, neighbour)
}

func resource(station Station, s Segment) policy.Resource {
	return policy.Resource{
		Station: station.ID, Name: station.Name, Downloads: station.Downloads, Epoch: station.Epoch,
		Segment: s.ID, PublishAt: s.PublishAt, ExpiresAt: s.ExpiresAt,
	}
}

// refusal turns a decision and a segment's state into an error, or nil.
func refusal(d policy.Decision, s Segment) error {
	switch {
	case !d.Allowed() && d.Reason() == policy.ReasonExpired:
		return ErrExpired
	case !d.Allowed():
		return ErrNotFound
	}
	return stateError(s)
}

// stateError is why nobody may hear a segment, or nil.
func stateError(s Segment) error {
	switch {
	case s.Takedown != "": // also when its key was destroyed
		return TakedownError(s.Takedown)
	case s.State == TakenDown:
		return ErrTakenDown
	case s.State == Removed:
		return ErrGone
	}
	return nil
}

// lookUp finds a segment, in memory unless something changed; asked tells that
// it was not.
func (e *Edge) lookUp(ctx context.Context, mh multihash.Multihash) (found *openSegment, asked bool, err error) {
	version := e.Directory.Version()
	held, ok := e.open.GetIfPresent(string(mh))
	if ok && held.version == version {
		return held, false, nil
	}
	s, err := e.Directory.Segment(ctx, mh)
	if err != nil {
		e.open.Invalidate(string(mh))
		if errors.Is(err, ErrNotFound) {
			err = ErrNotFound // word for word what refusal says
		}
		return nil, true, err
	}
	fresh := &openSegment{segment: s, version: version, unlocked: &unlocked{}}
	if !ok { // all who look it up now share one opener
		held, _ = e.open.SetIfAbsent(string(mh), fresh)
	}
	if stateError(s) == nil {
		fresh.unlocked = held.unlocked
	}
	e.open.Set(string(mh), fresh)
	return fresh, true, nil
}

// opener releases the key of a segment, or the opener made of it before,
// against a decision. It heals the leaf of a rotten header.
func (e *Edge) opener(ctx context.Context, held *openSegment, d policy.Decision) (*seal.Opener, error) {
	s := held.segment
	if !d.ReleasesKey(s.Station, s.ID) {
		return nil, errors.New("the decision releases no key")
	}
	held.mu.Lock()
	defer held.mu.Unlock()
	if held.opener != nil {
		return held.opener, nil
	}
	opener, err := e.newOpener(ctx, s, d)
	if unreadable(err) || errors.Is(err, seal.ErrFormat) {
		e.damaged(s.CID, err)
		if err = e.Blocks.Heal(ctx, s.Leaves[0]); err == nil {
			opener, err = e.newOpener(ctx, s, d)
		}
	}
	if err == nil {
		held.opener = opener
	}
	return opener, err
}

func (e *Edge) newOpener(ctx context.Context, s Segment, d policy.Decision) (*seal.Opener, error) {
	header := make([]byte, seal.HeaderSize)
	e.missed(ctx, s.CID, s.Leaves[0])
	if _, err := e.Blocks.ReadBlockAt(ctx, s.Leaves[0], header, 0); err != nil {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	key, err := e.Keys.Release(d, s.Station, s.ID, s.Key)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return e.buffers.NewOpener(header, s.SealedSize, key, seal.AssociatedData(s.Station, s.ID))
}

// unreadable reports whether a read of a block failed because its copy on the
// disk is cut short or lies where the disk cannot read.
func unreadable(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.EIO)
}

// forgetOpener drops an opener that may be made of a rotten header.
func (u *unlocked) forgetOpener(bad *seal.Opener) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.opener == bad {
		u.opener = nil
	}
}

// forget drops the opener, whatever it is made of.
func (u *unlocked) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.opener = nil
}

// A Stream is a segment that was opened for one request.
type Stream struct {
	edge     *Edge
	held     *openSegment
	station  Station
	grant    policy.Grant
	decision policy.Decision
	opener   *seal.Opener
}

// Recheck decides again what the stream was opened for, by the policies, roles
// and settings of now, as if it had been asked for at the same time: what was
// withdrawn since is ErrNotFound, what is denied since is ErrTakenDown, and what
// only ran out is no error.
func (s *Stream) Recheck(ctx context.Context) error {
	station, err := s.edge.Directory.Station(ctx, s.station.ID)
	if err != nil {
		return err
	}
	r := resource(station, s.held.segment)
	r.At = s.decision.At()
	if err := refusal(s.edge.Policy.Decide(s.grant, s.decision.Action(), r), s.held.segment); err != nil {
		return err
	}
	if s.edge.denied(s.held.segment) {
		return ErrTakenDown
	}
	return s.edge.consent(ctx, s.grant, s.decision.Action(), s.station, s.held.segment)
}

// MaxStreams is how many streams at a time the policies let the subject of the
// grant have; 0: they do not say.
func (s *Stream) MaxStreams() int { return s.decision.Streams() }

// Segment is what the stream plays.
func (s *Stream) Segment() Segment { return s.held.segment }

// Station is the segment's station.
func (s *Stream) Station() Station { return s.station }

// Size is the length of the audio in bytes.
func (s *Stream) Size() int64 { return s.opener.Size() }

// WriteRange writes n bytes of audio from off to w. It writes nothing that the
// seal does not vouch for, ends with an error as soon as the segment is removed
// or taken down, and heals a rotten block if a peer has it.
func (s *Stream) WriteRange(ctx context.Context, w io.Writer, off, n int64) (int64, error) {
	src := &sealedSegment{ctx: ctx, edge: s.edge, root: s.held.segment.CID, leaves: s.held.segment.Leaves, size: s.held.segment.SealedSize}
	guarded := &guardedWriter{w: w, stream: s, ctx: ctx, version: s.held.version}
	written, err := s.opener.Reader(src).WriteRange(guarded, off, n)
	for tried := cid.Undef; err != nil; {
		leaf := src.rotten(err)
		if !leaf.Defined() || leaf.Equals(tried) {
			break
		}
		s.edge.damaged(src.root, err)
		if healErr := s.heal(ctx, leaf); healErr != nil {
			err = errors.Join(err, healErr)
			break
		}
		var more int64
		tried = leaf
		more, err = s.opener.Reader(src).WriteRange(guarded, off+written, n-written)
		written += more
	}
	if err == nil {
		return written, nil
	}
	if !guarded.refused && ctx.Err() == nil {
		err = errors.Join(ErrUnavailable, err) // the source failed, not the listener
	}
	return written, fmt.Errorf("stream segment %s from byte %d: %w", s.held.segment.CID, off+written, err)
}

// heal mends a leaf that did not open. The header that every chunk depends on
// lies in the first leaf, so that one is checked too.
func (s *Stream) heal(ctx context.Context, leaf cid.Cid) error {
	for _, c := range []cid.Cid{leaf, s.held.segment.Leaves[0]} {
		if err := s.edge.Blocks.Heal(ctx, c); err != nil {
			return err
		}
	}
	s.edge.Log.Warn("mended a block that did not open", "cid", leaf.String())
	s.held.forgetOpener(s.opener)
	opener, err := s.edge.opener(ctx, s.held, s.decision)
	if err == nil {
		s.opener = opener
	}
	return err
}

// guardedWriter stops a stream whose segment may not be heard any more.
type guardedWriter struct {
	w       io.Writer
	stream  *Stream
	ctx     context.Context // of the request that the writer serves
	version uint64
	refused bool // a write failed, for whatever reason
}

func (g *guardedWriter) Write(p []byte) (n int, err error) {
	if err = g.allowed(); err == nil {
		n, err = g.w.Write(p)
	}
	g.refused = err != nil
	return n, err
}

func (g *guardedWriter) allowed() error {
	if err := g.ctx.Err(); err != nil {
		return err
	}
	now := g.stream.edge.Directory.Version()
	if now == g.version {
		return nil
	}
	held, _, err := g.stream.edge.lookUp(g.ctx, g.stream.held.segment.CID.Hash())
	if err == nil {
		g.version, err = now, stateError(held.segment)
	}
	return err
}

// sealedSegment reads the sealed bytes of one segment for one request, leaf by
// leaf.
type sealedSegment struct {
	ctx    context.Context // of the request that reads
	edge   *Edge
	root   cid.Cid
	leaves []cid.Cid
	size   int64
	at     int64   // number of the leaf that is read, from 1
	cut    cid.Cid // a leaf that was shorter than it must be, or not readable
}

func (s *sealedSegment) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		if off >= s.size {
			return n, io.EOF
		}
		leaf, at := s.leaf(off/LeafSize), off%LeafSize
		want := int(min(int64(len(p)-n), LeafSize-at, s.size-off))
		got, err := s.edge.Blocks.ReadBlockAt(s.ctx, leaf, p[n:n+want], at)
		n, off = n+got, off+int64(got)
		if got == want {
			continue
		}
		if err == nil {
			err = io.EOF
		}
		if unreadable(err) {
			s.cut = leaf
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return n, fmt.Errorf("read block %s: %w", leaf, err)
	}
	return n, nil
}

// leaf is the n-th leaf, which is to be read.
func (s *sealedSegment) leaf(n int64) cid.Cid {
	if s.at != n+1 {
		s.at = n + 1
		s.edge.missed(s.ctx, s.root, s.leaves[n])
	}
	return s.leaves[n]
}

// rotten names the leaf whose bytes an error says are wrong or cut, if it does.
func (s *sealedSegment) rotten(err error) cid.Cid {
	var bad *seal.ChunkError
	if errors.As(err, &bad) {
		return s.leaves[bad.Offset/LeafSize]
	}
	cut := s.cut
	s.cut = cid.Undef
	return cut
}
