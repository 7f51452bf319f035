package audit

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/goleak"

	"github.com/musenai/musen/pin/wire"
)

func TestMain(m *testing.M) {
	// LevelDB's goes by itself, a little after its database was closed.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"))
}

func same(o Outcome, n int) []Outcome {
	out := make([]Outcome, n)
	for i := range out {
		out[i] = o
	}
	return out
}

func TestHonestPeerProves(t *testing.T) {
	own := newShelf()
	roots := []cid.Cid{own.add(t, "", 0), own.add(t, "b", 1), own.add(t, "cc", leafSize), own.add(t, "d", 5_000_000)}
	roots = append(roots, own.several(t, 60, 3000)...)
	p := newPair(t, own)
	p.serve(t, own.clone())
	if got := p.outcomes(t, roots...); !slices.Equal(got, same(Proved, 64)) {
		t.Error(got)
	}
	if got := p.outcomes(t); len(got) != 0 {
		t.Errorf("nothing asked, and %v came of it", got)
	}
	if _, err := p.Audit(t.Context(), p.peer.ID(), append(roots, roots[0])); err == nil {
		t.Error("65 challenges in one batch")
	}
}

// Liars that answer in time, with something that they have.
func TestLiarsAreFound(t *testing.T) {
	const name, size = "song", 3*leafSize + 1000
	for _, c := range []struct {
		name string
		lie  func(t *testing.T, s *shelf, root, other cid.Cid)
		want Outcome
	}{
		{"claims and stores nothing", func(t *testing.T, s *shelf, root, _ cid.Cid) { s.remove(root) }, Missing},
		{"keeps the list of leaves alone", func(t *testing.T, s *shelf, _, _ cid.Cid) { clear(s.blocks) }, Missing},
		{"truncates the last leaf", func(t *testing.T, s *shelf, root, _ cid.Cid) {
			s.forge(t, root, 3, func(b []byte) []byte { return b[:len(b)-1] })
		}, Wrong},
		{"drops the last leaf", func(t *testing.T, s *shelf, root, _ cid.Cid) {
			s.roots[root] = s.roots[root][:3]
		}, Wrong},
		{"adds a leaf", func(t *testing.T, s *shelf, root, _ cid.Cid) {
			s.roots[root] = append(s.roots[root], s.roots[root][0])
		}, Wrong},
		{"mixes up leaves", func(t *testing.T, s *shelf, root, _ cid.Cid) {
			l := s.roots[root]
			l[0], l[1] = l[1], l[0]
		}, Wrong},
		{"answers for another root", func(t *testing.T, s *shelf, root, other cid.Cid) {
			s.roots[root] = s.roots[other]
		}, Wrong},
		{"has other bytes", func(t *testing.T, s *shelf, root, _ cid.Cid) {
			for i := range s.roots[root] {
				s.forge(t, root, i, func(b []byte) []byte { rand.Read(b); return b })
			}
		}, Wrong},
		{"lets it rot, and notices", func(t *testing.T, s *shelf, root, _ cid.Cid) {
			for i := range s.roots[root] {
				s.rot(root, i, 7)
			}
		}, Missing},
	} {
		t.Run(c.name, func(t *testing.T) {
			own := newShelf()
			root, other := own.add(t, name, size), own.add(t, "another", size)
			p, theirs := newPair(t, own), own.clone()
			c.lie(t, theirs, root, other)
			p.serve(t, theirs)
			if got := p.outcomes(t, root, other); got[0] != c.want || c.want == Wrong && got[1] != Proved {
				t.Errorf("got %v, want %v first", got, c.want)
			}
		})
	}
}

func TestDeletesLater(t *testing.T) {
	own := newShelf()
	root := own.add(t, "song", 3*leafSize)
	p, theirs := newPair(t, own), own.clone()
	p.serve(t, theirs)
	if got := p.outcomes(t, root); got[0] != Proved {
		t.Fatal(got)
	}
	theirs.remove(root)
	if got := p.outcomes(t, root); got[0] != Missing {
		t.Error(got)
	}
}

// zeros gives no surprise: nonces are known.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// One bit is enough where a leaf is hashed whole.
func TestOneBitOfTheWholeLeaf(t *testing.T) {
	own := newShelf()
	root := own.add(t, "song", 8*leafSize)
	p, theirs := newPair(t, own), own.clone()
	p.o.Rand = zeros{}
	parts := sample([16]byte{}, own.roots[root])
	whole := parts[slices.IndexFunc(parts, func(p part) bool { return p.whole })]
	theirs.forge(t, root, whole.leaf, func(b []byte) []byte { b[len(b)/2] ^= 4; return b })
	p.serve(t, theirs)
	if got := p.outcomes(t, root); got[0] != Wrong {
		t.Error(got)
	}
}

// liar answers by hand: say gets the challenges and may do what it likes.
func (p pair) liar(t *testing.T, say func(s network.Stream, chs []Challenge)) {
	t.Helper()
	p.peer.SetStreamHandler(Protocol, func(s network.Stream) {
		defer s.Close()
		chs, err := readRequest(s)
		if err != nil {
			t.Error(err)
			return
		}
		say(s, chs)
	})
}

