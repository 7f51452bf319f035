package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/internal/password"
	"github.com/musenai/musen/policy"
)

type keptShare struct {
	musen.Share
	secret string
}

var _ Shares = (*memory)(nil)

func (m *memory) PutShare(_ context.Context, s musen.Share, secret string) error {
	defer m.lock()()
	m.shares = append([]keptShare{{s, secret}}, m.shares...)
	return nil
}

func (m *memory) Share(_ context.Context, id string) (musen.Share, error) {
	defer m.lock()()
	for _, s := range m.shares {
		if s.ID == id {
			return s.Share, nil
		}
	}
	return musen.Share{}, musen.ErrNotFound
}

func (m *memory) Shares(_ context.Context, station string) (all []musen.Share, err error) {
	defer m.lock()()
	for _, s := range m.shares {
		if s.Station == station {
			all = append(all, s.Share)
		}
	}
	return all, nil
}

func (m *memory) changeShare(id string, f func(*musen.Share)) error {
	defer m.lock()()
	i := slices.IndexFunc(m.shares, func(s keptShare) bool { return s.ID == id })
	if i < 0 {
		return musen.ErrNotFound
	}
	f(&m.shares[i].Share)
	return nil
}

func (m *memory) RevokeShare(_ context.Context, id string) error {
	return m.changeShare(id, func(s *musen.Share) { s.Revoked = m.now() })
}

func (m *memory) SetSharePassword(_ context.Context, id, hash string) error {
	return m.changeShare(id, func(s *musen.Share) { s.Password, s.Generation = hash, s.Generation+1 })
}

func (m *memory) RegenerateShare(ctx context.Context, s musen.Share, secret string) (musen.Share, error) {
	defer m.lock()()
	station := m.stations[s.Station]
	station.Epoch++
	m.stations[s.Station] = station
	for _, old := range m.shares {
		if old.Station == s.Station && old.End(station.Epoch-1, m.now()) == "" {
			s.Password, s.Downloads, s.MaxUses = old.Password, old.Downloads, old.MaxUses
			break
		}
	}
	s.Epoch = station.Epoch
	m.shares = append([]keptShare{{s, secret}}, m.shares...)
	return s, nil
}

func newHasher(t *testing.T) *password.Hasher {
	t.Helper()
	h, err := password.New(bytes.Repeat([]byte{1}, 32), 2)
	must(t, err)
	return h
}

// P16, P20: the link is told once, and neither it nor the password is kept.
func TestCreateShare(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	off := false
	made, err := w.local.CreateShare(t.Context(), "jazz", wire.NewShare{
		Password: "open sesame", TTL: 3600, SessionTTL: 60, MaxUses: 3, Downloads: &off,
	})
	must(t, err)
	secret, ok := strings.CutPrefix(made.URL, "https://radio.example/s/")
	if !ok || !musen.IsShareSecret(secret) || !musen.IsID(made.ID) || strings.Contains(made.URL, made.ID) {
		t.Errorf("link %q of %q", made.URL, made.ID)
	}
	if made.State != "live" || !made.Password || made.Downloads || made.MaxUses != 3 || made.SessionTTL != 60 || !made.Expires.Equal(w.now().Add(time.Hour)) {
		t.Errorf("made %+v", made)
	}
	kept := w.shares[0]
	if kept.secret != secret || !strings.HasPrefix(kept.Password, "$argon2id$") || strings.Contains(kept.Password, "sesame") {
		t.Errorf("kept %+v", kept)
	}
	plain, err := w.local.CreateShare(t.Context(), "jazz", wire.NewShare{})
	must(t, err)
	if plain.Password || !plain.Downloads || plain.SessionTTL != 12*3600 || !plain.Expires.Equal(w.now().Add(30*24*time.Hour)) { // P22, P35
		t.Errorf("by default %+v", plain)
	}
	listed, err := w.local.Shares(t.Context(), "jazz")
	must(t, err)
	all, err := w.local.Shares(t.Context(), "")
	must(t, err)
	if len(listed) != 2 || fmt.Sprint(listed) != fmt.Sprint(all) || listed[1] != made.Share {
		t.Errorf("listed %+v and %+v", listed, all)
	}
	for _, word := range []string{secret, "sesame"} {
		if strings.Contains(fmt.Sprint(listed), word) || strings.Contains(w.log.String(), word) {
			t.Errorf("%q is told", word)
		}
	}
	if !strings.Contains(w.log.String(), "/api/v1/stations/:station/shares") {
		t.Error("nothing was logged")
	}
	for name, bad := range map[string]wire.NewShare{
		"short": {Password: "1234567"}, "long": {Password: strings.Repeat("x", 257)},
		"ttl": {TTL: 400 * 24 * 3600}, "session": {SessionTTL: 32 * 24 * 3600}, "negative": {TTL: -1}, "uses": {MaxUses: 1 << 30},
	} {
		var refused *client.Error
		if _, err := w.local.CreateShare(t.Context(), "jazz", bad); !errors.As(err, &refused) || refused.Status != 422 || strings.Contains(refused.Detail, "1234567") {
			t.Errorf("%s: %v", name, err)
		}
	}
	var refused *client.Error
	if _, err := w.local.CreateShare(t.Context(), "rock", wire.NewShare{}); !errors.As(err, &refused) || refused.Code != "not_found" {
		t.Errorf("no station: %v", err)
	}
}

