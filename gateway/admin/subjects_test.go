package admin

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/policy"
)

var (
	_ Subjects        = (*memory)(nil)
	_ policy.Subjects = (*memory)(nil)
)

func (m *memory) RevokeSubject(ctx context.Context, subject string) error {
	return m.RevokeToken(ctx, "subject "+subject)
}

func (m *memory) SetSubject(_ context.Context, s musen.Subject) error {
	defer m.lock()()
	m.subjects[s.Name] = s
	return nil
}

func (m *memory) Subject(_ context.Context, name string) (musen.Subject, error) {
	defer m.lock()()
	s, ok := m.subjects[name]
	if !ok {
		return s, musen.ErrNotFound
	}
	return s, nil
}

func (m *memory) Subjects(context.Context) ([]musen.Subject, error) {
	defer m.lock()()
	var all []musen.Subject
	for _, s := range m.subjects {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b musen.Subject) int { return b.Changed.Compare(a.Changed) })
	return all, nil
}

func (m *memory) SubjectState(name string) policy.SubjectState {
	defer m.lock()()
	return cmp.Or(m.subjects[name].State, policy.SubjectActive)
}

// P39: a subject is suspended with a reason, gets nothing any more, and can be
// let in again.
func TestStatesOfSubjects(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	jazz := w.station("jazz")
	id, err := cid.Decode(w.segment("jazz", "one").CID)
	must(t, err)
	issue := func() error {
		_, err := w.local.IssueToken(ctx, wire.TokenRequest{Subject: "ann", Stations: []string{jazz.ID}, Actions: []string{"listen"}})
		return err
	}
	must(t, issue())
	ann, err := w.local.Subject(ctx, "ann")
	if must(t, err); ann.State != "active" || !ann.Changed.IsZero() {
		t.Errorf("by default: %+v", ann)
	}
	operator := w.remote(w.token(nil, policy.Manage, policy.Audit)) // of ann herself
	for _, state := range []string{"suspended", "ended"} {
		set, err := w.local.SetSubject(ctx, wire.SubjectChange{Subject: "ann", State: state, Reason: "scraping"})
		if must(t, err); set.State != state || set.Reason != "scraping" || set.Actor != "local" || set.Changed.IsZero() {
			t.Errorf("set %+v", set)
		}
		refused(t, issue(), 422, "invalid")
		_, err = w.local.Link(ctx, id, wire.LinkRequest{Subject: "ann"})
		refused(t, err, 422, "invalid")
		_, err = operator.Status(ctx)
		refused(t, err, 403, "subject_suspended")
		if all, err := w.local.Subjects(ctx); err != nil || len(all) != 1 || all[0] != set {
			t.Errorf("listed %+v, %v", all, err)
		}
	}
	set, err := w.local.SetSubject(ctx, wire.SubjectChange{Subject: "ann", State: "limited", Reason: "again"})
	must(t, err)
	must(t, issue())
	if ann, err = w.local.Subject(ctx, "ann"); err != nil || ann != set {
		t.Errorf("shown %+v, %v", ann, err)
	}
	_, err = operator.SetSubject(ctx, wire.SubjectChange{Subject: "ann", State: "ended", Reason: "oops"})
	refused(t, err, 422, "invalid")
	for _, bad := range []wire.SubjectChange{
		{}, {Subject: "ann", State: "banned", Reason: "x"}, {Subject: "ann", State: "ended"}, {Subject: "local", State: "ended", Reason: "x"},
		{Subject: "a\nb", State: "ended", Reason: "x"}, {Subject: "ann", State: "ended", Reason: "a\u202eb"},
		{Subject: strings.Repeat("x", 257), State: "ended", Reason: "x"}, {Subject: "ann", State: "ended", Reason: strings.Repeat("x", 1001)},
	} {
		_, err := w.local.SetSubject(ctx, bad)
		refused(t, err, 422, "invalid")
	}
	if regexp.MustCompile(`\bann\b`).MatchString(w.log.String()) {
		t.Errorf("the log names a subject: %s", w.log.String())
	}
}

// P61: what looks like abuse is listed.
func TestAlerts(t *testing.T) {
	w := newWorld(t, nil)
	if all, err := w.local.Alerts(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("at the beginning: %+v, %v", all, err)
	}
	for range 3 {
		w.watch.Guessed("x")
	}
	want := wire.Alert{Rule: "guesses", At: w.now().UTC(), Count: 2, Threshold: 1, Window: 600, Share: "x"}
	if all, err := w.local.Alerts(t.Context()); err != nil || len(all) != 1 || all[0] != want {
		t.Errorf("listed %+v, %v, want %+v", all, err, want)
	}
}
