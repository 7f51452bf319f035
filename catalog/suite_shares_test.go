package catalog_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musenai/musen"
)

// share records one of a station, as change has it.
func (f *fixture) share(station musen.Station, change func(*musen.Share)) (musen.Share, string) {
	f.t.Helper()
	s, secret := f.newShare(station, change)
	noErr(f.t, f.PutShare(f.t.Context(), s, secret))
	return s, secret
}

func (f *fixture) newShare(station musen.Station, change func(*musen.Share)) (musen.Share, string) {
	f.t.Helper()
	s, secret, err := musen.NewShare(rand.Reader, station)
	noErr(f.t, err)
	s.SessionTTL, s.Downloads, s.Created = time.Hour, true, f.clock.Now()
	if change != nil {
		change(&s)
	}
	return s, secret
}

func equalShares(t *testing.T, got []musen.Share, want ...musen.Share) {
	t.Helper()
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

// P16: a share is found by its secret, which is not kept.
func testShares(t *testing.T, f *fixture) {
	ctx := t.Context()
	jazz, blues := f.station("jazz"), f.station("blues")
	a, secretA := f.share(jazz, nil)
	f.clock.forward(time.Second)
	b, secretB := f.share(blues, func(s *musen.Share) {
		s.Password, s.MaxUses, s.Downloads, s.Expires = "$argon2id$v=19$x", 3, false, f.clock.Now().Add(time.Hour)
	})
	if secretA == secretB || len(secretA) != 32 || !musen.IsShareSecret(secretA) || musen.IsShareSecret(a.ID) {
		t.Fatalf("secrets %q and %q", secretA, secretB)
	}
	for range 2 {
		all, err := f.Shares(ctx, "")
		noErr(t, err)
		equalShares(t, all, b, a)
		of, err := f.Shares(ctx, jazz.ID)
		noErr(t, err)
		equalShares(t, of, a)
		one, err := f.Share(ctx, b.ID)
		noErr(t, err)
		equalShares(t, []musen.Share{one}, b)
		if found, ok := f.ShareBySecret(secretB); !ok || found.ID != b.ID {
			t.Fatalf("by its secret: %+v, %v", found, ok)
		}
		for _, other := range []string{"", secretA[1:], strings.ToUpper(secretA), a.ID} {
			if found, ok := f.ShareBySecret(other); ok {
				t.Fatalf("%q finds %+v", other, found)
			}
		}
		_, err = f.Share(ctx, secretA)
		wantErr(t, err, musen.ErrNotFound)
		f.reopen()
	}
}

func testShareRefusals(t *testing.T, f *fixture) {
	ctx := t.Context()
	jazz := f.station("jazz")
	a, secret := f.share(jazz, nil)
	wantErr(t, f.PutShare(ctx, a, secret), musen.ErrExists)
	b, fresh := f.newShare(jazz, nil)
	wantErr(t, f.PutShare(ctx, b, secret), musen.ErrExists)
	for name, change := range map[string]func(*musen.Share){
		"no id":         func(s *musen.Share) { s.ID = "" },
		"other epoch":   func(s *musen.Share) { s.Epoch++ },
		"no sessions":   func(s *musen.Share) { s.SessionTTL = 0 },
		"negative uses": func(s *musen.Share) { s.MaxUses = -1 },
		"no time":       func(s *musen.Share) { s.Created = time.Time{} },
	} {
		bad, secret := f.newShare(jazz, change)
		if err := f.PutShare(ctx, bad, secret); !errors.Is(err, musen.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantErr(t, f.PutShare(ctx, b, "secret"), musen.ErrInvalid)
	b.Station = newID()
	wantErr(t, f.PutShare(ctx, b, fresh), musen.ErrNotFound)
	for _, err := range []error{f.RevokeShare(ctx, b.ID), f.SetSharePassword(ctx, b.ID, "x")} {
		wantErr(t, err, musen.ErrNotFound)
	}
	wantErr(t, f.UseShare(ctx, b.ID), musen.ErrGone)
	_, err := f.RegenerateShare(ctx, b, fresh)
	wantErr(t, err, musen.ErrNotFound)
}

// A share is used no more often than it may be, however many try at once.
func testUseShare(t *testing.T, f *fixture) {
	ctx := t.Context()
	jazz := f.station("jazz")
	limited, _ := f.share(jazz, func(s *musen.Share) { s.MaxUses = 5 })
	outcomes := make(chan error, 20)
	for range cap(outcomes) {
		go func() { outcomes <- f.UseShare(ctx, limited.ID) }()
	}
	opened := 0
	for range cap(outcomes) {
		if err := <-outcomes; err == nil {
			opened++
		} else {
			wantErr(t, err, musen.ErrGone)
		}
	}
	s, err := f.Share(ctx, limited.ID)
	noErr(t, err)
	if opened != 5 || s.Uses != 5 || s.End(jazz.Epoch, f.clock.Now()) != musen.EndSpent {
		t.Fatalf("%d uses of 5 succeeded, %+v", opened, s)
	}
	f.reopen()
	wantErr(t, f.UseShare(ctx, limited.ID), musen.ErrGone)

	free, _ := f.share(jazz, func(s *musen.Share) { s.Expires = f.clock.Now().Add(time.Minute) })
	noErr(t, f.UseShare(ctx, free.ID))
	f.clock.forward(time.Minute)
	wantErr(t, f.UseShare(ctx, free.ID), musen.ErrGone)
}

// P18: what is revoked stays so.
func testRevokeShare(t *testing.T, f *fixture) {
	ctx := t.Context()
	jazz := f.station("jazz")
	a, secret := f.share(jazz, nil)
	other, _ := f.share(jazz, nil)
	if g, ok := f.Generation(a.ID); !ok || g != 0 {
		t.Fatalf("generation %d, %v", g, ok)
	}
	noErr(t, f.RevokeShare(ctx, a.ID))
	at := f.clock.Now()
	f.clock.forward(time.Hour)
	noErr(t, f.RevokeShare(ctx, a.ID)) // once more changes nothing
	for range 2 {
		if _, ok := f.Generation(a.ID); ok {
			t.Fatal("its sessions go on")
		}
		if _, ok := f.Generation(other.ID); !ok {
			t.Fatal("those of another do not")
		}
		s, ok := f.ShareBySecret(secret)
		if !ok || !s.Revoked.Equal(at) || s.End(jazz.Epoch, at) != musen.EndRevoked {
			t.Fatalf("%+v, %v", s, ok)
		}
		wantErr(t, f.UseShare(ctx, a.ID), musen.ErrGone)
		f.reopen()
	}
}

// P20: a password can be changed, which ends the sessions before it; its hash
// is sealed.
func testSharePassword(t *testing.T, f *fixture) {
	ctx := t.Context()
	a, _ := f.share(f.station("jazz"), func(s *musen.Share) { s.Password = "first" })
	noErr(t, f.SetSharePassword(ctx, a.ID, "second"))
	noErr(t, f.SetSharePassword(ctx, a.ID, "third"))
	for range 2 {
		s, err := f.Share(ctx, a.ID)
		noErr(t, err)
		if g, ok := f.Generation(a.ID); s.Password != "third" || !ok || g != 2 {
			t.Fatalf("%+v, generation %d, %v", s, g, ok)
		}
		f.reopen()
	}
}

// P17: a new epoch, the old shares ended, and a new one of the same kind: all of
// it or nothing.
func testRegenerate(t *testing.T, f *fixture) {
	ctx := t.Context()
	jazz, blues := f.station("jazz"), f.station("blues")
	f.share(jazz, nil)
	f.clock.forward(time.Second)
	newest, secret := f.share(jazz, func(s *musen.Share) {
		s.Password, s.MaxUses, s.Downloads, s.SessionTTL, s.Expires = "hash", 9, false, time.Minute, f.clock.Now().Add(48*time.Hour)
	})
	noErr(t, f.UseShare(ctx, newest.ID))
	f.clock.forward(time.Second)
	ended, _ := f.share(jazz, func(s *musen.Share) { s.Password = "ended" })
	noErr(t, f.RevokeShare(ctx, ended.ID))
	elsewhere, _ := f.share(blues, nil)

	f.clock.forward(time.Hour)
	fresh, freshSecret := f.newShare(jazz, nil)
	made, err := f.RegenerateShare(ctx, fresh, freshSecret)
	noErr(t, err)
	want := fresh
	want.Password, want.MaxUses, want.Downloads, want.SessionTTL = "hash", 9, false, time.Minute
	want.Epoch, want.Expires = jazz.Epoch+1, f.clock.Now().Add(48*time.Hour)
	equalShares(t, []musen.Share{made}, want)
	for range 2 {
		if epoch, ok := f.Epoch(jazz.ID); !ok || epoch != jazz.Epoch+1 {
			t.Fatalf("epoch %d, %v", epoch, ok)
		}
		if epoch, _ := f.Epoch(blues.ID); epoch != blues.Epoch {
			t.Fatalf("another station has epoch %d", epoch)
		}
		all, err := f.Shares(ctx, jazz.ID)
		noErr(t, err)
		for _, s := range all {
			if (s.End(jazz.Epoch+1, f.clock.Now()) == "") != (s.ID == made.ID) {
				t.Fatalf("%+v", s)
			}
			if _, live := f.Generation(s.ID); live != (s.ID == made.ID) {
				t.Fatalf("sessions of %+v: %v", s, live)
			}
		}
		if s, ok := f.ShareBySecret(secret); !ok || s.End(jazz.Epoch+1, f.clock.Now()) != musen.EndRevoked {
			t.Fatalf("the old link: %+v, %v", s, ok)
		}
		wantErr(t, f.UseShare(ctx, newest.ID), musen.ErrGone)
		if _, live := f.Generation(elsewhere.ID); !live {
			t.Fatal("a share of another station ended")
		}
		f.reopen()
	}

	// One that cannot be recorded leaves everything as it was.
	_, err = f.RegenerateShare(ctx, fresh, freshSecret)
	wantErr(t, err, musen.ErrExists)
	if epoch, _ := f.Epoch(jazz.ID); epoch != jazz.Epoch+1 {
		t.Fatalf("a failure left epoch %d", epoch)
	}
	if _, live := f.Generation(made.ID); !live {
		t.Fatal("a failure ended the share")
	}

	// Many at once all happen.
	var all sync.WaitGroup
	for range 8 {
		s, secret := f.newShare(jazz, nil)
		all.Go(func() {
			if _, err := f.RegenerateShare(ctx, s, secret); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if epoch, _ := f.Epoch(jazz.ID); epoch != jazz.Epoch+9 {
		t.Fatalf("after eight more: epoch %d", epoch)
	}
}

// A password is not lost because the share that has it ended, however it did: a
// regeneration opens nothing that was closed.
func testRegenerateKeepsPassword(t *testing.T, f *fixture) {
	ctx := t.Context()
	for name, end := range map[string]func(musen.Share) error{
		"revoked": func(s musen.Share) error { return f.RevokeShare(ctx, s.ID) },
		"spent":   func(s musen.Share) error { return f.UseShare(ctx, s.ID) },
		"expired": func(musen.Share) error { f.clock.forward(time.Hour); return nil },
	} {
		for _, open := range []bool{false, true} { // an older share without a password lives
			station := f.station(fmt.Sprintf("%s-%v", name, open))
			if open {
				f.share(station, nil)
				f.clock.forward(time.Second)
			}
			old, _ := f.share(station, func(s *musen.Share) {
				s.Password, s.MaxUses, s.Downloads, s.Expires = "hash", 1, false, f.clock.Now().Add(time.Hour)
			})
			noErr(t, end(old))
			for range 2 { // the second one inherits from the first
				f.clock.forward(time.Second)
				fresh, secret := f.newShare(station, nil)
				made, err := f.RegenerateShare(ctx, fresh, secret)
				noErr(t, err)
				if made.Password != "hash" || made.Downloads != open || (made.MaxUses == 1) == open {
					t.Errorf("%s, an open one lives %v: made %+v", name, open, made)
				}
				noErr(t, f.RevokeShare(ctx, made.ID))
			}
		}
	}
}

// What ended long ago is forgotten, and nothing earlier; nor what was removed
// with its station.
func testOldShares(t *testing.T, f *fixture) {
	ctx := t.Context()
	jazz, blues := f.station("jazz"), f.station("blues")
	revoked, secret := f.share(jazz, nil)
	f.share(jazz, func(s *musen.Share) { s.Expires = f.clock.Now().Add(time.Minute) })
	forever, _ := f.share(blues, nil)
	noErr(t, f.RevokeShare(ctx, revoked.ID))
	left := func(n int) {
		t.Helper()
		f.share(jazz, func(s *musen.Share) { s.Expires = f.clock.Now().Add(time.Minute) })
		for range 2 {
			all, err := f.Shares(ctx, "")
			noErr(t, err)
			if len(all) != n {
				t.Fatalf("%d shares on record, want %d: %+v", len(all), n, all)
			}
			f.reopen()
		}
	}
	f.clock.forward(89 * 24 * time.Hour)
	left(4)
	f.clock.forward(48 * time.Hour)
	left(3)
	if _, ok := f.ShareBySecret(secret); ok {
		t.Fatal("a forgotten share is found")
	}
	noErr(t, f.RemoveStation(ctx, blues.ID))
	wantErr(t, f.UseShare(ctx, forever.ID), musen.ErrGone)
}

// Neither the secret of a share nor the hash of its password is in any file.
func TestSharesAreSealed(t *testing.T) {
	f, path := onFile(t)
	hash := "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$aGFzaA"
	_, secret := f.share(f.station("jazz"), func(s *musen.Share) { s.Password = hash })
	for name, b := range onDisk(t, path) {
		if bytes.Contains(b, []byte(secret)) || bytes.Contains(b, []byte(hash)) {
			t.Errorf("%s tells a secret", name)
		}
	}
}
