package catalog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
)

func testTokens(t *testing.T, f *fixture) {
	ctx := t.Context()
	a := musen.Token{ID: "a", Subject: "listener@example.org", Stations: []string{newID(), newID()}, Actions: []string{"listen", "download"},
		Issued: f.clock.Now(), Expires: f.clock.Now().Add(time.Hour)}
	b := musen.Token{ID: "b", Subject: "service", Actions: []string{"add"}, Issued: f.clock.Now().Add(time.Second), Expires: f.clock.Now().Add(time.Hour)}
	noErr(t, f.PutToken(ctx, a))
	noErr(t, f.PutToken(ctx, b))
	wantErr(t, f.PutToken(ctx, a), musen.ErrExists)
	wantErr(t, f.PutToken(ctx, musen.Token{}), musen.ErrInvalid)
	wantErr(t, f.PutToken(ctx, musen.Token{ID: strings.Repeat("x", 1<<16)}), musen.ErrInvalid)
	for range 2 {
		all, err := f.Tokens(ctx)
		noErr(t, err)
		if got, want := fmt.Sprintf("%+v", all), fmt.Sprintf("%+v", []musen.Token{b, a}); got != want {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
		f.reopen()
	}
}

// P35: who issued a token is on record, and all that somebody issued is revoked
// together, in the records too.
func testTokensOfAnIssuer(t *testing.T, f *fixture) {
	ctx, now := t.Context(), f.clock.Now()
	for id, issuer := range map[string]string{"a": "ann", "b": "sue", "c": ""} {
		noErr(t, f.PutToken(ctx, musen.Token{ID: id, Subject: "ann", Issuer: issuer, Issued: now, Expires: now.Add(time.Hour)}))
	}
	noErr(t, f.RevokeSubject(ctx, policy.IssuedBy("ann")))
	for range 2 {
		if !f.Revoked("", policy.IssuedBy("ann"), now) || f.Revoked("a", "ann", now) || f.Revoked("", policy.IssuedBy("sue"), now) {
			t.Fatal("other than all that ann issued is revoked")
		}
		all, err := f.Tokens(ctx)
		noErr(t, err)
		for _, token := range all {
			if want := map[string]string{"a": "ann", "b": "sue"}[token.ID]; token.Issuer != want || token.Revoked.IsZero() != (token.ID != "a") {
				t.Errorf("%+v, want issued by %q", token, want)
			}
		}
		f.reopen()
	}
}

// A key that was revoked stays so, and no other is.
func testRevokeKey(t *testing.T, f *fixture) {
	ctx := t.Context()
	noErr(t, f.RevokeKey(ctx, "acme|k1"))
	noErr(t, f.RevokeKey(ctx, "acme|k1"))
	noErr(t, f.RevokeKey(ctx, "0123456789abcdef"))
	wantErr(t, f.RevokeKey(ctx, ""), musen.ErrInvalid)
	for range 2 {
		for key, want := range map[string]bool{"acme|k1": true, "0123456789abcdef": true, "k1": false, "other|k1": false, "": false} {
			if f.KeyRevoked(key) != want {
				t.Fatalf("revoked %q is not %v", key, want)
			}
		}
		if got := f.RevokedKeys(); !slices.Equal(got, []string{"0123456789abcdef", "acme|k1"}) {
			t.Fatalf("revoked keys are %q", got)
		}
		f.reopen()
	}
}

func testRevokeToken(t *testing.T, f *fixture) {
	ctx := t.Context()
	issued := f.clock.Now()
	noErr(t, f.PutToken(ctx, musen.Token{ID: "a", Subject: "s", Issued: issued, Expires: issued.Add(time.Hour)}))
	f.clock.forward(time.Minute)
	noErr(t, f.RevokeToken(ctx, "a"))
	noErr(t, f.RevokeToken(ctx, "a"))
	noErr(t, f.RevokeToken(ctx, "of another issuer"))
	wantErr(t, f.RevokeToken(ctx, ""), musen.ErrInvalid)
	for range 2 {
		for id, want := range map[string]bool{"a": true, "of another issuer": true, "b": false, "": false} {
			if f.Revoked(id, "s", issued) != want {
				t.Fatalf("revoked %q is not %v", id, want)
			}
		}
		all, err := f.Tokens(ctx)
		noErr(t, err)
		if !all[0].Revoked.Equal(f.clock.Now()) {
			t.Fatalf("revoked at %s", all[0].Revoked)
		}
		f.reopen()
	}
}

func testRevokeSubject(t *testing.T, f *fixture) {
	ctx := t.Context()
	now := f.clock.Now()
	noErr(t, f.PutToken(ctx, musen.Token{ID: "a", Subject: "s", Issued: now, Expires: now.Add(time.Hour)}))
	noErr(t, f.RevokeSubject(ctx, "s"))
	wantErr(t, f.RevokeSubject(ctx, ""), musen.ErrInvalid)
	for range 2 {
		for issued, want := range map[time.Time]bool{
			now.Add(-time.Hour): true, now: true, now.Truncate(time.Second): true,
			now.Truncate(time.Second).Add(999 * time.Millisecond): true, // tokens tell whole seconds
			now.Truncate(time.Second).Add(time.Second):            false,
		} {
			if f.Revoked("any", "s", issued) != want {
				t.Fatalf("issued %s: revoked is not %v", issued, want)
			}
			if f.Revoked("any", "another", issued) || f.Revoked("", "", issued) {
				t.Fatal("another subject is revoked")
			}
		}
		all, err := f.Tokens(ctx)
		noErr(t, err)
		if !all[0].Revoked.Equal(now) {
			t.Fatalf("revoked at %s", all[0].Revoked)
		}
		f.reopen()
	}
	f.clock.forward(time.Minute)
	noErr(t, f.RevokeSubject(ctx, "s")) // once more, for what came since
	if !f.Revoked("any", "s", now.Add(30*time.Second)) {
		t.Fatal("the second revocation has no effect")
	}
}

func testIdempotency(t *testing.T, f *fixture) {
	ctx := t.Context()
	_, found, err := f.Idempotent(ctx, "k", []byte("digest"))
	if err != nil || found {
		t.Fatalf("before: %v, %v", found, err)
	}
	noErr(t, f.PutIdempotent(ctx, "k", []byte("digest"), []byte("answer"), f.clock.Now().Add(time.Hour)))
	wantErr(t, f.PutIdempotent(ctx, "k", []byte("digest"), []byte("late"), f.clock.Now().Add(time.Hour)), musen.ErrExists)
	for range 2 {
		got, found, err := f.Idempotent(ctx, "k", []byte("digest"))
		if err != nil || !found || !bytes.Equal(got, []byte("answer")) {
			t.Fatalf("got %q, %v, %v", got, found, err)
		}
		_, _, err = f.Idempotent(ctx, "k", []byte("other"))
		wantErr(t, err, musen.ErrInvalid)
		f.reopen()
	}
	f.clock.forward(time.Hour)
	if _, found, err := f.Idempotent(ctx, "k", []byte("other")); err != nil || found {
		t.Fatalf("after it expired: %v, %v", found, err)
	}
	noErr(t, f.PutIdempotent(ctx, "k", []byte("other"), nil, f.clock.Now().Add(time.Hour)))
}

func testConcurrentWriters(t *testing.T, f *fixture) {
	ctx := t.Context()
	st := f.station("jazz")
	var all []musen.Segment
	for range 200 {
		all = append(all, newSegment(st.ID, 2, f.clock.Now()))
	}
	// A quarter of them is refused, each in the same transactions as others.
	f.inParallel(all, func(s musen.Segment) error {
		if err := f.Begin(ctx, s); err != nil {
			return err
		}
		if s.ID[0] < 'i' {
			if err := f.Commit(ctx, s, []byte(s.ID), nil); err != nil {
				return err
			}
			again := newSegment(st.ID, 1, s.Created)
			if err := f.Begin(ctx, again); err != nil {
				return err
			}
			if err := f.Commit(ctx, again, []byte(s.ID), nil); !errors.Is(err, musen.ErrExists) {
				return fmt.Errorf("equal audio was not refused: %w", err)
			}
			return f.Abort(ctx, again.ID)
		}
		return f.Commit(ctx, s, nil, nil)
	})
	for _, s := range all {
		got, err := f.Segment(ctx, s.CID.Hash())
		noErr(t, err)
		equalSegment(t, got, s)
	}
	if ids, err := f.Pending(ctx); err != nil || len(ids) != 0 {
		t.Fatalf("pending: %d, %v", len(ids), err)
	}
}

func testCancelled(t *testing.T, f *fixture) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, f.CreateStation(ctx, newStation("jazz")), context.Canceled)
	_, err := f.Station(t.Context(), "jazz")
	wantErr(t, err, musen.ErrNotFound)
	f.station("jazz")

	// Whoever gives up at any moment knows whether it happened.
	for i := range 50 {
		s := newStation(fmt.Sprintf("s%d", i))
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		err := f.CreateStation(ctx, s)
		_, there := f.Station(t.Context(), s.ID)
		if (err == nil) != (there == nil) {
			t.Fatalf("create says %v, the look-up says %v", err, there)
		}
	}
}

