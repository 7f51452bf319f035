package testnet_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/ipfs/boxo/bitswap"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multibase"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/host"
	"github.com/musenai/musen/internal/testnet"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/member"
)

// a guest is an IPFS node that is no other of ours, and may fetch from an origin.
func guest(t *testing.T, o *testnet.Origin) *bitswap.Bitswap {
	t.Helper()
	h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableRelay())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	if _, err := o.Swarm.Admit(t.Context(), h.ID().String(), "stranger"); err != nil {
		t.Fatal(err)
	}
	store := blockstore.NewBlockstore(dssync.MutexWrap(datastore.NewMapDatastore()))
	swap := bitswap.New(t.Context(), bsnet.NewFromIpfsHost(h), nil, store)
	t.Cleanup(func() { swap.Close() })
	info, err := peer.AddrInfoFromString(o.Node.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Connect(t.Context(), *info); err != nil {
		t.Fatal(err)
	}
	return swap
}

// spelled are the spellings of a CID.
func spelled(t *testing.T, c cid.Cid) (all []string) {
	t.Helper()
	for _, codec := range []uint64{cid.Raw, cid.DagProtobuf} {
		for _, base := range []multibase.Encoding{multibase.Base32, multibase.Base32Upper, multibase.Base36, multibase.Base58BTC, multibase.Base64url, multibase.Base16} {
			s, err := cid.NewCidV1(codec, c.Hash()).StringOfBase(base)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, s)
		}
	}
	return append(all, cid.NewCidV0(c.Hash()).String())
}

// statuses are those with which a host's listener answers for all spellings of
// blocks, raw and as a CAR.
func statuses(t *testing.T, url string, blocks []cid.Cid) map[int]int {
	t.Helper()
	found := map[int]int{}
	for _, c := range blocks {
		for _, s := range spelled(t, c) {
			for _, format := range []string{"raw", "car"} {
				res, err := http.Get(url + "/ipfs/" + s + "?format=" + format)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				found[res.StatusCode]++
			}
		}
	}
	return found
}

// H50, H25, P92: what is taken down leaves every peer, with signed receipts; no
// spelling of it, of a block of it, or a CAR is served over HTTP or Bitswap, also
// after a host starts again. Once it is lifted, it has its copies again.
func TestTakedownReachesAllPeers(t *testing.T) {
	o := testnet.NewOrigin(t)
	station := o.Station(t, "jazz", musen.Replication{Min: 2, Max: 2, Community: 1})
	listening := func(opts *host.Options) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		opts.HTTP = &host.HTTP{Listener: l}
	}
	hosts := []*testnet.Host{
		testnet.Join(t, o, member.Storage, "oslo", contract.Contract{}, listening),
		testnet.Join(t, o, member.Replica, "attic", contract.Contract{Disk: 1 << 30}, listening),
	}
	add := func(size int) musen.Segment {
		t.Helper()
		s, _, err := o.Adds.Add(t.Context(), musen.AddRequest{Station: station.ID, Title: "song", Again: true}, bytes.NewReader(wave(size)))
		if err != nil {
			t.Fatal(err)
		}
		proved(t, o, s.CID, "oslo")
		proved(t, o, s.CID, "attic")
		return s
	}
	bad, good := add(600<<10), add(300<<10)
	blocks := append([]cid.Cid{bad.CID}, bad.Leaves...)

	down, err := o.Rows.TakeDown(t.Context(), musen.Takedown{CID: bad.Leaves[1], Category: "copyright", Reason: "theirs", Actor: "mia", Created: time.Now()}, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Adds.Enforce(t.Context(), down); err != nil {
		t.Fatal(err)
	}
	until(t, "all have purged it, and said so", func() bool {
		confirmed, err := o.Swarm.Purged(t.Context(), bad.CID, down.Created)
		_, waited := o.Swarm.Keeper().Health(bad.CID)
		return err == nil && len(confirmed) == len(hosts) && !waited
	})
	for again := range 2 {
		for _, h := range hosts {
			if found := statuses(t, h.HTTP(), blocks); len(found) != 1 || found[451]+found[410] == 0 {
				t.Errorf("%s answers %v", h.Name, found)
			}
			if found := statuses(t, h.HTTP(), good.Leaves[:1]); found[200] == 0 {
				t.Errorf("%s answers %v for what is not taken down", h.Name, found)
			}
			if again == 0 {
				h.Stop(t)
				h.Start(t)
			}
		}
	}
	stranger := guest(t, o)
	if _, err := stranger.GetBlock(t.Context(), good.Leaves[0]); err != nil {
		t.Errorf("a stranger does not get what it may have: %v", err)
	}
	for _, c := range blocks {
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		if b, err := stranger.GetBlock(short, c); err == nil {
			t.Errorf("a stranger got %d bytes of what was taken down", len(b.RawData()))
		}
		cancel()
	}

	lifted, err := o.Rows.Lift(t.Context(), bad.CID.Hash(), "it was a cover", "sam")
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Adds.Enforce(t.Context(), lifted); err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts {
		proved(t, o, bad.CID, h.Name)
		if found := statuses(t, h.HTTP(), bad.Leaves[:1]); found[200] == 0 || found[451]+found[410] > 0 {
			t.Errorf("%s answers %v for what was lifted", h.Name, found)
		}
	}
}
