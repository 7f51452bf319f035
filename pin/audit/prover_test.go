package audit

import (
	"context"
	"io"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"

	"github.com/musenai/musen/pin/wire"
)

// A stranger learns nothing, not even what is held.
func TestStrangerMayNotChallenge(t *testing.T) {
	own := newShelf()
	root := own.add(t, "song", 5000)
	p := newPair(t, own)
	p.serve(t, own)
	listed := own.lists.Load()
	stranger := newHost(t)
	connect(t, stranger, p.peer)
	s, err := stranger.NewStream(t.Context(), p.peer.ID(), Protocol)
	if err != nil {
		t.Fatal(err)
	}
	writeRequest(s, []Challenge{{Root: root}})
	if b, err := io.ReadAll(s); err == nil || len(b) > 0 {
		t.Errorf("a stranger was told %x, %v", b, err)
	}
	if own.lists.Load() != listed {
		t.Error("a stranger made the peer look for a segment")
	}
}

// What is no request is hung up on.
func TestBadRequests(t *testing.T) {
	own := newShelf()
	root := own.add(t, "song", 5000)
	p := newPair(t, own)
	p.serve(t, own)
	good := question{Root: root.Bytes(), Nonce: make([]byte, 16)}
	for name, r := range map[string]any{
		"none":          request{},
		"65":            request{Challenges: slices.Repeat([]question{good}, 65)},
		"short nonce":   request{Challenges: []question{{good.Root, good.Nonce[:15]}}},
		"long nonce":    request{Challenges: []question{{good.Root, make([]byte, 17)}}},
		"no root":       request{Challenges: []question{{nil, good.Nonce}}},
		"long root":     request{Challenges: []question{{make([]byte, 129), good.Nonce}}},
		"trailing root": request{Challenges: []question{{append(root.Bytes(), 0), good.Nonce}}},
		"a number":      7,
	} {
		s, err := p.origin.NewStream(t.Context(), p.peer.ID(), Protocol)
		if err != nil {
			t.Fatal(err)
		}
		if err := wire.Write(s, r); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(s); err == nil || len(b) > 0 {
			t.Errorf("%s: answered %x, %v", name, b, err)
		}
		s.Reset()
	}
	if got := p.outcomes(t, root); got[0] != Proved {
		t.Errorf("then a good one: %v", got)
	}
}

// A peer keeps few streams open for one auditor, and forgets those that ended.
func TestStreamsAreBounded(t *testing.T) {
	own := newShelf()
	root := own.add(t, "song", 5000)
	p := newPair(t, own)
	far := newSlowSource(own)
	pr := p.serve(t, far)
	open := func() network.Stream {
		s, err := p.origin.NewStream(t.Context(), p.peer.ID(), Protocol)
		if err != nil {
			t.Fatal(err)
		}
		if err := writeRequest(s, []Challenge{{Root: root}}); err != nil {
			t.Fatal(err)
		}
		return s
	}
	var streams []network.Stream
	for range streamsPerPeer + 3 {
		streams = append(streams, open())
	}
	answered := make(chan bool, len(streams))
	for _, s := range streams {
		go func() {
			_, err := readReply(s, 0)
			answered <- err == nil
		}()
	}
	// Those refused end at once; those served wait for the disk.
	for range 3 {
		if <-answered {
			t.Error("an answer before there could be any")
		}
	}
	close(far.release)
	for range streamsPerPeer {
		if !<-answered {
			t.Error("a stream within the bound was not answered")
		}
	}
	for _, s := range streams {
		s.Reset()
	}
	pr.Close()
	if pr.open != 0 || len(pr.streams) != 0 {
		t.Errorf("%d streams, %v counted", pr.open, pr.streams)
	}
}

func TestCloseHangsUp(t *testing.T) {
	own := newShelf()
	root := own.add(t, "song", 5000)
	p := newPair(t, own)
	far := newSlowSource(own.clone())
	pr := p.serve(t, far)
	got := make(chan Outcome)
	go func() {
		rs, err := p.Audit(context.Background(), p.peer.ID(), []cid.Cid{root})
		if err != nil {
			t.Error(err)
			close(got)
			return
		}
		got <- rs[0].Outcome
	}()
	<-far.asked
	pr.Close()
	if o := <-got; o != Late {
		t.Errorf("outcome %q", o)
	}
}
