package pin

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	ipfscluster "github.com/ipfs-cluster/ipfs-cluster"
	capi "github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs-cluster/ipfs-cluster/monitor/pubsubmon"
	"github.com/ipfs-cluster/ipfs-cluster/version"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	"github.com/ipfs/go-cid"
	crdtpb "github.com/ipfs/go-ds-crdt/pb"
	rpc "github.com/libp2p/go-libp2p-gorpc"
	"github.com/libp2p/go-libp2p-pubsub"
	pubsubpb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/proto"
)

// hostileSwarm is three trusted peers. With ajar, strangers may open streams to
// them, so that only what stands behind the door keeps them out. A slow machine
// makes none of them seem lost: whatever moves is a stranger's doing.
func hostileSwarm(t *testing.T, ajar bool) (*depot, []*peerUnder) {
	t.Helper()
	d := newDepot()
	ps := []*peerUnder{newPeer(t, d, "north"), newPeer(t, d, "south"), newPeer(t, d, "west")}
	connect(t, ps...)
	for _, p := range ps {
		o := p.options(ps...)
		o.ajar = ajar
		o.Timing.Ping = 5 * time.Second
		p.openWith(t, o)
	}
	awaitAlive(t, len(ps), ps...)
	return d, ps
}

// A stranger with a cluster of its own, which trusts itself, changes nothing.
func TestStrangersClusterChangesNothing(t *testing.T) {
	for name, ajar := range map[string]bool{"door": false, "behind the door": true} {
		t.Run(name, func(t *testing.T) {
			d, ps := hostileSwarm(t, ajar)
			roots := pin(t, d, ps[0], "good", 40, Placement{Min: 2, Max: 2})
			await(t, "all held", func() bool { return settled(t, d, ps, roots) })
			before, room := ps[0].pinset(t), size(t, ps[0].store)

			bad := newPeer(t, d, "nowhere")
			bad.shelf.free = 1 << 50 // would win every allocation
			bad.open(t, append(slices.Clone(ps), bad)...)
			connect(t, append(slices.Clone(ps), bad)...)
			pin(t, d, bad, "junk", 2000, Placement{Min: 1, Max: 1, Label: strings.Repeat("x", maxLabel)})
			giant := capi.PinWithOpts(capi.NewCid(rootN(t, "giant", 0)), capi.PinOptions{
				ReplicationFactorMin: 1, ReplicationFactorMax: 1, Name: strings.Repeat("y", 1<<20),
				Metadata: map[string]string{"z": strings.Repeat("z", 1<<20)},
			})
			giant.Allocations = idsOf(ps)
			giant.Timestamp = time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
			if err := bad.cluster.pinset.LogPin(t.Context(), giant); err != nil {
				t.Fatal(err)
			}
			for _, root := range roots {
				if err := bad.cluster.Unpin(t.Context(), root); err != nil {
					t.Fatal(err)
				}
			}
			_ = bad.cluster.Flush(t.Context()) // some of it may be too large even for its own
			rounds(t, d, ps, 4)

			for _, p := range ps {
				if !maps.EqualFunc(before, p.pinset(t), slices.Equal[[]peer.ID]) {
					t.Error("the pinset changed")
				}
				if slices.Contains(alive(t, p), bad.id) || len(alive(t, p)) != len(ps) {
					t.Error("the stranger counts as a peer, or made others be lost")
				}
			}
			if grown := size(t, ps[0].store) - room; grown > 64<<10 {
				t.Errorf("the store of a trusted peer grew by %d bytes", grown)
			}
			more := pin(t, d, ps[1], "after", 20, Placement{Min: 2, Max: 2})
			await(t, "all held", func() bool { return settled(t, d, ps, more) })
		})
	}
}

