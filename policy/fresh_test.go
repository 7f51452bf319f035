package policy_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/musenai/musen/policy"
)

// P17: revoking a subject ends what was issued before, to the end of the
// second, and nothing that is issued after it.
func TestFresh(t *testing.T) {
	w := newWorld(t)
	w.now = w.now.Add(300 * time.Millisecond)
	var waits []time.Duration
	w.options.After = func(d time.Duration) <-chan time.Time {
		waits = append(waits, d)
		w.now = w.now.Add(d)
		over := make(chan time.Time)
		close(over)
		return over
	}
	v, err := policy.NewVerifier(w.options)
	must(t, err)
	if must(t, v.Fresh(t.Context(), "ann")); len(waits) > 0 {
		t.Errorf("a subject that was never revoked waits %v", waits)
	}
	w.registry.subjects["ann"] = w.now
	must(t, v.Fresh(t.Context(), "ann"))
	if len(waits) != 1 || waits[0] != 700*time.Millisecond {
		t.Errorf("waits %v", waits)
	}
	raw, _, _, err := w.issuer.Token(policy.TokenRequest{Subject: "ann", Actions: []policy.Action{policy.Listen}, TTL: time.Hour})
	must(t, err)
	if _, err := v.Token(raw); err != nil {
		t.Errorf("what is issued then: %v", err)
	}
	w.registry.subjects["ann"] = w.now.Add(time.Hour)
	if _, ok := errors.AsType[*policy.RequestError](v.Fresh(t.Context(), "ann")); !ok || len(waits) > 6 {
		t.Errorf("revoked by a clock that is an hour ahead: waits %v", waits)
	}
}

func TestFreshEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	w.options.After = func(time.Duration) <-chan time.Time { return nil }
	v, err := policy.NewVerifier(w.options)
	must(t, err)
	w.registry.subjects["ann"] = w.now
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := v.Fresh(ctx, "ann"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
