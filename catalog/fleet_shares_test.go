package catalog_test

import (
	"testing"
	"time"

	"github.com/musenai/musen"
)

// P17: a share that one process regenerates has ended in another, with its
// station's epoch, and the new one is there.
func TestFleetHearsOfShares(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	a, b := f.gateway("a"), f.gateway("b")
	jazz := newStation("jazz")
	noErr(t, a.CreateStation(ctx, jazz))
	of := &fixture{Catalog: a, t: t, clock: &clock{now: time.Now()}}
	old, secret := of.share(jazz, nil)
	settled(t, a, 2)
	if s, ok := b.ShareBySecret(secret); !ok || s.ID != old.ID {
		t.Fatalf("the other does not know the share: %+v, %v", s, ok)
	}
	noErr(t, b.UseShare(ctx, old.ID))
	if all, err := a.Shares(ctx, jazz.ID); err != nil || len(all) != 1 || all[0].Uses != 1 {
		t.Fatalf("what the other used does not show: %+v, %v", all, err)
	}
	noErr(t, a.SetSharePassword(ctx, old.ID, "hash"))
	settled(t, a, 2)
	if g, ok := b.Generation(old.ID); g != 1 || !ok {
		t.Fatalf("generation %d, %v", g, ok)
	}
	fresh, freshSecret := of.newShare(jazz, nil)
	made, err := a.RegenerateShare(ctx, fresh, freshSecret)
	noErr(t, err)
	settled(t, a, 2)
	if epoch, _ := b.Epoch(jazz.ID); epoch != jazz.Epoch+1 {
		t.Errorf("the other has epoch %d", epoch)
	}
	if _, live := b.Generation(old.ID); live {
		t.Error("sessions of the old share go on there")
	}
	if s, ok := b.ShareBySecret(freshSecret); !ok || s.ID != made.ID || s.Password != "hash" || s.End(jazz.Epoch+1, time.Now()) != "" {
		t.Errorf("the new share there is %+v, %v", s, ok)
	}
	wantErr(t, b.UseShare(ctx, old.ID), musen.ErrGone)
	noErr(t, b.RevokeShare(ctx, made.ID))
	settled(t, b, 2)
	if _, live := a.Generation(made.ID); live {
		t.Error("a share that the other revoked goes on here")
	}
}