func right(s *shelf, i int, ch Challenge) reply {
	a, err := Answer(context.Background(), ch, s)
	if err != nil {
		return reply{Index: uint64(i), Missing: true}
	}
	return reply{Index: uint64(i), Answer: a[:]}
}

func TestReplaysAnOldAnswer(t *testing.T) {
	own := newShelf()
	root := own.add(t, "song", 1000)
	p := newPair(t, own)
	var old *reply
	p.liar(t, func(s network.Stream, chs []Challenge) {
		if old == nil {
			r := right(own, 0, chs[0])
			old = &r
		}
		wire.Write(s, *old)
	})
	if first, second := p.outcomes(t, root), p.outcomes(t, root); first[0] != Proved || second[0] != Wrong {
		t.Errorf("first %v, then %v", first, second)
	}
}

func TestGarbage(t *testing.T) {
	junk := bytes.Repeat([]byte{0xff}, 1<<20)
	for _, c := range []struct {
		name string
		say  func(own *shelf, s network.Stream, chs []Challenge)
		want []Outcome
	}{
		{"no frame", func(_ *shelf, s network.Stream, _ []Challenge) { s.Write(junk) }, []Outcome{Wrong, Late, Late}},
		{"an endless frame", func(_ *shelf, s network.Stream, _ []Challenge) {
			s.Write(binary.BigEndian.AppendUint32(nil, 1<<31))
			for _, err := s.Write(junk); err == nil; _, err = s.Write(junk) {
			}
		}, []Outcome{Wrong, Late, Late}},
		{"not CBOR", func(_ *shelf, s network.Stream, _ []Challenge) {
			s.Write(append(binary.BigEndian.AppendUint32(nil, 40), junk[:40]...))
		}, []Outcome{Wrong, Late, Late}},
		{"half a frame", func(_ *shelf, s network.Stream, _ []Challenge) {
			s.Write(append(binary.BigEndian.AppendUint32(nil, 40), junk[:20]...))
		}, []Outcome{Late, Late, Late}},
		{"a short answer", func(_ *shelf, s network.Stream, _ []Challenge) {
			wire.Write(s, reply{Answer: junk[:31]})
		}, []Outcome{Wrong, Late, Late}},
		{"neither", func(_ *shelf, s network.Stream, _ []Challenge) { wire.Write(s, reply{}) }, []Outcome{Wrong, Late, Late}},
		{"both", func(_ *shelf, s network.Stream, _ []Challenge) {
			wire.Write(s, reply{Answer: junk[:32], Missing: true})
		}, []Outcome{Wrong, Late, Late}},
		{"out of order", func(own *shelf, s network.Stream, chs []Challenge) {
			wire.Write(s, right(own, 0, chs[0]))
			wire.Write(s, right(own, 2, chs[2]))
		}, []Outcome{Proved, Wrong, Late}},
		{"twice the same", func(own *shelf, s network.Stream, chs []Challenge) {
			wire.Write(s, right(own, 0, chs[0]))
			wire.Write(s, right(own, 0, chs[0]))
		}, []Outcome{Proved, Wrong, Late}},
		{"too few", func(own *shelf, s network.Stream, chs []Challenge) {
			wire.Write(s, right(own, 0, chs[0]))
		}, []Outcome{Proved, Late, Late}},
		{"too many", func(own *shelf, s network.Stream, chs []Challenge) {
			var err error
			for i := 0; err == nil; i++ {
				err = wire.Write(s, right(own, i, chs[i%3]))
			}
		}, []Outcome{Proved, Proved, Proved}},
		{"hangs up", func(_ *shelf, s network.Stream, _ []Challenge) { s.Reset() }, []Outcome{Late, Late, Late}},
		{"only zeros", func(_ *shelf, s network.Stream, chs []Challenge) {
			for i := range chs {
				wire.Write(s, reply{Index: uint64(i), Answer: make([]byte, 32)})
			}
		}, []Outcome{Wrong, Wrong, Wrong}},
	} {
		t.Run(c.name, func(t *testing.T) {
			own := newShelf()
			roots := own.several(t, 3, 5000)
			p := newPair(t, own)
			p.liar(t, func(s network.Stream, chs []Challenge) { c.say(own, s, chs) })
			got := p.outcomes(t, roots...)
			// The roots are asked about in an order that nobody can know.
			if slices.Sort(got); !slices.Equal(got, sorted(c.want)) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func sorted(o []Outcome) []Outcome {
	o = slices.Clone(o)
	slices.Sort(o)
	return o
}

func TestHangingPeerIsLate(t *testing.T) {
	own := newShelf()
	roots := own.several(t, 3, 5000)
	p := newPair(t, own)
	p.o.Deadline, p.o.PerLeaf = 300*time.Millisecond, time.Nanosecond
	release := make(chan struct{})
	defer close(release)
	p.liar(t, func(s network.Stream, chs []Challenge) {
		wire.Write(s, right(own, 0, chs[0]))
		<-release
	})
	// What came before the deadline counts.
	if got := sorted(p.outcomes(t, roots...)); !slices.Equal(got, []Outcome{Late, Late, Proved}) {
		t.Error(got)
	}
}

// slowSource is blocks that are not here: each is fetched from another holder,
// which takes until release.
type slowSource struct {
	*shelf
	asked, release chan struct{}
}

func newSlowSource(s *shelf) slowSource {
	return slowSource{s, make(chan struct{}, 100), make(chan struct{})}
}

func (s slowSource) ReadBlockAt(ctx context.Context, c cid.Cid, p []byte, off int64) (int, error) {
	s.asked <- struct{}{}
	select {
	case <-s.release:
		return s.shelf.ReadBlockAt(ctx, c, p, off)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func TestSlowProxyIsLate(t *testing.T) {
	own := newShelf()
	root := own.add(t, "song", leafSize)
	p := newPair(t, own)
	p.o.Deadline, p.o.PerLeaf = 200*time.Millisecond, time.Nanosecond
	far := newSlowSource(own.clone())
	p.serve(t, far)
	if got := p.outcomes(t, root); got[0] != Late {
		t.Error(got)
	}
	// A proxy that is fast enough is not told from a holder: the deadline is all
	// that there is.
	close(far.release)
	p.o.Deadline = time.Minute
	if got := p.outcomes(t, root); got[0] != Proved {
		t.Error(got)
	}
}

// The deadline grows with what is asked.
func TestDeadlineGrowsWithTheLeaves(t *testing.T) {
	own := newShelf()
	root := own.add(t, "song", 20*leafSize)
	p := newPair(t, own)
	p.o.Deadline, p.o.PerLeaf = time.Nanosecond, time.Minute
	// The stream must open within Deadline, so it is opened beforehand.
	p.serve(t, own.clone())
	ch := []challenge{{Challenge: Challenge{Root: root}, result: &Result{}}}
	want, err := answers(t.Context(), &reading{src: own}, root, [][16]byte{{}})
	if err != nil {
		t.Fatal(err)
	}
	ch[0].want = want[0]
	s, err := p.origin.NewStream(t.Context(), p.peer.ID(), Protocol)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset()
	if err := p.ask(t.Context(), s, ch); err != nil || ch[0].result.Outcome != Proved {
		t.Errorf("%+v, %v", ch[0].result, err)
	}
}

func TestOfflineIsNoFailure(t *testing.T) {
	own := newShelf()
	root := own.add(t, "song", 5000)
	p := newPair(t, own)
	p.serve(t, own.clone())
	p.peer.Close()
	gone := newHost(t)
	for _, id := range []peer.ID{p.peer.ID(), gone.ID()} {
		rs, err := p.Audit(t.Context(), id, []cid.Cid{root})
		if err != nil || rs[0].Outcome != Offline {
			t.Errorf("%+v, %v", rs, err)
		}
	}
}

// A connection that breaks is told from a peer that hangs up, over QUIC too.
func TestConnectionBreaksDuringAnAudit(t *testing.T) {
	for _, addr := range []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"} {
		for _, c := range []struct {
			name string
			end  func(s network.Stream)
			want Outcome
		}{
			{"breaks", func(s network.Stream) { s.Conn().Close() }, Offline},
			{"hangs up", func(s network.Stream) { s.Reset() }, Late},
			{"says no more", func(s network.Stream) { s.Close() }, Late},
		} {
			t.Run(c.name+addr, func(t *testing.T) {
				own := newShelf()
				roots := own.several(t, 2, 5000)
				p := pairOf(t, own, newHostAt(t, addr), newHostAt(t, addr))
				p.liar(t, func(s network.Stream, _ []Challenge) { c.end(s) })
				if got := p.outcomes(t, roots...); !slices.Equal(got, same(c.want, 2)) {
					t.Errorf("got %v, want %v", got, c.want)
				}
			})
		}
	}
}

func TestPeerWithoutAProverIsLate(t *testing.T) {
	own := newShelf()
	root := own.add(t, "song", 5000)
	p := newPair(t, own)
	if got := p.outcomes(t, root); got[0] != Late {
		t.Error(got)
	}
}

func TestAuditEndsWithItsContext(t *testing.T) {
	own := newShelf()
	root := own.add(t, "song", 5000)
	p := newPair(t, own)
	ctx, cancel := context.WithCancel(t.Context())
	p.liar(t, func(s network.Stream, _ []Challenge) {
		cancel()
		io.Copy(io.Discard, s)
	})
	rs, err := p.Audit(ctx, p.peer.ID(), []cid.Cid{root})
	if !errors.Is(err, context.Canceled) || rs != nil {
		t.Errorf("%v, %v", rs, err)
	}
	// While another audit of that peer runs, too.
	leave, err := p.lines.enter(t.Context(), p.peer.ID())
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	if _, err := p.Audit(ctx, p.peer.ID(), []cid.Cid{root}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