// P18, P20: a share is revoked, and gets another password, by its id.
func TestChangeShare(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	made, err := w.local.CreateShare(t.Context(), "jazz", wire.NewShare{})
	must(t, err)
	changed, err := w.local.SetSharePassword(t.Context(), made.ID, "open sesame")
	must(t, err)
	if !changed.Password || w.shares[0].Generation != 1 || !strings.HasPrefix(w.shares[0].Password, "$argon2id$") {
		t.Errorf("changed %+v, kept %+v", changed, w.shares[0])
	}
	must(t, w.local.RevokeShare(t.Context(), made.ID))
	listed, err := w.local.Shares(t.Context(), "jazz")
	must(t, err)
	if listed[0].State != "revoked" || listed[0].Revoked.IsZero() {
		t.Errorf("revoked %+v", listed)
	}
	for name, err := range map[string]error{
		"revoke":   w.local.RevokeShare(t.Context(), "nobody"),
		"password": second(w.local.SetSharePassword(t.Context(), "nobody", "open sesame")),
	} {
		var refused *client.Error
		if !errors.As(err, &refused) || refused.Code != "not_found" || !strings.Contains(refused.Detail, "no share") {
			t.Errorf("%s what is not there: %v", name, err)
		}
	}
}

// settling is a fleet that has to be waited for.
type settling struct {
	Fleet
	w     *world
	reach musen.Reach
	err   error
}

func (s settling) Settle(context.Context) (musen.Reach, error) {
	s.w.clock.Add(2)
	return s.reach, s.err
}

// P17: a regeneration answers when it is in force, and says where.
func TestRegenerateShare(t *testing.T) {
	for name, c := range map[string]struct {
		fleet func(*world) Fleet
		want  *wire.Reach
	}{
		"alone": {func(*world) Fleet { return nil }, &wire.Reach{Gateways: 1, InForce: 1}},
		"a fleet": {
			func(w *world) Fleet { return settling{w: w, reach: musen.Reach{Gateways: 3, InForce: 2, Silent: 1}} },
			&wire.Reach{Gateways: 3, InForce: 2, Silent: 1, Took: 2},
		},
		"not told": {func(w *world) Fleet { return settling{w: w, err: errors.New("database away")} }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.server.Fleet = c.fleet(w) // nobody asks yet
			jazz := w.station("jazz")
			old, err := w.local.CreateShare(t.Context(), "jazz", wire.NewShare{Password: "open sesame", MaxUses: 5})
			must(t, err)
			made, err := w.local.RegenerateShare(t.Context(), "jazz")
			must(t, err)
			if made.Epoch != jazz.Epoch+1 || made.URL == old.URL || made.ID == old.ID || !made.Password || made.MaxUses != 5 || made.State != "live" {
				t.Errorf("made %+v", made)
			}
			if fmt.Sprint(made.Reach) != fmt.Sprint(c.want) {
				t.Errorf("in force: %+v", made.Reach)
			}
			listed, err := w.local.Shares(t.Context(), "jazz")
			must(t, err)
			if len(listed) != 2 || listed[1].State != "revoked" {
				t.Errorf("listed %+v", listed)
			}
			if strings.Contains(w.log.String(), made.URL[len("https://radio.example/s/"):]) {
				t.Error("the secret is logged")
			}
		})
	}
}

// P33: who may only end what there is ends it, and gets no way in.
func TestRegenerateWithoutLink(t *testing.T) {
	w := newWorld(t, nil)
	jazz := w.station("jazz")
	for action, want := range map[policy.Action]bool{policy.ManageShares: true, policy.Revoke: false} {
		made, err := w.remote(w.token([]string{jazz.ID}, action)).RegenerateShare(t.Context(), "jazz")
		if err != nil || (made.URL != "") != want || made.ID == "" {
			t.Errorf("with %s: %+v, %v", action, made, err)
		}
	}
	if epoch, _ := w.Epoch(jazz.ID); epoch != jazz.Epoch+2 {
		t.Errorf("epoch %d", epoch)
	}
}

// A listing has the shares of the stations that its caller may use.
func TestSharesOfOthersAreNotListed(t *testing.T) {
	w := newWorld(t, nil)
	jazz := w.station("jazz")
	w.station("rock")
	for _, station := range []string{"jazz", "rock"} {
		_, err := w.local.CreateShare(t.Context(), station, wire.NewShare{})
		must(t, err)
	}
	listed, err := w.remote(w.token([]string{jazz.ID}, policy.Audit)).Shares(t.Context(), "")
	must(t, err)
	if len(listed) != 1 || listed[0].Station != jazz.ID {
		t.Errorf("listed %+v", listed)
	}
}