// A stranger that skips all checks of its own forges metrics and heads.
func TestForgedMessagesAreDropped(t *testing.T) {
	d, ps := hostileSwarm(t, true)
	roots := pin(t, d, ps[0], "good", 20, Placement{Min: 2, Max: 2})
	await(t, "all held", func() bool { return settled(t, d, ps, roots) })
	before := ps[0].pinset(t)

	bad := newPeer(t, d, "nowhere")
	raw, err := pubsub.NewGossipSub(t.Context(), bad.host, pubsub.WithFloodPublish(true), pubsub.WithMaxMessageSize(4<<20))
	if err != nil {
		t.Fatal(err)
	}
	heads, err := headsTopic("test")
	if err != nil {
		t.Fatal(err)
	}
	topics := map[string]*pubsub.Topic{}
	for _, name := range []string{heads, pubsubmon.PubsubTopic, "another"} {
		if topics[name], err = raw.Join(name); err != nil {
			t.Fatal(err)
		}
		if _, err := topics[name].Subscribe(); err != nil {
			t.Fatal(err)
		}
	}
	connect(t, append(slices.Clone(ps), bad)...)
	send := func(topic string, b []byte) {
		if err := topics[topic].Publish(t.Context(), b); err != nil {
			t.Logf("the stranger could not even publish: %v", err)
		}
	}
	for i := range 100 {
		for _, m := range forgedMetrics(ps[2].id, bad.id) {
			b, err := encodeMetric(m)
			if err != nil {
				t.Fatal(err)
			}
			send(pubsubmon.PubsubTopic, b)
		}
		send(heads, encodeHeads(t, cid.NewCidV1(cid.DagProtobuf, rootN(t, "head", i).Hash()).Bytes()))
		send("another", []byte("anything"))
	}
	send(pubsubmon.PubsubTopic, make([]byte, 2<<20))
	send(heads, make([]byte, 2<<20))
	rounds(t, d, ps, 3)

	for _, p := range ps {
		if !maps.EqualFunc(before, p.pinset(t), slices.Equal[[]peer.ID]) {
			t.Error("the pinset changed: a forged metric moved copies")
		}
		for _, m := range p.cluster.Peers(t.Context()) {
			if !m.Alive || m.Free != 1<<30 || m.Site == "forged" {
				t.Errorf("believes of a peer what a stranger said: %+v", m)
			}
		}
	}
}

// forgedMetrics are what a stranger says of a victim and of itself.
func forgedMetrics(victim, own peer.ID) []capi.Metric {
	var l []capi.Metric
	for _, p := range []peer.ID{victim, own} {
		for _, expire := range []time.Time{time.Unix(0, 0), time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)} {
			l = append(l,
				capi.Metric{Name: metricPing, Peer: p, Valid: true, Expire: expire.UnixNano()},
				capi.Metric{Name: metricFree, Peer: p, Valid: true, Weight: 1 << 60, Value: "1", Expire: expire.UnixNano()},
				capi.Metric{Name: metricSite, Peer: p, Valid: true, Value: "forged", Expire: expire.UnixNano()},
				capi.Metric{Name: strings.Repeat("n", 1<<16), Peer: p, Valid: true, Expire: expire.UnixNano()})
		}
	}
	return l
}

