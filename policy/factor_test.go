package policy_test

import (
	"testing"
	"time"
)

// P28: a second factor counts from when it was shown, and one that will be shown
// does not.
func TestForeignSecondFactor(t *testing.T) {
	p := newPlatforms(t, nil)
	type m = map[string]any
	shown := p.now.Unix() - 60
	for what, c := range map[string]struct {
		claims m
		want   time.Time
	}{
		"shown":          {m{"amr": []string{"pwd", "otp"}, "auth_time": shown}, time.Unix(shown, 0)},
		"at login":       {m{"amr": []string{"mfa"}, "auth_time": p.now.Unix()}, p.now},
		"in an hour":     {m{"amr": []string{"mfa"}, "auth_time": p.now.Unix() + 3600}, time.Time{}},
		"one factor":     {m{"amr": []string{"pwd"}, "auth_time": shown}, time.Time{}},
		"no time":        {m{"amr": []string{"mfa"}}, time.Time{}},
		"amr as text":    {m{"amr": "mfa", "auth_time": shown}, time.Time{}},
		"amr of numbers": {m{"amr": []any{"mfa", 1}, "auth_time": shown}, time.Time{}},
		"time as text":   {m{"amr": []string{"mfa"}, "auth_time": "1"}, time.Time{}},
	} {
		g, err := p.verifier.Token(p.signed(t, acme, rs256(), with(p.foreign(acme), c.claims)))
		must(t, err)
		if !g.SecondFactor().Equal(c.want) {
			t.Errorf("%s: shown at %v, want %v", what, g.SecondFactor(), c.want)
		}
	}
}
