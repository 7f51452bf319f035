package testnet

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/swarm"
	"github.com/musenai/musen/internal/wants"
	"github.com/musenai/musen/pin"
	"github.com/musenai/musen/pin/keep"
	"github.com/musenai/musen/pin/member"
)

// An Origin is a home that peers can join: its swarm runs, by the real clock,
// with short intervals.
type Origin struct {
	*Home
	Swarm *swarm.Swarm
	Adds  *musen.Origin
}

// NewOrigin makes a home with a swarm, which ends with the test; change edits
// how the swarm is started.
func NewOrigin(t testing.TB, change ...func(*swarm.Options)) *Origin {
	t.Helper()
	s := swarm.New()
	o := &Origin{Home: New(t, s.Guard), Swarm: s}
	opts := swarm.Options{
		Realm: "test", Site: "home", Catalogue: wants.New(o.Rows),
		Pinset:   pin.Timing{Ping: time.Second, Check: time.Second, Rebroadcast: 2 * time.Second, BatchAge: 50 * time.Millisecond},
		Copies:   keep.Timing{Pass: time.Second, Cycle: time.Minute, TrustedGrace: 3 * time.Second, StartGrace: time.Second, Retry: 200 * time.Millisecond},
		Deadline: 2 * time.Second, Now: time.Now, Rand: rand.Reader, Log: o.Log,
	}
	for _, c := range change {
		c(&opts)
	}
	must(t, s.Start(t.Context(), o.Node, opts))
	t.Cleanup(func() { must(t, s.Close()) })
	o.Adds = o.Origin()
	o.Adds.Copies = wants.Copies(s.Keeper())
	return o
}

// Edge makes an Edge of the home's stores that tells the swarm how the origin's
// own copies are.
func (o *Origin) Edge(t testing.TB) *musen.Edge {
	t.Helper()
	opts := o.EdgeOptions()
	opts.Damaged, opts.Sound = o.Swarm.Keeper().Found, o.Swarm.Keeper().Sound
	e, err := musen.NewEdge(opts)
	must(t, err)
	return e
}

// Station makes a station that wants copies.
func (o *Origin) Station(t testing.TB, name string, r musen.Replication) musen.Station {
	t.Helper()
	st, err := o.Adds.CreateStation(t.Context(), musen.Station{Name: name, Replication: r})
	must(t, err)
	return st
}

// Invite is the text of an invitation.
func (o *Origin) Invite(t testing.TB, role member.Role, name string) string {
	t.Helper()
	i, err := o.Swarm.Invite(t.Context(), member.InviteRequest{Role: role, Name: name, Site: "site-" + name})
	must(t, err)
	return i.String()
}
