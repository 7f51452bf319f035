package audit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
)

const leafSize = 256 << 10

// leafBytes are the first bytes of the i-th leaf of every segment here, as
// PROTOCOL.md has them.
func leafBytes(i int, size int64) []byte {
	out := make([]byte, 0, size+32)
	for k := uint64(0); int64(len(out)) < size; k++ {
		b := binary.BigEndian.AppendUint64([]byte("leaf"), uint64(i))
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(b, k))
		out = append(out, sum[:]...)
	}
	return out[:size]
}

func cidOf(t testing.TB, data []byte) cid.Cid {
	t.Helper()
	mh, err := multihash.Sum(data, multihash.SHA2_256, -1)
	if err != nil {
		t.Fatal(err)
	}
	return cid.NewCidV1(cid.Raw, mh)
}

// shelf is blocks in memory.
type shelf struct {
	mu     sync.Mutex
	roots  map[cid.Cid][]Leaf
	blocks map[cid.Cid][]byte
	lists  atomic.Int64 // how often leaves were listed
	reads  atomic.Int64 // bytes
}

var _ Source = (*shelf)(nil)

var errAbsent = errors.New("no such block here")

func newShelf() *shelf {
	return &shelf{roots: map[cid.Cid][]Leaf{}, blocks: map[cid.Cid][]byte{}}
}

// add puts a segment of some size there, made of leaves that no other has.
func (s *shelf) add(t testing.TB, name string, size int64) cid.Cid {
	t.Helper()
	root := cidOf(t, []byte("root "+name))
	var leaves []Leaf
	for i := 0; size > 0 || i == 0; i++ {
		data := leafBytes(i, min(size, leafSize))
		copy(data, name)
		c := cidOf(t, data)
		s.blocks[c] = data
		leaves = append(leaves, Leaf{c, int64(len(data))})
		size -= int64(len(data))
	}
	s.roots[root] = leaves
	return root
}

// clone is a shelf with the same blocks.
func (s *shelf) clone() *shelf {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := newShelf()
	for root, leaves := range s.roots {
		out.roots[root] = append([]Leaf(nil), leaves...)
	}
	for c, data := range s.blocks {
		out.blocks[c] = append([]byte(nil), data...)
	}
	return out
}

// remove deletes a segment.
func (s *shelf) remove(root cid.Cid) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.roots[root] {
		delete(s.blocks, l.CID)
	}
	delete(s.roots, root)
}

// forge gives a leaf of root other bytes, and the name that belongs to them: what
// a liar does who knows that its own program would notice.
func (s *shelf) forge(t testing.TB, root cid.Cid, leaf int, change func([]byte) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.roots[root][leaf]
	data := change(append([]byte(nil), s.blocks[l.CID]...))
	c := cidOf(t, data)
	s.blocks[c] = data
	s.roots[root][leaf] = Leaf{c, int64(len(data))}
}

// rot changes a byte of a leaf of root on the disk.
func (s *shelf) rot(root cid.Cid, leaf int, at int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocks[s.roots[root][leaf].CID][at] ^= 1
}

func (s *shelf) Leaves(_ context.Context, root cid.Cid) ([]Leaf, error) {
	s.lists.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	leaves, ok := s.roots[root]
	if !ok {
		return nil, errAbsent
	}
	return leaves, nil
}

func (s *shelf) ReadBlockAt(ctx context.Context, c cid.Cid, p []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.blocks[c]
	if !ok {
		return 0, errAbsent
	}
	if off >= int64(len(data)) {
		return 0, io.EOF
	}
	n := copy(p, data[off:])
	s.reads.Add(int64(n))
	if n < len(p) {
		return n, io.EOF
	}
	return n, ctx.Err()
}

func newHost(t testing.TB) host.Host {
	t.Helper()
	return newHostAt(t, "/ip4/127.0.0.1/tcp/0")
}

func newHostAt(t testing.TB, addr string) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings(addr), libp2p.DisableRelay())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func connect(t testing.TB, a, b host.Host) {
	t.Helper()
	if err := a.Connect(t.Context(), peer.AddrInfo{ID: b.ID(), Addrs: b.Addrs()}); err != nil {
		t.Fatal(err)
	}
}

func newStore() datastore.Batching { return dssync.MutexWrap(datastore.NewMapDatastore()) }

// pair is an auditor and the host of a peer, connected.
type pair struct {
	*Auditor
	origin, peer host.Host
	shelf        *shelf // of the auditor
}

// newPair connects an auditor, which has what is on own, to a peer. The
// deadline is long: tests of lateness bend it.
func newPair(t testing.TB, own *shelf) pair {
	t.Helper()
	return pairOf(t, own, newHost(t), newHost(t))
}

func pairOf(t testing.TB, own *shelf, origin, other host.Host) pair {
	t.Helper()
	p := pair{origin: origin, peer: other, shelf: own}
	connect(t, p.peer, p.origin)
	o := AuditorOptions{Host: p.origin, Store: newStore(), Deadline: time.Minute}
	if own != nil {
		o.Source = own
	}
	p.Auditor = NewAuditor(o)
	return p
}

// serve lets the peer answer with what is on a shelf.
func (p pair) serve(t testing.TB, src Source) *Prover {
	t.Helper()
	pr := Serve(p.peer, ProverOptions{Source: src, Allow: func(id peer.ID) bool { return id == p.origin.ID() }})
	t.Cleanup(func() { pr.Close() })
	return pr
}

// outcomes audits the peer and names what came of it.
func (p pair) outcomes(t testing.TB, roots ...cid.Cid) []Outcome {
	t.Helper()
	rs, err := p.Audit(t.Context(), p.peer.ID(), roots)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]Outcome, len(rs))
	for i, r := range rs {
		if out[i] = r.Outcome; r.Root != roots[i] {
			t.Errorf("result %d is about %s, want %s", i, r.Root, roots[i])
		}
		if (r.Outcome == Proved) != (r.Err == nil) {
			t.Errorf("%s: outcome %q with error %v", r.Root, r.Outcome, r.Err)
		}
	}
	return out
}

// several makes segments of a size.
func (s *shelf) several(t testing.TB, n int, size int64) []cid.Cid {
	roots := make([]cid.Cid, n)
	for i := range roots {
		roots[i] = s.add(t, fmt.Sprint("segment ", i, " of ", size), size)
	}
	return roots
}
