package admin

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/policy"
	"github.com/musenai/musen/policy/folder"
)

func TestExplain(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	jazz := w.station("jazz")
	w.station("rock")
	later, err := w.local.Add(ctx, "jazz", client.Upload{Audio: bytes.NewReader(wav("later", 3000)), PublishAt: w.now().Add(time.Hour)})
	must(t, err)
	listen := []string{"listen"}
	for name, c := range map[string]struct {
		q       wire.Question
		allowed bool
	}{
		"covered":       {wire.Question{Action: "listen", Station: "jazz", Subject: "ann", Actions: listen, Stations: []string{"jazz"}}, true},
		"everywhere":    {wire.Question{Action: "listen", Station: "jazz", Subject: "ann", Actions: listen}, true},
		"not covered":   {wire.Question{Action: "listen", Station: "rock", Subject: "ann", Actions: listen, Stations: []string{"jazz"}}, false},
		"other action":  {wire.Question{Action: "add", Station: "jazz", Subject: "ann", Actions: listen}, false},
		"not published": {wire.Question{Action: "listen", Station: jazz.ID, CID: later.CID, Subject: "ann", Actions: listen}, false},
		"token":         {wire.Question{Action: "manage", Station: "jazz", Token: w.token(nil, policy.Manage)}, true},
		"node":          {wire.Question{Action: "manage", Token: w.token([]string{jazz.ID}, policy.Manage)}, false},
	} {
		e, err := w.local.Explain(ctx, c.q)
		if must(t, err); e.Allowed != c.allowed || e.Reason == "" || e.Allowed && len(e.Policies) == 0 {
			t.Errorf("%s: %+v", name, e)
		}
	}
	for name, q := range map[string]wire.Question{
		"no action": {Station: "jazz", Subject: "ann", Actions: listen}, "no bearer": {Action: "listen", Station: "jazz"},
		"two bearers": {Action: "listen", Token: "x", Subject: "ann"},
	} {
		_, err := w.local.Explain(ctx, q)
		if e, ok := errors.AsType[*client.Error](err); !ok || e.Status != 422 {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = w.local.Explain(ctx, wire.Question{Action: "listen", Token: "x"})
	if refused(t, err, 422, "invalid"); !strings.Contains(err.Error(), "credential_malformed: too long, or not of three parts") {
		t.Errorf("a bad token: %v", err)
	}
	_, err = w.local.Explain(ctx, wire.Question{Action: "listen", Station: "rock", CID: later.CID, Subject: "ann", Actions: listen})
	refused(t, err, 404, "not_found")
	if strings.Contains(w.log.String(), "eyJ") {
		t.Error("a token is in the log")
	}
	if len(w.noted) != 0 {
		t.Errorf("to ask about tokens was noted as a use of %d", len(w.noted))
	}
}

// P35: who asks about a token that is refused for want of use is told so.
func TestExplainUnused(t *testing.T) {
	w := newWorld(t, nil)
	token, err := w.local.IssueToken(t.Context(), wire.TokenRequest{Subject: "ann", Actions: []string{"listen"}, TTL: 3600})
	must(t, err)
	w.unused = token.ID
	_, err = w.local.Explain(t.Context(), wire.Question{Action: "listen", Token: token.Token})
	if refused(t, err, 422, "invalid"); !strings.Contains(err.Error(), "not used for too long") {
		t.Error(err)
	}
}

// H13: the log of an operator who looks closely says why a token is refused on
// this API, and nothing of the token.
func TestRefusedTokenIsExplainedInTheLog(t *testing.T) {
	w := newWorld(t, nil)
	raw := w.token(nil, policy.Manage)
	w.clock.Add(3 * 24 * 3600)
	_, err := w.remote(raw).Status(t.Context())
	refused(t, err, 401, "credential_expired")
	log := w.log.String()
	if !strings.Contains(log, `"msg":"credential refused"`) || !strings.Contains(log, `"code":"credential_expired","why":"expired"`) || strings.Contains(log, raw[:8]) {
		t.Errorf("logged: %s", log)
	}
}

// lostPolicies are policies of which some are gone.
type lostPolicies struct {
	PolicyFiles
	acknowledged bool
}

func (l *lostPolicies) State() folder.State {
	st := l.PolicyFiles.State()
	if !l.acknowledged {
		st.LostFiles, st.LostForbids = []string{"night.cedar"}, []string{"night"}
	}
	return st
}

func (l *lostPolicies) ReloadOnly(string) error {
	l.acknowledged = true
	return nil
}

// P64: policies that were taken away are shown, until they are loaded again with
// nothing changed.
func TestLostPoliciesAreShown(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Policies = &lostPolicies{PolicyFiles: o.Policies} })
	ctx := t.Context()
	warned := func() bool {
		st, err := w.local.Status(ctx)
		must(t, err)
		return len(st.Warnings) == 1 && strings.Contains(st.Warnings[0], "the files night.cedar, and the policies that forbid night")
	}
	if !warned() {
		t.Error("the status does not tell")
	}
	if st, err := w.local.ReloadPolicy(ctx); err != nil || len(st.LostFiles) != 1 || len(st.LostForbids) != 1 {
		t.Errorf("what is acknowledged is not shown: %+v, %v", st, err)
	}
	if st, err := w.local.PolicyState(ctx); err != nil || st.Lost() != "" || warned() {
		t.Errorf("afterwards: %+v, %v", st, err)
	}
}
