package consent_test

import (
	"crypto/rand"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/consent"
)

func TestStationsThatAreAskedAbout(t *testing.T) {
	h := newBearers(t)
	p := newPlatform(t)
	p.says(`{"allow":false}`)
	q := question(t, h, 1)
	for station, expected := range map[string]error{"jazz": musen.ErrNotFound, q.Station.ID: musen.ErrNotFound, "blues": nil} {
		c, _ := newConsent(t, p, func(o *consent.Options) { o.Stations = []string{station} })
		want(t, c.Ask(t.Context(), q), expected)
		renamed := q
		renamed.Station.Name = "swing"
		want(t, c.Ask(t.Context(), renamed), expected)
		other := q
		other.Station.ID = "bbbbbbbbbbbbbbbbbbbbbbbbbb" // which has the name now
		want(t, c.Ask(t.Context(), other), map[bool]error{true: musen.ErrNotFound}[station == "jazz"])
	}
}

// A name that is mistyped has nobody let in unasked: it is refused.
func TestStationsThatAreNot(t *testing.T) {
	p := newPlatform(t)
	_, err := consent.New(consent.Options{
		URL: p.URL, Secret: secret, Client: p.Client(), Timeout: time.Second, TTL: time.Minute, Now: time.Now, Rand: rand.Reader,
		Log: slog.New(slog.DiscardHandler), Stations: []string{"jazz", "jaz"}, Find: find,
	})
	if err == nil || !strings.Contains(err.Error(), `"jaz"`) {
		t.Errorf("got %v", err)
	}
}

// find knows two stations.
func find(nameOrID string) (id string, ok bool) {
	id = map[string]string{
		"jazz": "aaaaaaaaaaaaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaaaaaaaaaaaa": "aaaaaaaaaaaaaaaaaaaaaaaaaa", "blues": "cccccccccccccccccccccccccc",
	}[nameOrID]
	return id, id != ""
}
