package control

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/member"
)

// A judge says what a test wants about one peer.
type judge struct {
	w     watch
	about map[peer.ID]Regard
}

func newJudge() *judge { return &judge{about: map[peer.ID]Regard{}} }

func (j *judge) say(p peer.ID, r Regard) { j.w.do(func() { j.about[p] = r }) }

func (j *judge) regard(p peer.ID) (r Regard) {
	j.w.do(func() { r = j.about[p] })
	return r
}

func TestAPeerIsToldItsStanding(t *testing.T) {
	j := newJudge()
	with := func(so *ServerOptions) { so.Heartbeat, so.Regard = 50*time.Millisecond, j.regard }
	o, one, two := newOrigin(t, with), newHost(t), newHost(t)
	for _, h := range []peer.ID{one.ID(), two.ID()} {
		o.members.set(h, member.Replica)
	}
	at := time.Date(2030, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))
	second := at.UTC().Truncate(time.Second)
	j.say(one.ID(), Regard{Standing: "new", Since: at})
	c, d := startClient(t, one, o), startClient(t, two, o)
	poll(t, "the standing after the welcome", func() bool { return c.Status().Regard == Regard{Standing: "new", Since: second} })

	j.say(one.ID(), Regard{Standing: "good", Since: at, Reason: "proved\n20 answers" + strings.Repeat("!", 300), Audit: "proved", Audited: at})
	poll(t, "a change", func() bool { return c.Status().Regard.Standing == "good" })
	want := Regard{Standing: "good", Since: second, Reason: ("proved 20 answers" + strings.Repeat("!", 300))[:maxReason], Audit: "proved", Audited: second}
	if got := c.Status().Regard; got != want {
		t.Errorf("told %+v", got)
	}
	if got := d.Status().Regard; got != (Regard{}) {
		t.Errorf("another peer was told %+v", got)
	}

	_ = o.Close()
	poll(t, "the line is down", func() bool { return !c.Status().Up })
	if got := c.Status().Regard; got != want {
		t.Errorf("with the line down: %+v", got)
	}
	j.say(one.ID(), Regard{Standing: "warned", Since: at, Reason: "a wrong answer"})
	o.start(t, with)
	poll(t, "the standing after the line came back", func() bool { return c.Status().Regard.Standing == "warned" })
}

// What does not change is told once for each line.
func TestAStandingIsToldOnce(t *testing.T) {
	o, h := newOrigin(t, func(so *ServerOptions) {
		so.Heartbeat = 20 * time.Millisecond
		so.Regard = func(peer.ID) Regard { return Regard{Standing: "good"} }
	}), newHost(t)
	o.members.set(h.ID(), member.Storage)
	s := greeted(t, h, o)
	told := 0
	for range 20 {
		if f := s.read(); f.Regard != nil {
			told++
		}
		s.send(up{})
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}

func TestStandingsThatAreRefused(t *testing.T) {
	for what, r := range map[string]Regard{
		"long word":     {Standing: strings.Repeat("x", maxWord+1)},
		"long outcome":  {Audit: strings.Repeat("x", maxWord+1)},
		"long reason":   {Reason: strings.Repeat("x", maxReason+1)},
		"terminal code": {Reason: "\x1b[2J"},
		"year":          {Since: time.Date(9500, 1, 1, 0, 0, 0, 0, time.UTC)},
		"audit's year":  {Audited: time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		if err := (down{Regard: &r}).check(false); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
		if err := (down{Regard: new(Regard)}).check(false); err != nil {
			t.Errorf("%s, fitted: %v", what, err)
		}
		if err := r.fit().check(); err != nil {
			t.Errorf("%s, fitted: %v", what, err)
		}
	}
	if err := (down{Welcome: &welcome{}, Regard: &Regard{}}).check(true); !errors.Is(err, ErrInvalid) {
		t.Errorf("in the first frame: %v", err)
	}
}
