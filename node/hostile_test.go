package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/boxo/bitswap/message"
	pb "github.com/ipfs/boxo/bitswap/message/pb"
	bsnetwork "github.com/ipfs/boxo/bitswap/network"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
)

// liar says that it has every block, and answers what it likes to the request
// for one.
type liar struct {
	host   host.Host
	net    bsnetwork.BitSwapNetwork
	answer func(l *liar, to peer.ID, c cid.Cid)
	wanted chan cid.Cid
	ctx    context.Context
}

func startLiar(t *testing.T, answer func(l *liar, to peer.ID, c cid.Cid)) *liar {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableRelay())
	if err != nil {
		t.Fatal(err)
	}
	l := &liar{host: h, net: bsnet.NewFromIpfsHost(h), answer: answer, wanted: make(chan cid.Cid, 100), ctx: t.Context()}
	l.net.Start(l)
	t.Cleanup(func() {
		l.net.Stop()
		h.Close()
	})
	return l
}

func (l *liar) ReceiveMessage(_ context.Context, from peer.ID, m message.BitSwapMessage) {
	for _, e := range m.Wantlist() {
		switch {
		case e.Cancel:
		case e.WantType == pb.Message_Wantlist_Have:
			have := message.New(false)
			have.AddHave(e.Cid)
			_ = l.net.SendMessage(l.ctx, from, have)
		default:
			select {
			case l.wanted <- e.Cid:
			default:
			}
			go l.answer(l, from, e.Cid)
		}
	}
}

func (*liar) ReceiveError(error)       {}
func (*liar) PeerConnected(peer.ID)    {}
func (*liar) PeerDisconnected(peer.ID) {}

// send sends bytes as what c names.
func (l *liar) send(to peer.ID, c cid.Cid, data []byte) {
	b, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		return
	}
	m := message.New(false)
	m.AddBlock(b)
	_ = l.net.SendMessage(l.ctx, to, m)
}

// H61: wrong bytes, half a block, another valid block, a block that is too
// large, an answer that never ends, and none at all: the segment comes from
// another peer, and not a byte of the liar's is kept.
func TestLiarsAreLeft(t *testing.T) {
	good := sealedBytes(7, 160<<10)
	for name, answer := range map[string]func(l *liar, to peer.ID, c cid.Cid){
		"wrong bytes": func(l *liar, to peer.ID, c cid.Cid) {
			bad := bytes.Clone(good)
			bad[0] ^= 1
			l.send(to, c, bad)
		},
		"half": func(l *liar, to peer.ID, c cid.Cid) { l.send(to, c, good[:len(good)/2]) },
		"another": func(l *liar, to peer.ID, c cid.Cid) {
			b := blocks.NewBlock([]byte("valid"))
			l.send(to, b.Cid(), b.RawData())
		},
		"4 MiB":   func(l *liar, to peer.ID, c cid.Cid) { l.send(to, c, make([]byte, 4<<20)) },
		"silence": func(*liar, peer.ID, cid.Cid) {},
		"never ends": func(l *liar, to peer.ID, _ cid.Cid) {
			s, err := l.host.NewStream(l.ctx, to, bsnet.ProtocolBitswap)
			if err != nil {
				return
			}
			defer s.Reset()
			_, err = s.Write(binary.AppendUvarint(nil, 3<<20))
			for err == nil && l.ctx.Err() == nil {
				time.Sleep(10 * time.Millisecond) // as slow as it can
				_, err = s.Write([]byte{0})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			honest, n := start(t), start(t, func(o *Options) { o.FetchTimeout = time.Minute })
			x := add(t, honest, good)
			l := startLiar(t, answer)
			info := peer.AddrInfo{ID: l.host.ID(), Addrs: l.host.Addrs()}
			if err := n.Host().Connect(t.Context(), info); err != nil {
				t.Fatal(err)
			}
			before := blocksOf(t, n)
			done := make(chan error)
			begun := time.Now()
			go func() { done <- n.Fetch(context.Background(), x.root, int64(len(good))) }()
			<-l.wanted // the liar is asked, for there is nobody else
			connect(t, n, honest)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			t.Logf("from another peer after %s", time.Since(begun).Round(time.Millisecond))
			readBack(t, n, x, leafSize)
			if got := blocksOf(t, n); got != before+1 {
				t.Errorf("%d blocks, want %d", got, before+1)
			}
		})
	}
}

// H65: wants without end, names as long as they may be, and nonsense cost a
// node little memory, and others are served meanwhile.
func TestFloodOfWants(t *testing.T) {
	honest, n := start(t), start(t)
	connect(t, honest, n)
	x := add(t, n, sealedBytes(1, 3*leafSize))
	before := memory()
	var floods sync.WaitGroup
	for i := range 4 {
		l := startLiar(t, func(*liar, peer.ID, cid.Cid) {})
		if err := l.host.Connect(t.Context(), via(t, n, "tcp").AddrInfo); err != nil {
			t.Fatal(err)
		}
		floods.Go(func() { l.flood(n.Host().ID(), i) })
	}
	fetch(t, honest, x)
	floods.Wait()
	y := add(t, n, sealedBytes(2, 3*leafSize))
	fetch(t, honest, y)
	if grown := int64(memory()) - int64(before); grown > 200<<20 {
		t.Errorf("%d MiB more", grown>>20)
	}
}

// flood sends 100,000 wants, some of them by overlong names, and nonsense.
func (l *liar) flood(to peer.ID, seed int) {
	for i := range 10 {
		m := message.New(false)
		for j := range 10_000 {
			mh, err := multihash.Encode(bytes.Repeat([]byte{byte(i), byte(j), byte(j >> 8), byte(seed)}, 8+24*(j%2)), multihash.SHA2_256)
			if err == nil {
				m.AddEntry(cid.NewCidV1(cid.Raw, mh), 1, pb.Message_Wantlist_Have, true)
			}
		}
		_ = l.net.SendMessage(l.ctx, to, m)
		s, err := l.host.NewStream(l.ctx, to, bsnet.ProtocolBitswap)
		if err != nil {
			continue
		}
		for _, junk := range [][]byte{{0}, {1, 0xff}, {0xff, 0xff, 0xff, 0xff, 0x7f}, {2, 0x0a, 0}} {
			_, _ = s.Write(junk) // the other side may have ended it
		}
		_ = s.Close()
	}
}
