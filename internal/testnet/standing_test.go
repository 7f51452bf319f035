package testnet_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/host/local"
	"github.com/musenai/musen/internal/swarm"
	"github.com/musenai/musen/internal/testnet"
	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/member"
)

// stands waits until a host is told a standing, for a reason, after an outcome.
func stands(t *testing.T, h *testnet.Host, is audit.Standing, why string, last audit.Outcome) local.Standing {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		s, err := h.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if st := s.Standing; st != nil && st.Is == string(is) && st.Reason == why && st.Audit == string(last) {
			return *st
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("never %s, %q, %s: %+v", is, why, last, s.Standing)
		}
	}
}

// A host is told what the origin thinks of it, and why, as it changes.
func TestAHostKnowsItsStanding(t *testing.T) {
	t.Parallel()
	o := testnet.NewOrigin(t, func(s *swarm.Options) { s.Copies.Cycle = 1000 * time.Hour }) // no audit but the first
	station := o.Station(t, "jazz", musen.Replication{Min: 1, Max: 1, Community: 1})
	h := testnet.Join(t, o, member.Replica, "one", contract.Contract{Disk: 64 << 20})
	if st := stands(t, h, audit.New, "", ""); st.Since != nil || st.Audited != nil {
		t.Errorf("before the first audit: %+v", st)
	}

	s, _, err := o.Adds.Add(t.Context(), musen.AddRequest{Station: station.ID, Title: "song"}, bytes.NewReader(wave(100<<10)))
	if err != nil {
		t.Fatal(err)
	}
	if st := stands(t, h, audit.New, "", audit.Proved); st.Since == nil || st.Audited == nil {
		t.Errorf("after it: %+v", st)
	}
	durable(t, o, s.CID)

	standings, id := o.Swarm.Standings(), peerOf(t, h)
	record := func(outcome audit.Outcome, n int) {
		t.Helper()
		for range n {
			if _, err := standings.Record(t.Context(), id, time.Now(), outcome); err != nil {
				t.Fatal(err)
			}
		}
	}
	record(audit.Wrong, 1)
	stands(t, h, audit.Warned, "a wrong answer", audit.Wrong)
	record(audit.Proved, 20)
	stands(t, h, audit.Good, "proved 20 answers in a row", audit.Proved)
	record(audit.Missing, 3)
	stands(t, h, audit.Warned, "3 missing or late answers of the last 3", audit.Missing)
	record(audit.Late, 1)
	stands(t, h, audit.Warned, "3 missing or late answers of the last 3", audit.Late)
	record(audit.Offline, 1)
	stands(t, h, audit.Warned, "3 missing or late answers of the last 3", audit.Offline)
	if _, err := o.Swarm.Reinstate(t.Context(), "one", "a new disk"); err != nil {
		t.Fatal(err)
	}
	stands(t, h, audit.New, "a new disk", "")

	h.Stop(t)
	h.Start(t)
	stands(t, h, audit.New, "a new disk", "")
}

func peerOf(t *testing.T, h *testnet.Host) peer.ID {
	t.Helper()
	s, err := h.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.Decode(s.PeerID)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// What audits showed until the end of the origin is known after it.
func TestStandingsOutliveTheOrigin(t *testing.T) {
	t.Parallel()
	o := testnet.NewOrigin(t, func(s *swarm.Options) { s.Copies.Cycle = 1000 * time.Hour })
	id := peerOf(t, testnet.Join(t, o, member.Storage, "one", contract.Contract{}))
	for range 3 {
		if _, err := o.Swarm.Standings().Record(t.Context(), id, time.Now(), audit.Proved); err != nil {
			t.Fatal(err)
		}
	}
	before := o.Swarm.Standings().Get(id)
	if err := o.Swarm.Close(); err != nil {
		t.Fatal(err)
	}
	after, err := audit.OpenStandings(t.Context(), o.Node.Store(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if c := after.Get(id); c.Recent != before.Recent || !c.Last.Equal(before.Last) || c.Last.IsZero() {
		t.Errorf("%+v, was %+v", c, before)
	}
}
