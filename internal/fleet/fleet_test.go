package fleet_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/fleet"
	"github.com/musenai/musen/internal/testnet"
	"github.com/musenai/musen/node"
)

// open opens the node of an edge.
func open(t *testing.T, s *fleet.Sources) *node.Node {
	t.Helper()
	o := node.Options{Dir: filepath.Join(t.TempDir(), "ipfs"), FetchTimeout: 500 * time.Millisecond, Redial: 50 * time.Millisecond, Sweep: 20 * time.Millisecond}
	if _, err := node.Init(o.Dir); err != nil {
		t.Fatal(err)
	}
	s.Guard(&o)
	n, err := node.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// until asks again and again for what nobody tells.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// An edge that the origin has let in reads blocks from it, and nobody reads any
// from the edge. One that was removed is not let in again.
func TestEdgeReadsFromItsSources(t *testing.T) {
	o := testnet.NewOrigin(t)
	st := o.Station(t, "jazz", musen.NoReplication())
	const size = 600 << 10
	audio := append(binary.LittleEndian.AppendUint32([]byte("RIFF\xff\xff\xff\x7fWAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00data"), size), make([]byte, size)...)
	s, _, err := o.Adds.Add(t.Context(), musen.AddRequest{Station: st.ID, Title: "song"}, bytes.NewReader(audio))
	if err != nil {
		t.Fatal(err)
	}
	sources := fleet.New()
	edge := open(t, sources)
	reads := func(n int) bool {
		p := make([]byte, 100)
		_, err := edge.ReadBlockAt(context.Background(), s.Leaves[n], p, 0)
		return err == nil
	}
	if err := sources.Follow(edge, o.Node.Addrs()); err != nil {
		t.Fatal(err)
	}
	if reads(0) {
		t.Fatal("a stranger reads from the origin")
	}
	id := edge.Host().ID()
	for range 2 { // once more changes nothing
		if err := o.Swarm.AdmitGateway(t.Context(), id.String(), "edge"); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the edge reads", func() bool { return reads(0) })

	stranger := open(t, fleet.New())
	if sources.Admits(stranger.Host().ID()) || !sources.Admits(o.Node.Host().ID()) {
		t.Error("the edge admits others than its sources")
	}
	if _, err := stranger.Host().Network().DialPeer(t.Context(), id); err == nil {
		t.Error("a stranger connects to an edge")
	}

	if err := o.Swarm.Remove(t.Context(), id.String()); err != nil {
		t.Fatal(err)
	}
	if err := o.Swarm.AdmitGateway(t.Context(), id.String(), "edge"); err != nil {
		t.Fatal(err)
	}
	if _, enrolled := o.Swarm.Ledger().Gate().Role(id); enrolled {
		t.Error("an edge that was removed is let in again")
	}
	until(t, "the edge reads no more", func() bool { return !reads(1) })
}

// Sources that are no more are not connected with.
func TestSourcesChange(t *testing.T) {
	o, other := testnet.NewOrigin(t), testnet.NewOrigin(t)
	sources := fleet.New()
	edge := open(t, sources)
	for _, x := range []*testnet.Origin{o, other} {
		if err := x.Swarm.AdmitGateway(t.Context(), edge.Host().ID().String(), "edge"); err != nil {
			t.Fatal(err)
		}
	}
	with := func(x *testnet.Origin) bool {
		return len(edge.Host().Network().ConnsToPeer(x.Node.Host().ID())) > 0
	}
	for _, c := range []struct{ on, off *testnet.Origin }{{o, other}, {other, o}, {o, other}} {
		if err := sources.Follow(edge, c.on.Node.Addrs()); err != nil {
			t.Fatal(err)
		}
		until(t, "it follows", func() bool { return with(c.on) && !with(c.off) })
	}
	for _, bad := range []string{"", "/ip4/127.0.0.1/tcp/1", "127.0.0.1:1", strings.Repeat("/", 5000)} {
		if err := sources.Follow(edge, []string{bad}); err == nil {
			t.Errorf("%.40q is taken for an address", bad)
		}
	}
	if !sources.Admits(o.Node.Host().ID()) {
		t.Error("a bad address changed the sources")
	}
}