func testClosed(t *testing.T, f *fixture) {
	noErr(t, f.Close())
	wantErr(t, f.CreateStation(t.Context(), newStation("jazz")), musen.ErrUnavailable)
	if _, err := f.Pending(t.Context()); err == nil {
		t.Fatal("a closed catalogue answers")
	}
}

// H23: the key of another home opens nothing, and nothing is shown.
func testWrongKey(t *testing.T, f *fixture) {
	ctx := t.Context()
	now := f.clock.Now()
	noErr(t, f.PutToken(ctx, musen.Token{ID: "a", Subject: "s", Issued: now, Expires: now.Add(time.Hour)}))
	f.key = [32]byte{2}
	f.reopen()
	if all, err := f.Tokens(ctx); err == nil {
		t.Fatalf("a wrong key opens %+v", all)
	}
}

// H25: a segment answers to its multihash, whatever the spelling of the CID.
func testSpellings(t *testing.T, f *fixture) {
	ctx := t.Context()
	s := f.add(f.station("jazz").ID, 2, nil)
	for _, c := range []cid.Cid{cid.NewCidV0(s.CID.Hash()), cid.NewCidV1(cid.Raw, s.CID.Hash()), s.CID} {
		got, err := f.Segment(ctx, c.Hash())
		noErr(t, err)
		equalSegment(t, got, s)
		if has, err := f.HasBlock(ctx, c.Hash()); err != nil || !has {
			t.Fatalf("has block %s: %v, %v", c, has, err)
		}
	}
}

