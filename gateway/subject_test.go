package gateway

import (
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
)

// P39: who is suspended is refused with a code of its own, whatever is asked
// for, and let in again when that is taken back.
func TestSuspendedSubjects(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(1000))
	s := r.serve(nil)
	raw, _ := r.tokenFor("ann", "jazz")
	paths := []string{"/listen/" + seg.CID.String(), "/listen/" + unknownCID(cid.Raw).String(), "/listen/x"}
	for _, state := range []policy.SubjectState{policy.SubjectSuspended, policy.SubjectEnded} {
		r.setSubject("ann", state)
		for _, path := range paths {
			a := s.ask("GET", path, "Authorization", "Bearer "+raw)
			if a.StatusCode != 403 || !strings.Contains(string(a.body), `"code":"subject_suspended"`) {
				t.Errorf("%s, %s: %d %s", state, path, a.StatusCode, a.body)
			}
		}
		s.wantStatus(s.ask("GET", paths[0], "Authorization", "Bearer "+r.token()), 200, "another subject")
	}
	for _, state := range []policy.SubjectState{policy.SubjectLimited, policy.SubjectActive} {
		r.setSubject("ann", state)
		s.wantStatus(s.ask("GET", paths[0], "Authorization", "Bearer "+raw), 200, string(state))
	}
}

// P18, P39: what plays is cut when its subject is suspended.
func TestSuspensionCutsAStream(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(600_000))
	s := r.serve(nil)
	raw, _ := r.tokenFor("ann", "jazz")
	r.hook(func(_ cid.Cid, off int64) error {
		r.clock.Add(time.Minute)
		if off >= 65536 {
			r.setSubject("ann", policy.SubjectSuspended)
		}
		return nil
	})
	a := s.ask("GET", "/listen/"+seg.CID.String(), "Authorization", "Bearer "+raw)
	if a.err == nil || len(a.body) > 200_000 {
		t.Errorf("%d bytes, %v", len(a.body), a.err)
	}
}

// P39: who is limited plays once at a time.
func TestStreamsOfLimitedSubjects(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(1000))
	h := newHeld(FromEdge(r.edge))
	s := r.serve(func(o *Options) { o.Opener = h })
	raw, _ := r.tokenFor("ann", "jazz")
	r.setSubject("ann", policy.SubjectLimited)
	ask := func() answer { return s.ask("GET", "/listen/"+seg.CID.String(), "Authorization", "Bearer "+raw) }
	first := make(chan answer)
	go func() { first <- ask() }()
	<-h.opened
	s.wantStatus(ask(), 429, "a second stream")
	close(h.release)
	s.wantStatus(<-first, 200, "the first stream")
}

// P39: who is limited plays slowly.
func TestPaceOfLimitedSubjects(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(1000))
	s := r.serve(func(o *Options) { o.Rates = Rates{Limited: 2, Burst: time.Second} })
	raw, _ := r.tokenFor("ann", "jazz")
	r.setSubject("ann", policy.SubjectLimited)
	ask := func() answer { return s.ask("GET", "/listen/"+seg.CID.String(), "Authorization", "Bearer "+raw) }
	for range 2 {
		s.wantStatus(ask(), 200, "within the burst")
	}
	s.wantStatus(ask(), 429, "beyond it")
	s.clock.Add(time.Second)
	s.wantStatus(ask(), 200, "a second later")
	r.setSubject("ann", policy.SubjectActive)
	for range 10 {
		s.wantStatus(ask(), 200, "active again")
	}
}
