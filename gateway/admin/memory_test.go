package admin

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
)

// memory is a catalogue, a keyring and a block store that forget everything
// when the test ends. The real Origin and Edge run on it.
type memory struct {
	mu        sync.Mutex
	now       func() time.Time
	stations  map[string]musen.Station
	segments  map[string]*kept // by id
	tokens    []musen.Token
	revoked   map[string]time.Time // jti or "subject "+subject
	receipts  map[string]keptReceipt
	subjects  map[string]musen.Subject
	roles     []musen.Assignment
	approvals []musen.Approval
	reviews   []musen.Review
	used      map[string]time.Time
	noted     map[string]bool // ids of credentials whose use was noted

	unused     string // id of a token that is disabled for that
	unfollowed time.Time
	shares     []keptShare
	takedowns  []musen.Takedown
	blocks     map[string][]byte // by multihash
	peers      map[string][]byte // blocks that peers have, by multihash
	pins       map[string]cid.Cid
	stuck      bool   // a GC fails
	full       bool   // the disk
	version    uint64 // of the catalogue
	destroyed  int    // data keys
}

type kept struct {
	musen.Segment
	pending     bool
	fingerprint string
	order       int
}

type keptReceipt struct {
	request, response []byte
	expires           time.Time
}

func newMemory(now func() time.Time) *memory {
	return &memory{
		now: now, stations: map[string]musen.Station{}, segments: map[string]*kept{},
		revoked: map[string]time.Time{}, receipts: map[string]keptReceipt{},
		subjects: map[string]musen.Subject{},
		blocks:   map[string][]byte{}, peers: map[string][]byte{}, pins: map[string]cid.Cid{},
	}
}

var (
	_ Stations           = (*memory)(nil)
	_ Segments           = (*memory)(nil)
	_ Tokens             = (*memory)(nil)
	_ Receipts           = (*memory)(nil)
	_ Node               = (*memory)(nil)
	_ policy.Revocations = (*memory)(nil)
	_ musen.Directory    = (*memory)(nil)
	_ musen.KeyMaker     = (*memory)(nil)
	_ musen.KeyReleaser  = (*memory)(nil)
	_ musen.BlockReader  = (*memory)(nil)
	_ musen.Mender       = (*memory)(nil)
)

// lock locks until the end of the caller.
func (m *memory) lock() func() { m.mu.Lock(); return m.mu.Unlock }

// catalogue and pinner tell apart the two Removes of a memory.
type (
	catalogue struct{ *memory }
	pinner    struct{ *memory }
)

var (
	_ musen.Records = catalogue{}
	_ musen.Blocks  = pinner{}
)

func (m *memory) CreateStation(_ context.Context, s musen.Station) error {
	defer m.lock()()
	m.stations[s.ID] = s
	return nil
}

func (m *memory) Station(_ context.Context, nameOrID string) (musen.Station, error) {
	defer m.lock()()
	for _, s := range m.stations {
		if s.ID == nameOrID || s.Name == nameOrID {
			return s, nil
		}
	}
	return musen.Station{}, musen.ErrNotFound
}

