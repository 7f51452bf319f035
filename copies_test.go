package musen_test

import (
	"bytes"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/testnet"
	"github.com/musenai/musen/policy"
)

// told is a Copies that notes what it was told.
type told struct {
	mu     sync.Mutex
	events []string
}

func (c *told) Keep(s musen.Segment, st musen.Station) {
	c.note("keep " + s.CID.String() + " of " + st.Label)
}

func (c *told) Drop(root cid.Cid) { c.note("drop " + root.String()) }

func (c *told) note(event string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, event)
}

// Who looks after copies hears of every segment that came to live, and of every
// one that went, and of nothing else.
func TestCopiesAreTold(t *testing.T) {
	h := testnet.New(t)
	o, copies := h.Origin(), &told{}
	o.Copies = copies
	st := station(t, o, "jazz")
	s := add(t, o, "jazz", wav(1, 1000))
	again, existing, err := o.Add(t.Context(), musen.AddRequest{Station: "jazz"}, bytes.NewReader(wav(1, 1000)))
	if must(t, err); !existing || !again.CID.Equals(s.CID) {
		t.Errorf("the same audio: %+v", again)
	}
	if _, _, err := o.Add(t.Context(), musen.AddRequest{Station: "jazz"}, bytes.NewReader([]byte("not audio"))); err == nil {
		t.Error("text was added")
	}
	must(t, o.Remove(t.Context(), s.CID))
	wantErr(t, o.Remove(t.Context(), s.CID), musen.ErrGone) // whoever did not hear hears again
	want := []string{"keep " + s.CID.String() + " of " + st.Label, "drop " + s.CID.String(), "drop " + s.CID.String()}
	if !slices.Equal(copies.events, want) {
		t.Errorf("told %q, want %q", copies.events, want)
	}
}

// A damaged segment that the same audio replaces is dropped.
func TestCopiesAreToldOfAReplacement(t *testing.T) {
	h := testnet.New(t, testnet.Uncached)
	o, copies := h.Origin(), &told{}
	st := station(t, o, "jazz")
	old := add(t, o, "jazz", wav(1, 1000))
	damage{"flipped", 0, flip(500)}.strike(t, h, old)
	o.Copies = copies
	fresh := add(t, o, "jazz", wav(1, 1000))
	want := []string{"drop " + old.CID.String(), "keep " + fresh.CID.String() + " of " + st.Label}
	if !slices.Equal(copies.events, want) {
		t.Errorf("told %q, want %q", copies.events, want)
	}
}

// Each station has a label of its own, which says nothing of its name or id,
// and one copy unless more are asked for.
func TestStationReplication(t *testing.T) {
	o := testnet.New(t).Origin()
	jazz, blues := station(t, o, "jazz"), station(t, o, "blues")
	if jazz.Label == blues.Label || musen.CheckLabel(jazz.Label) != nil || jazz.Replication != musen.NoReplication() {
		t.Errorf("stations %+v and %+v", jazz, blues)
	}
	r := musen.Replication{Min: 2, Max: 3, Spread: true, Community: 4}
	folk, err := o.CreateStation(t.Context(), musen.Station{Name: "folk", Replication: r})
	if must(t, err); folk.Replication != r {
		t.Errorf("station %+v", folk)
	}
	_, err = o.CreateStation(t.Context(), musen.Station{Name: "soul", Replication: musen.Replication{Min: 3, Max: 2}})
	wantErr(t, err, musen.ErrInvalid)
}

// A segment whose time is over says so, and is gone.
func TestExpiredIsGone(t *testing.T) {
	h := testnet.New(t)
	station(t, h.Origin(), "jazz")
	req := musen.AddRequest{Station: "jazz", ExpiresAt: h.Clock.Now().Add(time.Hour)}
	s, _, err := h.Origin().Add(t.Context(), req, bytes.NewReader(wav(1, 1000)))
	must(t, err)
	h.Clock.Forward(2 * time.Hour)
	_, err = h.Edge(t).Open(t.Context(), policy.LocalOperator(), policy.Listen, s.CID)
	wantErr(t, err, musen.ErrExpired)
	wantErr(t, err, musen.ErrGone)
}
