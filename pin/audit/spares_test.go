package audit

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	leveldb "github.com/ipfs/go-ds-leveldb"
	"github.com/libp2p/go-libp2p/core/network"

	"github.com/musenai/musen/pin/wire"
)

func (p pair) left(t *testing.T, root cid.Cid) int {
	t.Helper()
	n, err := p.Spares(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestSparesWithoutACopy(t *testing.T) {
	own := newShelf()
	root, never := own.add(t, "song", 5*leafSize), own.add(t, "never computed", 10)
	p := newPair(t, own)
	p.serve(t, own.clone())
	if err := p.Precompute(t.Context(), root, 3); err != nil || p.left(t, root) != 3 {
		t.Fatal(err, p.left(t, root))
	}
	own.remove(root)
	own.remove(never)
	for i := range 3 {
		if got := p.outcomes(t, root); got[0] != Proved || p.left(t, root) != 2-i {
			t.Errorf("audit %d: %v, %d spares left", i, got, p.left(t, root))
		}
	}
	for _, r := range []cid.Cid{root, never} {
		rs, err := p.Audit(t.Context(), p.peer.ID(), []cid.Cid{r})
		if err != nil || rs[0].Outcome != "" || !errors.Is(rs[0].Err, ErrNoSpare) {
			t.Errorf("without a spare: %+v, %v", rs, err)
		}
	}
}

// One batch may ask about a root twice, and about some that it cannot.
func TestSparesInOneBatch(t *testing.T) {
	own := newShelf()
	a, b, c := own.add(t, "a", 9000), own.add(t, "b", 9000), own.add(t, "c", 9000)
	p := newPair(t, own)
	p.serve(t, own.clone())
	if err := p.Precompute(t.Context(), a, 2); err != nil {
		t.Fatal(err)
	}
	own.remove(a)
	own.remove(b)
	if got := p.outcomes(t, a, b, c, a, a); !slices.Equal(got, []Outcome{Proved, "", Proved, Proved, ""}) {
		t.Error(got)
	}
}

// A nonce that a peer has seen is never used again, also after a crash in the
// middle of an audit; and what a peer sees is not what it saw before.
func TestNoNonceTwice(t *testing.T) {
	own := newShelf()
	root := own.add(t, "song", 9000)
	p := newPair(t, own)
	store, err := leveldb.NewDatastore(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	open := func() {
		p.Auditor = NewAuditor(AuditorOptions{Host: p.origin, Source: own, Store: store})
	}
	open()
	seen := map[[16]byte]int{}
	p.liar(t, func(s network.Stream, chs []Challenge) {
		for _, ch := range chs {
			seen[ch.Nonce]++
		}
		s.Reset() // the audit fails, and the auditor is started anew
	})
	if err := p.Precompute(t.Context(), root, 10); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		p.outcomes(t, root, root) // from its copy
	}
	own.remove(root)
	for range 5 {
		p.outcomes(t, root, root)
		open()
	}
	if len(seen) != 16 || p.left(t, root) != 0 {
		t.Errorf("%d nonces seen, %d spares left", len(seen), p.left(t, root))
	}
	for nonce, n := range seen {
		if n != 1 {
			t.Errorf("nonce %x was used %d times", nonce, n)
		}
	}
}

// Spares fill up whenever the copy is read anyway, and an offline peer costs none.
func TestSparesFillUp(t *testing.T) {
	own := newShelf()
	root := own.add(t, "song", 9000)
	p := newPair(t, own)
	p.o.Spares = 4
	pr := p.serve(t, own.clone())
	p.outcomes(t, root)
	if n := p.left(t, root); n != 4 {
		t.Errorf("%d spares after an audit from the copy", n)
	}
	kept := own.clone()
	own.remove(root)
	p.outcomes(t, root)
	if n := p.left(t, root); n != 3 {
		t.Errorf("%d spares after an audit without a copy", n)
	}
	own.roots, own.blocks = kept.roots, kept.blocks
	p.outcomes(t, root)
	if n := p.left(t, root); n != 4 {
		t.Errorf("%d spares after the copy came back", n)
	}
	own.remove(root)
	pr.Close()
	if err := p.origin.Network().ClosePeer(p.peer.ID()); err != nil {
		t.Fatal(err)
	}
	if got := p.outcomes(t, root); got[0] != Offline || p.left(t, root) != 4 {
		t.Errorf("%v, %d spares left", got, p.left(t, root))
	}
	if err := p.Forget(t.Context(), root); err != nil || p.left(t, root) != 0 {
		t.Errorf("forgotten, and %d are left, %v", p.left(t, root), err)
	}
}

// Spares found a wrong answer wrong: they were made of checked bytes.
func TestSparesFindLiars(t *testing.T) {
	own := newShelf()
	root := own.add(t, "song", 9000)
	p, theirs := newPair(t, own), own.clone()
	theirs.forge(t, root, 0, func(b []byte) []byte { return b[1:] })
	p.serve(t, theirs)
	if err := p.Precompute(t.Context(), root, 1); err != nil {
		t.Fatal(err)
	}
	own.remove(root)
	if got := p.outcomes(t, root); got[0] != Wrong {
		t.Error(got)
	}
}

// A rotten copy at the origin convicts nobody, and makes no spares.
func TestOwnRotIsNotHeldAgainstPeers(t *testing.T) {
	own := newShelf()
	root, fine := own.add(t, "song", 9000), own.add(t, "fine", 9000)
	own.add(t, "unused", 2*leafSize)
	p := newPair(t, own)
	p.o.Spares = 2
	p.serve(t, own.clone())
	// Where it is read whole, the auditor sees at once that its copy is no use.
	own.rot(root, 0, 100)
	rs, err := p.Audit(t.Context(), p.peer.ID(), []cid.Cid{root, fine})
	if err != nil || rs[0].Outcome != "" || !errors.Is(rs[0].Err, ErrNoSpare) || rs[1].Outcome != Proved {
		t.Errorf("%+v, %v", rs, err)
	}
	if n := p.left(t, root); n != 0 {
		t.Errorf("%d spares of a rotten copy", n)
	}
	if err := p.Precompute(t.Context(), root, 2); err == nil {
		t.Error("spares of a rotten copy")
	}
}

// Where the rot lies in a window, the answers differ, and it is the auditor who
// looks again.
func TestOwnRotInAWindow(t *testing.T) {
	own := newShelf()
	root := own.add(t, "song", 4*leafSize)
	p, theirs := newPair(t, own), own.clone()
	p.o.Rand = zeros{}
	p.serve(t, theirs)
	parts := sample([16]byte{}, own.roots[root])
	window := parts[slices.IndexFunc(parts, func(p part) bool { return !p.whole })]
	own.rot(root, window.leaf, int(window.off)+5)
	rs, err := p.Audit(t.Context(), p.peer.ID(), []cid.Cid{root})
	if err != nil || rs[0].Outcome != "" || rs[0].Err == nil {
		t.Errorf("%+v, %v", rs, err)
	}
}

func TestSparesAreBounded(t *testing.T) {
	own := newShelf()
	root := own.add(t, "song", 1)
	p := newPair(t, own)
	if err := p.Precompute(t.Context(), root, 1<<30); err != nil || p.left(t, root) != MaxSpares {
		t.Error(err, p.left(t, root))
	}
	none := NewAuditor(AuditorOptions{Host: p.origin, Store: newStore()})
	if err := none.Precompute(t.Context(), root, 1); err == nil {
		t.Error("spares without a copy")
	}
}

func TestBrokenSpares(t *testing.T) {
	own := newShelf()
	root := own.add(t, "song", 10)
	p := newPair(t, own)
	p.serve(t, own.clone())
	own.remove(root)
	if err := p.o.Store.Put(t.Context(), spareKey(root), make([]byte, spareSize-1)); err != nil {
		t.Fatal(err)
	}
	if rs, err := p.Audit(t.Context(), p.peer.ID(), []cid.Cid{root}); err == nil {
		t.Errorf("%+v", rs)
	}
}

// The store is shared: nothing outside /audit is written.
func TestKeysInTheStore(t *testing.T) {
	root := cidOf(t, []byte("x"))
	for _, k := range []datastore.Key{spareKey(root), standingKey("peer")} {
		if !datastore.NewKey("/audit").IsAncestorOf(k) {
			t.Error(k)
		}
	}
	// Two spellings of one multihash share their spares.
	if spareKey(root) != spareKey(cid.NewCidV1(cid.DagProtobuf, root.Hash())) {
		t.Error("a multihash has two keys")
	}
}

func FuzzRequest(f *testing.F) {
	root := cidOf(f, []byte("x"))
	f.Add([]byte{0, 0, 0, 1, 0xf6})
	var b bytes.Buffer
	if err := writeRequest(&b, []Challenge{{Root: root}, {Root: root, Nonce: [16]byte{9}}}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		chs, err := readRequest(r)
		if err != nil {
			return
		}
		if len(chs) == 0 || len(chs) > MaxBatch {
			t.Fatalf("%d challenges", len(chs))
		}
		// What is taken says the same when it is sent on.
		var again bytes.Buffer
		if err := writeRequest(&again, chs); err != nil {
			t.Fatal(err)
		}
		if got, err := readRequest(&again); err != nil || !slices.Equal(got, chs) {
			t.Fatalf("%v became %v, %v", chs, got, err)
		}
	})
}

func FuzzReply(f *testing.F) {
	for _, r := range []reply{{Index: 3, Answer: make([]byte, 32)}, {Index: 3, Missing: true}} {
		var b bytes.Buffer
		if err := wire.Write(&b, r); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		a, err := readReply(r, 3)
		if err == nil && (a.Index != 3 || a.Missing != (len(a.Answer) == 0) || len(a.Answer) != 0 && len(a.Answer) != 32) {
			t.Fatalf("took %+v", a)
		}
	})
}
