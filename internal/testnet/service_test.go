package testnet_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/boxo/bitswap"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/swarm"
	"github.com/musenai/musen/internal/testnet"
	"github.com/musenai/musen/node"
	"github.com/musenai/musen/pin/member"
	"github.com/musenai/musen/pin/remote"
)

// newNode opens a Kubo node that has nothing to do with the swarm.
func newNode(t *testing.T) *node.Node {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "node")
	if _, err := node.Init(dir); err != nil {
		t.Fatal(err)
	}
	n, err := node.Open(t.Context(), node.Options{Dir: dir, FetchTimeout: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// pinService is a pinning service: it speaks the API over HTTP, and its node
// fetches when the test says so.
type pinService struct {
	*httptest.Server
	node *node.Node

	mu        sync.Mutex
	delegates []string
	status    map[string]string // of what it was asked for, by CID
	at        map[string]string // by request
}

func newPinService(t *testing.T) *pinService {
	v := &pinService{node: newNode(t), status: map[string]string{}, at: map[string]string{}}
	v.delegates = v.node.Addrs()
	v.Server = httptest.NewServer(v)
	t.Cleanup(v.Close)
	return v
}

func (v *pinService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	id, one := strings.CutPrefix(r.URL.Path, "/psa/pins/")
	switch {
	case r.Header.Get("Authorization") != "Bearer opensesame":
		w.WriteHeader(http.StatusUnauthorized)
	case r.Method == http.MethodPost:
		var p struct{ CID string }
		if json.NewDecoder(r.Body).Decode(&p) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if v.status[p.CID] == "" {
			v.status[p.CID] = "queued"
		}
		id = fmt.Sprint("r", len(v.at))
		v.at[id] = p.CID
		v.say(w, http.StatusAccepted, v.about(id))
	case r.Method == http.MethodGet && !one:
		v.say(w, http.StatusOK, map[string]any{"count": 0, "results": []any{}})
	case r.Method == http.MethodGet && v.at[id] != "":
		v.say(w, http.StatusOK, v.about(id))
	case r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusAccepted)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (v *pinService) about(id string) map[string]any {
	return map[string]any{
		"requestid": id, "status": v.status[v.at[id]], "created": time.Now(), "delegates": v.delegates,
		"pin": map[string]any{"cid": v.at[id]},
	}
}

func (v *pinService) say(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

// set makes the service say how far it is with a segment.
func (v *pinService) set(root cid.Cid, status string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.status[root.String()] = status
}

// use has an origin use the service.
func (v *pinService) use(t *testing.T, o *testnet.Origin) {
	t.Helper()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("opensesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := o.Swarm.Services().Add(t.Context(), remote.Service{Name: "far", Endpoint: v.URL + "/psa", TokenFile: token})
	if err != nil {
		t.Fatal(err)
	}
}

// beside lets services stand on loopback, and looks at them often.
func beside(s *swarm.Options) {
	s.Services.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	s.Services.Timing = remote.Timing{Poll: 20 * time.Millisecond, Retry: 20 * time.Millisecond}
}

// until asks again and again until something is so that nobody tells of: the
// keeper, for one, tells of levels alone.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(time.Minute)
	for !ok() {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-limit:
			t.Fatalf("not in time: %s", what)
		}
	}
}

// says waits until a service's copy of a segment is in a state.
func says(t *testing.T, o *testnet.Origin, root cid.Cid, st remote.State) {
	t.Helper()
	until(t, string(st), func() bool {
		c := o.Swarm.Services().Copies(root)
		return len(c) == 1 && c[0].State == st
	})
}

func with(n, other *node.Node) bool {
	return n.Host().Network().Connectedness(other.Host().ID()) == network.Connected
}

// blocksOf are all blocks of a segment, as the origin has them on its disk.
func blocksOf(t *testing.T, o *testnet.Origin, root cid.Cid) map[cid.Cid][]byte {
	t.Helper()
	leaves, err := o.Node.Leaves(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	all := map[cid.Cid][]byte{root: nil}
	for _, l := range leaves {
		all[l.CID] = nil
	}
	for c := range all {
		if all[c], err = os.ReadFile(o.BlockFile(c)); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// nothing fails the test if a node gets a segment, or a block of it, from the
// origin, which it dials.
func nothing(t *testing.T, who string, n *node.Node, o *testnet.Origin, root cid.Cid) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	info, err := peer.AddrInfoFromString(o.Node.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	n.Host().Connect(ctx, *info) // a dialler may think for a moment that it is connected
	if err := n.Fetch(ctx, root, 0); err == nil {
		t.Errorf("%s fetched %s", who, root)
	}
	for c := range blocksOf(t, o, root) {
		if b, err := n.Offline().GetBlock(t.Context(), c); err == nil {
			t.Errorf("%s has %d bytes of %s", who, len(b.RawData()), root)
		}
	}
}

// A pinning service that nobody admitted by hand fetches what it is asked to
// pin through the nodes that it names: the ciphertext as it is stored, nothing
// of other segments, and nothing once it is done.
func TestServiceFetchesFromAClosedSwarm(t *testing.T) {
	t.Parallel()
	o := testnet.NewOrigin(t, beside)
	station := o.Station(t, "jazz", musen.Replication{Min: 1, Max: 1})
	var songs []cid.Cid
	for range 2 {
		s, _, err := o.Adds.Add(t.Context(), musen.AddRequest{Station: station.ID, Title: "song", Again: true}, bytes.NewReader(wave(900<<10)))
		if err != nil {
			t.Fatal(err)
		}
		songs = append(songs, s.CID)
	}
	song, other := songs[0], songs[1]
	v, stranger := newPinService(t), newNode(t)
	nothing(t, "the service, before it is used,", v.node, o, song)
	carrier := testnet.NewCarrier(t, o, "attic", testnet.Behaviour{})
	v.delegates = append(v.delegates, "/p2p/"+carrier.Host.ID().String(), "/ip4/127.0.0.1/tcp/1/p2p/", "nonsense")
	v.set(other, "pinned") // it is lying, as services may

	v.use(t, o)
	until(t, "the origin dials the service's node", func() bool { return with(v.node, o.Node) })
	says(t, o, song, remote.Queued)
	says(t, o, other, remote.Pinned)
	v.set(song, "pinning")
	says(t, o, song, remote.Pinning)
	nothing(t, "a stranger", stranger, o, song)
	nothing(t, "the service, of another segment,", v.node, o, other)
	if err := carrier.Fetch(t.Context(), song); err == nil {
		t.Error("a replica got what it was not told to hold, because a service named it")
	}
	if role, _ := o.Swarm.Ledger().Gate().Role(carrier.Host.ID()); role != member.Replica {
		t.Errorf("the replica is a %q", role)
	}

	if err := v.node.Fetch(t.Context(), song, 0); err != nil {
		t.Fatalf("the service fetches: %v", err)
	}
	for c, stored := range blocksOf(t, o, song) {
		b, err := v.node.Offline().GetBlock(t.Context(), c)
		if err != nil || !bytes.Equal(b.RawData(), stored) {
			t.Errorf("block %s is not as stored, %v", c, err)
		}
	}
	v.set(song, "pinned")
	says(t, o, song, remote.Pinned)
	until(t, "the service's node is shown out", func() bool { return !with(v.node, o.Node) })
	forget(t, v.node, song)
	nothing(t, "the service, once it is done,", v.node, o, song)
	nothing(t, "a stranger", stranger, o, song)
}

// forget deletes a segment from a node's disk.
func forget(t *testing.T, n *node.Node, root cid.Cid) {
	t.Helper()
	if err := n.Remove(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	if _, _, err := n.GC(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A service lets nobody in whom the operator removed, nor has the origin dial
// where it is not to.
func TestServiceLetsNobodyBackIn(t *testing.T) {
	t.Parallel()
	o := testnet.NewOrigin(t, beside)
	station := o.Station(t, "jazz", musen.Replication{Min: 1, Max: 1})
	v := newPinService(t)
	id := v.node.PeerID()
	if _, err := o.Swarm.Admit(t.Context(), id, "reader"); err != nil {
		t.Fatal(err)
	}
	if err := o.Swarm.Remove(t.Context(), "reader"); err != nil {
		t.Fatal(err)
	}
	v.use(t, o)
	s, _, err := o.Adds.Add(t.Context(), musen.AddRequest{Station: station.ID, Title: "song"}, bytes.NewReader(wave(100<<10)))
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the node is named", func() bool { return o.Swarm.Services().MayFetch(v.node.Host().ID(), s.CID) })
	nothing(t, "a removed node", v.node, o, s.CID)

	// The operator changes his mind: as a guest it may have everything, also
	// when the service is done.
	if _, err := o.Swarm.Admit(t.Context(), id, "reader"); err != nil {
		t.Fatal(err)
	}
	v.set(s.CID, "pinned")
	says(t, o, s.CID, remote.Pinned)
	info, err := peer.AddrInfoFromString(o.Node.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	until(t, "a guest fetches", func() bool {
		_ = v.node.Disconnect(info.ID) // as whom it was let in to be told that it was removed
		_ = v.node.Host().Connect(t.Context(), *info)
		return v.node.Fetch(t.Context(), s.CID, 0) == nil
	})
}

// taker is a bare node that takes what it is given.
type taker struct {
	host  host.Host
	store blockstore.Blockstore
	swap  *bitswap.Bitswap
}

func newTaker(t *testing.T) *taker {
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableRelay(), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	k := &taker{host: h, store: blockstore.NewBlockstore(dssync.MutexWrap(datastore.NewMapDatastore()))}
	k.swap = bitswap.New(context.Background(), bsnet.NewFromIpfsHost(h), nil, k.store)
	t.Cleanup(func() {
		k.swap.Close()
		h.Close()
	})
	return k
}

// take is how much it gets of a segment.
func (k *taker) take(ctx context.Context, o *node.Node, root cid.Cid) (n int) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	info, err := peer.AddrInfoFromString(o.Addrs()[0])
	if err != nil || k.host.Connect(ctx, *info) != nil {
		return 0
	}
	_ = merkledag.FetchGraph(ctx, root, merkledag.NewDAGService(blockservice.New(k.store, k.swap))) // some of it, perhaps
	keys, err := k.store.AllKeysChan(context.Background())
	if err != nil {
		return 0
	}
	for c := range keys {
		if size, err := k.store.GetSize(context.Background(), c); err == nil {
			n += size
		}
	}
	return n
}

// A service that names other nodes again and again takes no more than one that
// names few, and nothing is kept of nodes that have gone.
func TestServiceThatRotatesItsNodes(t *testing.T) {
	t.Parallel()
	o := testnet.NewOrigin(t, beside)
	station := o.Station(t, "jazz", musen.Replication{Min: 1, Max: 1})
	s, _, err := o.Adds.Add(t.Context(), musen.AddRequest{Station: station.ID, Title: "song"}, bytes.NewReader(wave(900<<10)))
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	for _, b := range blocksOf(t, o, s.CID) {
		size += len(b)
	}
	v := newPinService(t)
	var all []*taker
	var taken atomic.Int64
	for round := range 2 {
		var few []*taker
		var names []string
		for range 10 {
			k := newTaker(t)
			few, names = append(few, k), append(names, k.host.Addrs()[0].String()+"/p2p/"+k.host.ID().String())
		}
		all = append(all, few...)
		v.mu.Lock()
		v.delegates = names
		v.status[s.CID.String()] = []string{"queued", "pinning"}[round%2]
		v.mu.Unlock()
		if round == 0 {
			v.use(t, o)
		}
		until(t, "its nodes are named", func() bool {
			return !slices.ContainsFunc(few, func(k *taker) bool { return !o.Swarm.Services().MayFetch(k.host.ID(), s.CID) })
		})
		until(t, "its nodes are let in", func() bool {
			return !slices.ContainsFunc(few, func(k *taker) bool { return !o.Swarm.Ledger().Gate().Visits(k.host.ID()) })
		})
		var done sync.WaitGroup
		for _, k := range few {
			done.Go(func() { taken.Add(int64(k.take(t.Context(), o.Node, s.CID))) })
		}
		done.Wait()
	}
	if n := int(taken.Load()); n < size || n > 4*(size+4<<10) {
		t.Errorf("20 nodes took %d bytes of a segment of %d", n, size)
	}
	v.set(s.CID, "pinned")
	says(t, o, s.CID, remote.Pinned)
	until(t, "nothing is known of them", func() bool {
		known := o.Node.Host().Peerstore().Peers()
		return !slices.ContainsFunc(all, func(k *taker) bool { return slices.Contains(known, k.host.ID()) })
	})
}
