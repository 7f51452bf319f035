package node

import (
	"bytes"
	"encoding/binary"
	"sync"
	"testing"

	"github.com/ipfs/boxo/bitswap/message"
	pb "github.com/ipfs/boxo/bitswap/message/pb"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/multiformats/go-multihash"
)

// wishes is a message of n wants of blocks that nobody has, of about 46 bytes
// each, as it goes over the wire.
func wishes(t *testing.T, which, n int) []byte {
	t.Helper()
	m := message.New(false)
	for i := range n {
		mh, err := multihash.Sum(binary.BigEndian.AppendUint64(nil, uint64(which)<<32|uint64(i)), multihash.SHA2_256, -1)
		if err != nil {
			t.Fatal(err)
		}
		m.AddEntry(cid.NewCidV1(cid.Raw, mh), 1, pb.Message_Wantlist_Have, true)
	}
	var b bytes.Buffer
	if err := m.ToNetV1(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// H65: a peer that sends long lists of wants on many streams at once fills no
// memory: few are read at a time, and the others wait with it.
func TestListsOfWantsWait(t *testing.T) {
	const streams, entries = 24, 25_000
	var once sync.Once
	var mu sync.Mutex
	asked, now, most := 0, 0, 0
	full, release := make(chan struct{}), make(chan struct{})
	n := start(t, func(o *Options) {
		o.Serve = func(peer.ID, cid.Cid) bool {
			mu.Lock()
			asked++
			now++
			most = max(most, now)
			if now == inboxBytes>>20-1 { // of a little more than 1 MiB
				once.Do(func() { close(full) })
			}
			mu.Unlock()
			<-release
			mu.Lock()
			now--
			mu.Unlock()
			return false
		}
	})
	h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableRelay())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	to := n.Host().ID()
	if err := h.Connect(t.Context(), peer.AddrInfo{ID: to, Addrs: n.Host().Addrs()}); err != nil {
		t.Fatal(err)
	}
	var sending sync.WaitGroup
	for i := range streams {
		list := wishes(t, i, entries)
		s, err := h.NewStream(t.Context(), to, bsnet.ProtocolBitswap)
		if err != nil {
			t.Fatal(err)
		}
		sending.Go(func() {
			if _, err := s.Write(list); err != nil {
				t.Error(err)
			}
			_ = s.Close()
		})
	}
	<-full
	pings := ping.Ping(t.Context(), h, to)
	for range 20 { // it is well meanwhile
		if r := <-pings; r.Error != nil {
			t.Fatal(r.Error)
		}
	}
	mu.Lock()
	if most > inboxBytes>>20 {
		t.Errorf("%d lists of wants are read at once", most)
	}
	mu.Unlock()
	close(release)
	sending.Wait()
	for r := range pings {
		mu.Lock()
		done := asked == streams*entries
		mu.Unlock()
		if r.Error != nil {
			t.Fatal(r.Error)
		}
		if done {
			return
		}
	}
}