func (m *memory) Stations(context.Context) ([]musen.Station, error) {
	defer m.lock()()
	var all []musen.Station
	for _, s := range m.stations {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b musen.Station) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

func (m *memory) UpdateStation(_ context.Context, s musen.Station) error {
	defer m.lock()()
	for _, other := range m.stations {
		if other.Name == s.Name && other.ID != s.ID {
			return musen.ErrExists
		}
	}
	m.stations[s.ID] = s
	return nil
}

func (c catalogue) RemoveStation(_ context.Context, id string) error {
	defer c.lock()()
	delete(c.stations, id)
	return nil
}

func (m *memory) Begin(_ context.Context, s musen.Segment) error {
	defer m.lock()()
	m.segments[s.ID] = &kept{Segment: s, pending: true, order: len(m.segments)}
	return nil
}

func (m *memory) Commit(_ context.Context, s musen.Segment, fingerprint []byte, _ []cid.Cid) error {
	defer m.lock()()
	for _, other := range m.segments {
		if len(fingerprint) > 0 && other.live() && other.fingerprint == string(fingerprint) {
			return musen.ErrExists
		}
	}
	m.version++
	m.segments[s.ID] = &kept{Segment: s, fingerprint: string(fingerprint), order: m.segments[s.ID].order}
	return nil
}

func (k *kept) live() bool { return !k.pending && k.State == musen.Live }

func (m *memory) Abort(_ context.Context, id string) error {
	defer m.lock()()
	m.destroyed++
	delete(m.segments, id)
	return nil
}

func (m *memory) Pending(context.Context) ([]string, error) {
	defer m.lock()()
	var ids []string
	for id, s := range m.segments {
		if s.pending {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func (m *memory) find(match func(*kept) bool) (musen.Segment, error) {
	defer m.lock()()
	for _, s := range m.segments {
		if !s.pending && match(s) {
			return s.Segment, nil
		}
	}
	return musen.Segment{}, musen.ErrNotFound
}

func (m *memory) Segment(_ context.Context, mh multihash.Multihash) (musen.Segment, error) {
	return m.find(func(s *kept) bool { return bytes.Equal(s.CID.Hash(), mh) })
}

func (m *memory) SegmentByFingerprint(_ context.Context, station string, fp []byte) (musen.Segment, error) {
	return m.find(func(s *kept) bool { return s.live() && s.Station == station && s.fingerprint == string(fp) })
}

func (m *memory) Segments(_ context.Context, station, cursor string, limit int) (page []musen.Segment, next string, err error) {
	defer m.lock()()
	after := -1
	if cursor != "" {
		if after, err = strconv.Atoi(cursor); err != nil {
			return nil, "", musen.ErrInvalid
		}
	}
	var found []*kept
	for _, s := range m.segments {
		if s.live() && s.Station == station && s.order > after {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b *kept) int { return a.order - b.order })
	if len(found) > limit {
		found = found[:limit]
		next = strconv.Itoa(found[limit-1].order)
	}
	for _, s := range found {
		page = append(page, s.Segment)
	}
	return page, next, nil
}

func (m *memory) Count(context.Context) (n int, err error) {
	defer m.lock()()
	for _, s := range m.segments {
		if s.live() {
			n++
		}
	}
	return n, nil
}

func (c catalogue) Replace(ctx context.Context, old string, s musen.Segment, fingerprint []byte, inner []cid.Cid) error {
	return errors.Join(c.Remove(ctx, old), c.Commit(ctx, s, fingerprint, inner))
}

func (c catalogue) Remove(_ context.Context, id string) error {
	defer c.lock()()
	c.version++
	c.destroyed++
	s := c.segments[id]
	s.State, s.Key, s.Leaves = musen.Removed, musen.WrappedKey{}, nil
	return nil
}

func (m *memory) Roots(context.Context) iter.Seq2[cid.Cid, error] {
	return func(yield func(cid.Cid, error) bool) {}
}

func (m *memory) Version() uint64 {
	defer m.lock()()
	return m.version
}

func (m *memory) PutToken(_ context.Context, t musen.Token) error {
	defer m.lock()()
	m.tokens = append(m.tokens, t)
	return nil
}

func (m *memory) Tokens(context.Context) ([]musen.Token, error) {
	defer m.lock()()
	return slices.Clone(m.tokens), nil
}

func (m *memory) RevokeToken(_ context.Context, jti string) error {
	defer m.lock()()
	m.revoked[jti] = m.now()
	for i := range m.tokens {
		if m.tokens[i].ID == jti {
			m.tokens[i].Revoked = m.now()
		}
	}
	return nil
}

func (m *memory) Revoked(id, subject string, issued time.Time) bool {
	defer m.lock()()
	_, token := m.revoked[id]
	at, ok := m.revoked["subject "+subject]
	return token || ok && issued.Unix() <= at.Unix()
}

func (m *memory) Epoch(station string) (uint64, bool) {
	defer m.lock()()
	s, ok := m.stations[station]
	return s.Epoch, ok
}

func (m *memory) Idempotent(_ context.Context, key string, request []byte) (response []byte, found bool, err error) {
	defer m.lock()()
	r, ok := m.receipts[key]
	switch {
	case !ok || !m.now().Before(r.expires):
		return nil, false, nil
	case !bytes.Equal(r.request, request):
		return nil, false, musen.ErrInvalid
	}
	return r.response, true, nil
}

func (m *memory) PutIdempotent(_ context.Context, key string, request, response []byte, expires time.Time) error {
	defer m.lock()()
	m.receipts[key] = keptReceipt{request, response, expires}
	return nil
}

func (m *memory) AddStation(string) error    { return nil }
func (m *memory) RemoveStation(string) error { return nil }

func (m *memory) NewDataKey(_, _ string) ([]byte, musen.WrappedKey, error) {
	key := make([]byte, 32)
	rand.Read(key)
	return key, musen.WrappedKey{Generation: 1, Ciphertext: bytes.Clone(key)}, nil
}

func (m *memory) Fingerprint() hash.Hash { return hmac.New(sha256.New, []byte("fingerprint")) }

func (m *memory) Release(d policy.Decision, station, segment string, w musen.WrappedKey) ([]byte, error) {
	if !d.ReleasesKey(station, segment) {
		return nil, errors.New("no decision, no key")
	}
	return bytes.Clone(w.Ciphertext), nil
}

// Add cuts sealed bytes into leaves; several hang from a made-up root.
func (m *memory) Add(ctx context.Context, sealed io.Reader) (root cid.Cid, leaves, inner []cid.Cid, err error) {
	var names []byte
	blocks := map[string][]byte{}
	for err == nil {
		leaf := make([]byte, musen.LeafSize)
		var n int
		if n, err = io.ReadFull(sealed, leaf); n > 0 {
			c := name(cid.Raw, leaf[:n])
			leaves, names = append(leaves, c), append(names, c.Hash()...)
			blocks[string(c.Hash())] = leaf[:n]
		}
		if m.isFull() {
			return cid.Undef, nil, nil, fmt.Errorf("write block: %w", musen.ErrNoSpace)
		}
	}
	// A short last leaf is the end, as for boxo's chunker, whoever cut it.
	if len(leaves) == 0 || !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return cid.Undef, nil, nil, err
	}
	if root = leaves[0]; len(leaves) > 1 {
		root = name(cid.DagProtobuf, names)
		blocks[string(root.Hash())], inner = names, []cid.Cid{root}
	}
	defer m.lock()()
	for mh, b := range blocks {
		m.blocks[mh] = b
	}
	m.pins[string(root.Hash())] = root
	return root, leaves, inner, nil
}

func name(codec uint64, b []byte) cid.Cid {
	mh, err := multihash.Sum(b, multihash.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	return cid.NewCidV1(codec, mh)
}

func (m *memory) Pin(context.Context, cid.Cid) error { return nil }

func (p pinner) Remove(_ context.Context, root cid.Cid) error {
	defer p.lock()()
	delete(p.pins, string(root.Hash()))
	return nil
}

func (m *memory) Pins(context.Context) iter.Seq2[cid.Cid, error] {
	return func(yield func(cid.Cid, error) bool) {}
}

// GC drops the blocks of no live segment.
func (m *memory) GC(context.Context) (blocks int, freed int64, err error) {
	defer m.lock()()
	if m.stuck {
		return 0, 0, errors.New("not all links could be fetched")
	}
	used := map[string]bool{}
	for _, s := range m.segments {
		if s.live() {
			used[string(s.CID.Hash())] = true
			for _, leaf := range s.Leaves {
				used[string(leaf.Hash())] = true
			}
		}
	}
	for mh, b := range m.blocks {
		if !used[mh] {
			blocks, freed = blocks+1, freed+int64(len(b))
			delete(m.blocks, mh)
		}
	}
	return blocks, freed, nil
}

func (m *memory) ReadBlockAt(_ context.Context, c cid.Cid, p []byte, off int64) (int, error) {
	defer m.lock()()
	b, ok := m.blocks[string(c.Hash())]
	if !ok {
		return 0, musen.ErrNotFound
	}
	return bytes.NewReader(b).ReadAt(p, off)
}

// Heal takes what is asked for from peers, if they have it.
func (m *memory) Heal(_ context.Context, c cid.Cid) error {
	defer m.lock()()
	b, ok := m.peers[string(c.Hash())]
	if !ok {
		return errors.New("nobody has it")
	}
	m.blocks[string(c.Hash())] = bytes.Clone(b)
	return nil
}

func (m *memory) Inner(context.Context, string) ([]cid.Cid, error) { return nil, nil }

func (m *memory) Verify(_ context.Context, c cid.Cid) error {
	defer m.lock()()
	if b, ok := m.blocks[string(c.Hash())]; !ok || !name(c.Type(), b).Equals(c) {
		return errors.New("rotten")
	}
	return nil
}

// rot flips a bit of a block.
func (m *memory) rot(c cid.Cid) {
	defer m.lock()()
	m.blocks[string(c.Hash())][100] ^= 1
}

// left counts what uploads that failed might have left: segments that are not
// live, and pins of no live segment.
func (m *memory) left() (n int) {
	defer m.lock()()
	owned := map[string]bool{}
	for _, s := range m.segments {
		owned[string(s.CID.Hash())] = s.live()
		if s.pending {
			n++
		}
	}
	for mh := range m.pins {
		if !owned[mh] {
			n++
		}
	}
	return n
}

func (m *memory) PeerID() string { return "12D3KooWtest" }

func (m *memory) isFull() bool {
	defer m.lock()()
	return m.full
}

func (m *memory) Addrs() []string { return []string{"/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWtest"} }

func (m *memory) Space(context.Context) (taken, free, limit int64, err error) {
	defer m.lock()()
	for _, b := range m.blocks {
		taken += int64(len(b))
	}
	return taken, 1<<30 - taken, 1 << 30, nil
}

// checker is the Checker of a node: its Edge reads, its block store checks.
type checker struct {
	edge   *musen.Edge
	blocks *memory
}

var _ Checker = checker{}

func (c checker) Verify(ctx context.Context, g policy.Grant, id cid.Cid) (musen.Report, error) {
	return c.edge.Verify(ctx, g, c.blocks, id)
}

func (c checker) Repair(ctx context.Context, g policy.Grant, id cid.Cid) (musen.Report, error) {
	return c.edge.Repair(ctx, g, c.blocks, id)
}