func encodeHeads(t testing.TB, heads ...[]byte) []byte {
	t.Helper()
	x := new(crdtpb.CRDTBroadcast)
	for _, h := range heads {
		x.Heads = append(x.Heads, &crdtpb.Head{Cid: h})
	}
	b, err := proto.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A stranger may call nothing, a trusted peer two things, and neither of them
// changes the pinset.
func TestWhoMayCall(t *testing.T) {
	_, ps := hostileSwarm(t, true)
	bad := newPeer(t, newDepot(), "")
	connect(t, append(slices.Clone(ps), bad)...)
	for _, caller := range []*peerUnder{bad, ps[1]} {
		client := rpc.NewClient(caller.host, version.RPCProtocol)
		for method := range ipfscluster.DefaultRPCPolicy {
			service, name, _ := strings.Cut(method, ".")
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			err := client.CallContext(ctx, ps[0].id, service, name, struct{}{}, new(struct{}))
			cancel()
			open := caller == ps[1] && (method == "PinTracker.Status" || method == "PinTracker.Recover")
			if refused := rpc.IsAuthorizationError(err); refused == open {
				t.Errorf("%s called %s: %v", caller.id, method, err)
			}
		}
	}
}

// No stream of any protocol of the cluster is open to a stranger.
func TestDoorIsShut(t *testing.T) {
	d, ps := trio(t)
	bad := newPeer(t, d, "")
	connect(t, append(slices.Clone(ps), bad)...)
	ids := append(slices.Clone(pubsub.GossipSubDefaultProtocols), version.RPCProtocol,
		deltaPrefix+bsnet.ProtocolBitswap, deltaPrefix+bsnet.ProtocolBitswapNoVers)
	for _, id := range ids {
		s, err := bad.host.NewStream(t.Context(), ps[0].id, protocol.ID(id))
		if err != nil {
			continue
		}
		if err := s.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, err := s.Read(make([]byte, 1)); n > 0 || err == nil || strings.Contains(err.Error(), "deadline") {
			t.Errorf("%s: the stream stayed open: %d, %v", id, n, err)
		}
	}
	if err := ps[0].cluster.door.Connect(t.Context(), peer.AddrInfo{ID: bad.id, Addrs: bad.host.Addrs()}); err == nil {
		t.Error("the cluster would connect to a stranger")
	}
	if _, err := ps[0].cluster.door.NewStream(t.Context(), bad.id, version.RPCProtocol); err == nil {
		t.Error("the cluster would open a stream to a stranger")
	}
	if got := ps[0].cluster.door.Network().Peers(); len(got) != 2 {
		t.Errorf("the cluster sees %d peers of 2", len(got))
	}
}

// signed is a message that p made, as it comes to a validator.
func signed(p peer.ID, data []byte) *pubsub.Message {
	return &pubsub.Message{Message: &pubsubpb.Message{From: []byte(p), Data: data}, ReceivedFrom: p}
}

func TestValidators(t *testing.T) {
	good, other, bad := rogue(t), rogue(t), rogue(t)
	trusted := newTrust(good, []peer.ID{other})
	metric := func(m capi.Metric) []byte {
		b, err := encodeMetric(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	delta := encodeHeads(t, rootN(t, "head", 0).Bytes())
	head := cid.NewCidV1(cid.DagProtobuf, rootN(t, "head", 0).Hash()).Bytes()
	ping := capi.Metric{Name: metricPing, Peer: good, Valid: true}
	for name, c := range map[string]struct {
		v    validator
		from peer.ID
		data []byte
		want pubsub.ValidationResult
	}{
		"own metric":          {metricOf(trusted), good, metric(ping), pubsub.ValidationAccept},
		"metric of another":   {metricOf(trusted), other, metric(ping), pubsub.ValidationReject},
		"stranger of itself":  {metricOf(trusted), bad, metric(capi.Metric{Name: metricPing, Peer: bad, Valid: true}), pubsub.ValidationReject},
		"unknown metric":      {metricOf(trusted), good, metric(capi.Metric{Name: "x", Peer: good, Valid: true}), pubsub.ValidationReject},
		"negative room":       {metricOf(trusted), good, metric(capi.Metric{Name: metricFree, Peer: good, Valid: true, Weight: -1}), pubsub.ValidationReject},
		"giant value":         {metricOf(trusted), good, metric(capi.Metric{Name: metricSite, Peer: good, Valid: true, Value: strings.Repeat("v", 300)}), pubsub.ValidationReject},
		"no metric":           {metricOf(trusted), good, []byte("\xc1\xff\x00"), pubsub.ValidationReject},
		"heads":               {headsOf(trusted), other, encodeHeads(t, head), pubsub.ValidationAccept},
		"heads of a stranger": {headsOf(trusted), bad, encodeHeads(t, head), pubsub.ValidationReject},
		"a raw head":          {headsOf(trusted), good, delta, pubsub.ValidationReject},
		"no heads":            {headsOf(trusted), good, nil, pubsub.ValidationReject},
		"too many heads":      {headsOf(trusted), good, encodeHeads(t, slices.Repeat([][]byte{head}, maxHeads+1)...), pubsub.ValidationReject},
		"not heads":           {headsOf(trusted), good, []byte("\xff\xff\xff"), pubsub.ValidationReject},
		"stranger's anything": {signedBy(trusted), bad, nil, pubsub.ValidationReject},
		"trusted anything":    {signedBy(trusted), other, nil, pubsub.ValidationAccept},
	} {
		if got := c.v(t.Context(), bad, signed(c.from, c.data)); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
