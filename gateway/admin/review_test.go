package admin

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/gateway/admin/wire/access"
	"github.com/musenai/musen/policy"
)

var _ Reviews = (*memory)(nil)

func (m *memory) PutReview(_ context.Context, v musen.Review) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reviews = append([]musen.Review{v}, m.reviews...)
	return nil
}

func (m *memory) Reviews(_ context.Context, of string) ([]musen.Review, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.reviews), func(v musen.Review) bool { return v.Of != of }), nil
}

func (m *memory) LastUsed(id string) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used[id]
}

// Use implements policy.Uses.
func (m *memory) Use(id string, _ time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.noted == nil {
		m.noted = map[string]bool{}
	}
	m.noted[id] = true
	return m.Usable(id, time.Time{})
}

func (m *memory) Usable(id string, _ time.Time) bool { return id != m.unused }

func (m *memory) Unfollowed() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.unfollowed
}

// P35: it is shown when more credentials are in use than are followed.
func TestUnfollowedUsesAreShown(t *testing.T) {
	w := newWorld(t, nil)
	w.unfollowed = w.now()
	status, err := w.local.Status(t.Context())
	if err != nil || len(status.Warnings) != 1 || !strings.Contains(status.Warnings[0], "policy.disable_unused") {
		t.Errorf("%v, %v", status.Warnings, err)
	}
}

// P34: a review says who holds what, what is too wide and what is not used; it
// is signed for just what was shown; and it is told when it is overdue.
func TestAccessReview(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Limits.ReviewEvery = 40 * 24 * time.Hour })
	ctx := t.Context()
	w.station("jazz")
	w.give("ann", policy.Operator, "")
	wide, err := w.local.IssueToken(ctx, wire.TokenRequest{Subject: "service:x", Actions: []string{"manage"}, TTL: 300 * 24 * 3600})
	must(t, err)
	narrow, err := w.local.IssueToken(ctx, wire.TokenRequest{Subject: "service:y", Actions: []string{"add"}, Stations: []string{"jazz"}, TTL: 60 * 24 * 3600})
	must(t, err)
	_, err = w.local.CreateShare(ctx, "jazz", wire.NewShare{TTL: 100 * 24 * 3600})
	must(t, err)
	w.mu.Lock()
	w.used = map[string]time.Time{wide.ID: w.now()}
	w.mu.Unlock()
	w.clock.Store(35 * 24 * 3600)

	r, err := w.local.AccessReport(ctx)
	must(t, err)
	findings := func(kind, id string) string {
		for _, h := range r.Holdings {
			if h.Kind == kind && (h.ID == id || id == "") {
				return h.Where + ": " + strings.Join(h.Findings, ", ")
			}
		}
		return "not there"
	}
	for got, want := range map[string]string{
		findings("token", wide.ID): "everywhere: may manage everything, lives long, unused for 35 days", findings("token", narrow.ID): "jazz: never used",
		findings("role", ""): "everywhere: may manage everything, has no end",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if s := findings("share", ""); !strings.HasPrefix(s, "jazz: no password") {
		t.Errorf("share %q", s)
	}
	status, err := w.local.Status(ctx)
	if err != nil || len(status.Warnings) != 0 {
		t.Errorf("before it is due: %v, %v", status.Warnings, err)
	}
	w.clock.Add(6 * 24 * 3600)
	if status, err = w.local.Status(ctx); err != nil || len(status.Warnings) != 1 || !strings.Contains(status.Warnings[0], "review of access is due") {
		t.Errorf("when it is due: %v, %v", status.Warnings, err)
	}

	_, err = w.local.SignOff(ctx, access.SignOff{Reviewer: "", Digest: r.Digest})
	refused(t, err, 422, "invalid")
	_, err = w.local.SignOff(ctx, access.SignOff{Reviewer: "Ann", Digest: strings.Repeat("0", 64)})
	refused(t, err, 409, "report_changed")
	r, err = w.local.AccessReport(ctx)
	must(t, err)
	w.give("bob", policy.Support, "")
	_, err = w.local.SignOff(ctx, access.SignOff{Reviewer: "Ann", Digest: r.Digest})
	refused(t, err, 409, "report_changed")
	r, err = w.local.AccessReport(ctx)
	must(t, err)
	v, err := w.local.SignOff(ctx, access.SignOff{Reviewer: "Ann", Digest: r.Digest})
	must(t, err)
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(v.Signature, ".")[1])
	must(t, err)
	var signed access.Review
	must(t, json.Unmarshal(payload, &signed))
	if signed.Reviewer != "Ann" || signed.Digest != r.Digest || signed.ID != v.ID || !signed.Made.Equal(w.now()) {
		t.Errorf("signed %+v", signed)
	}
	if _, err := w.verifier.Token(v.Signature); err == nil {
		t.Error("a signed record is a token")
	}
	if status, err = w.local.Status(ctx); err != nil || len(status.Warnings) != 0 {
		t.Errorf("after it: %v, %v", status.Warnings, err)
	}
	if r, err = w.local.AccessReport(ctx); err != nil || r.Last == nil || r.Last.ID != v.ID {
		t.Errorf("the last: %+v, %v", r.Last, err)
	}
}

// P34: every right to run something is too wide when it is held everywhere.
func TestReviewTellsWhatIsTooWide(t *testing.T) {
	for actions, want := range map[string]string{
		"listen download add host releaseKey": "", "manage": "may manage everything", "manageRoles": "may manageRoles everywhere",
		"revoke listen manage audit": "may manage everything, may revoke, audit everywhere",
	} {
		if got := strings.Join(tooWide(strings.Fields(actions)), ", "); got != want {
			t.Errorf("%s: %q, want %q", actions, got, want)
		}
	}
	w := newWorld(t, nil)
	w.station("jazz")
	for _, stations := range [][]string{nil, {"jazz"}} {
		_, err := w.local.IssueToken(t.Context(), wire.TokenRequest{Subject: "bob", Actions: []string{"moderate"}, Stations: stations, TTL: 60})
		must(t, err)
	}
	r, err := w.local.AccessReport(t.Context())
	must(t, err)
	for _, h := range r.Holdings {
		if got := strings.Join(h.Findings, ", "); (got == "may moderate everywhere") != (h.Where == "everywhere") {
			t.Errorf("%+v", h)
		}
	}
}
