package alert_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/musenai/musen/internal/alert"
)

var secret = "whsec_" + base64.StdEncoding.EncodeToString([]byte("QuS2xTn5zjVbY8oKcE1mWpL0rGdHa9fI"))

// A call is what a receiver got.
type call struct {
	header http.Header
	body   []byte
}

// A receiver answers each call with the next status, and 204 when there is no
// more.
type receiver struct {
	*httptest.Server
	calls chan call

	mu       sync.Mutex
	statuses []int
}

func newReceiver(t *testing.T, statuses ...int) *receiver {
	r := &receiver{calls: make(chan call, 1000), statuses: statuses}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		status := http.StatusNoContent
		if len(r.statuses) > 0 {
			status, r.statuses = r.statuses[0], r.statuses[1:]
		}
		r.mu.Unlock()
		w.WriteHeader(status)
		r.calls <- call{req.Header, body}
	}))
	t.Cleanup(r.Close)
	return r
}

func newSender(t *testing.T, url string, log io.Writer, change func(*alert.Options)) *alert.Sender {
	t.Helper()
	o := alert.Options{
		URL: url, Secret: secret, Client: http.DefaultClient, Now: time.Now, Rand: rand.Reader,
		Log: slog.New(slog.NewTextHandler(log, nil)), Retry: []time.Duration{time.Millisecond},
	}
	if change != nil {
		change(&o)
	}
	s, err := alert.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// P62: a call is signed as the receiver checks it, says what happened, and is
// made again with the same id until it is taken.
func TestAlertsAreToldUntilTheyAreTaken(t *testing.T) {
	r := newReceiver(t, 500, 404)
	s := newSender(t, r.URL, io.Discard, nil)
	s.Send("musen.anomaly", map[string]any{"rule": "scraping"})
	hook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for range 3 {
		c := <-r.calls
		if err := hook.Verify(c.body, c.header); err != nil {
			t.Error(err)
		}
		ids[c.header.Get("webhook-id")] = true
		var got struct {
			Type      string
			Timestamp time.Time
			Data      map[string]any
		}
		if err := json.Unmarshal(c.body, &got); err != nil || got.Type != "musen.anomaly" || got.Data["rule"] != "scraping" || got.Timestamp.IsZero() {
			t.Errorf("told %s, %v", c.body, err)
		}
	}
	if len(ids) != 1 {
		t.Errorf("one alert has the ids %v", ids)
	}
	s.Send("musen.anomaly", nil)
	if c := <-r.calls; ids[c.header.Get("webhook-id")] {
		t.Error("two alerts have one id")
	}
}

// What cannot be told is counted and given up; nobody waits for it.
func TestReceiverThatIsAway(t *testing.T) {
	gone := newReceiver(t)
	gone.Close()
	var log strings.Builder
	held := make(chan struct{})
	blocked := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		select {
		case <-held:
		case <-r.Context().Done():
		}
		return nil, io.ErrUnexpectedEOF
	})}
	s := newSender(t, gone.URL, &log, func(o *alert.Options) { o.Client = blocked })
	for range 1000 {
		s.Send("musen.anomaly", nil)
	}
	if _, lost, waiting := s.Counts(); lost < 1000-257 || waiting > 256 {
		t.Errorf("%d lost, %d wait", lost, waiting)
	}
	s.Send("musen.anomaly", strings.Repeat("x", 10_000))
	s.Close()
	if strings.Contains(log.String(), "127.0.0.1") || !strings.Contains(log.String(), "too many wait") || !strings.Contains(log.String(), "longer than") {
		t.Errorf("log: %s", log.String())
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A call that nobody has taken for a day is given up, and the next one made.
func TestGivingUp(t *testing.T) {
	var mu sync.Mutex
	now, tries := time.Now(), 0
	told := make(chan string, 10)
	client := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if tries++; tries == 2 {
			now = now.Add(24 * time.Hour)
		}
		status := http.StatusInternalServerError
		if tries > 2 {
			status = http.StatusOK
		}
		told <- string(body)
		return &http.Response{StatusCode: status, Body: http.NoBody, Request: r}, nil
	})}
	s := newSender(t, "https://ops.example", io.Discard, func(o *alert.Options) {
		o.Client = client
		o.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	})
	s.Send("first", nil)
	s.Send("second", nil)
	for i, want := range []string{"first", "first", "second"} {
		if got := <-told; !strings.Contains(got, want) {
			t.Errorf("call %d: told %s", i, got)
		}
	}
	if _, lost, _ := s.Counts(); lost != 1 {
		t.Errorf("%d lost", lost)
	}
}

// P37: nor is one taken that anybody can guess, or that stands in an example.
func TestSecrets(t *testing.T) {
	for _, bad := range []string{
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
		"whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32)),
		"whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("changeme"), 4)),
	} {
		if _, err := alert.ParseSecret(bad); err == nil || strings.Contains(err.Error(), bad[6:]) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, bad := range []string{"", "whsec_", strings.TrimPrefix(secret, "whsec_"), "whsec_AAAA", "whsec_!", secret + "A", "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 65))} {
		if _, err := alert.ParseSecret(bad); err == nil || len(bad) > 10 && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if key, err := alert.ParseSecret(secret + "\n"); err != nil || len(key) != 32 {
		t.Errorf("%x, %v", key, err)
	}
}