// What expired long ago is forgotten, and nothing earlier.
func testPruning(t *testing.T, f *fixture) {
	ctx := t.Context()
	issued := f.clock.Now()
	for _, id := range []string{"a", "b"} {
		noErr(t, f.PutToken(ctx, musen.Token{ID: id, Issued: issued, Expires: issued.Add(time.Hour)}))
	}
	noErr(t, f.PutToken(ctx, musen.Token{ID: "for ever", Issued: issued}))
	for _, id := range []string{"a", "for ever", "of another issuer"} {
		noErr(t, f.RevokeToken(ctx, id))
	}
	holds := func(revoked bool, tokens int) {
		t.Helper()
		for range 2 {
			if f.Revoked("a", "", issued) != revoked || !f.Revoked("for ever", "", issued) || !f.Revoked("of another issuer", "", issued) {
				t.Fatal("a revocation is lost or kept for no use")
			}
			all, err := f.Tokens(ctx)
			noErr(t, err)
			if len(all) != tokens {
				t.Fatalf("%d tokens on record, want %d", len(all), tokens)
			}
			f.reopen()
		}
	}
	f.clock.forward(2 * time.Hour) // expired, but by a clock that may differ
	noErr(t, f.RevokeToken(ctx, "x"))
	holds(true, 3)
	f.clock.forward(48 * time.Hour)
	noErr(t, f.RevokeToken(ctx, "y"))
	holds(false, 3)
	f.clock.forward(31 * 24 * time.Hour)
	noErr(t, f.PutToken(ctx, musen.Token{ID: "c", Issued: f.clock.Now(), Expires: f.clock.Now().Add(time.Hour)}))
	holds(false, 2)
}
