// Package jwks holds the public keys of another issuer of tokens, which that
// publishes as a JSON Web Key Set (RFC 7517), found by its URL or by OpenID
// Connect discovery.
//
// Keys are fetched when they are asked for, not more often than once in an
// interval, by one request at a time, whoever asks. Those that were fetched
// last stay while the issuer cannot be reached, for a while. Only what the
// operator configured is ever connected to: nothing that a token says is.
//
// It does not know tokens, claims or what a key is good for, and how a
// connection is made is its client's business.
package jwks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/musenai/musen/policy"
)

// Options say whose keys they are. The first group must be given.
type Options struct {
	Issuer     string   // as its tokens have it
	Algorithms []string // that its tokens may be signed with
	Client     *http.Client
	Now        func() time.Time
	Log        *slog.Logger

	URL      string        // of the key set; "": found by discovery
	Interval time.Duration // between two requests for keys, at least; 0: 1 minute
	Refresh  time.Duration // age at which keys are asked for again; 0: 10 minutes
	Stale    time.Duration // age at which keys are not used any more; 0: 24 hours
	Wait     time.Duration // for a key that is not known; 0: 3 seconds
}

// maxWaiting bounds how many requests wait for keys at a time. Others are
// answered at once.
const maxWaiting = 64

// A Source has the keys of one issuer. It is safe for concurrent use.
type Source struct {
	o Options

	mu      sync.Mutex
	keys    map[string]policy.PublicKey
	fetched time.Time // when keys were; zero: never
	asked   time.Time // when they were last asked for; zero: never
	err     error     // of that
	flight  *flight   // nil: none
	waiting int
}

// flight is one request for keys.
type flight struct{ done chan struct{} }

var _ policy.KeySource = (*Source)(nil)

// New makes a Source that has no keys yet.
func New(o Options) (*Source, error) {
	if o.Issuer == "" || len(o.Algorithms) == 0 || o.Client == nil || o.Now == nil || o.Log == nil {
		return nil, errors.New("make a source of keys: an option is missing")
	}
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{{&o.Interval, time.Minute}, {&o.Refresh, 10 * time.Minute}, {&o.Stale, 24 * time.Hour}, {&o.Wait, 3 * time.Second}} {
		if *d.value <= 0 {
			*d.value = d.standard
		}
	}
	return &Source{o: o}, nil
}

// Key implements policy.KeySource. A key that is not known is asked for, unless
// the issuer was asked within the interval, and waited for no longer than the
// options say. Keys that grow old are asked for without waiting.
func (s *Source) Key(kid string, ask bool) (policy.PublicKey, error) {
	key, wait, err := s.look(kid, ask)
	if wait == nil {
		return key, err
	}
	t := time.NewTimer(s.o.Wait)
	defer t.Stop()
	select {
	case <-wait.done:
	case <-t.C:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting--
	return s.find(kid)
}

// look finds a key in memory, or says what to wait for.
func (s *Source) look(kid string, ask bool) (policy.PublicKey, *flight, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, err := s.find(kid)
	if now := s.o.Now(); err != nil && ask || now.Sub(s.fetched) >= s.o.Refresh {
		s.start(now)
	}
	if err == nil || !ask || s.flight == nil || s.waiting >= maxWaiting {
		return key, nil, err
	}
	s.waiting++
	return key, s.flight, err
}

// find is what memory says. The caller holds the lock.
func (s *Source) find(kid string) (policy.PublicKey, error) {
	if s.fetched.IsZero() || s.o.Now().Sub(s.fetched) >= s.o.Stale {
		return policy.PublicKey{}, policy.ErrNoKeys
	}
	key, ok := s.keys[kid]
	if !ok {
		return policy.PublicKey{}, errors.New("the issuer has no such key")
	}
	return key, nil
}

// start has the issuer asked, unless it is being or was lately. The caller
// holds the lock.
func (s *Source) start(now time.Time) {
	if s.flight != nil || !s.asked.IsZero() && now.Sub(s.asked) < s.o.Interval {
		return
	}
	f := &flight{make(chan struct{})}
	s.flight, s.asked = f, now
	go func() {
		keys, err := s.fetch(context.Background()) // which the client bounds
		s.land(f, keys, err)
	}()
}

// land takes the outcome of a flight into use.
func (s *Source) land(f *flight, keys map[string]policy.PublicKey, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(f.done)
	s.flight = nil
	if err != nil {
		if s.err == nil { // told once, not each minute
			s.o.Log.Warn("the keys of an issuer cannot be had", "issuer", s.o.Issuer, "error", err)
		}
		s.err = err
		return
	}
	if s.err != nil || s.fetched.IsZero() {
		s.o.Log.Info("have the keys of an issuer", "issuer", s.o.Issuer, "keys", len(keys))
	}
	s.keys, s.fetched, s.err = keys, s.o.Now(), nil
}

// Warm asks for the keys and returns at once: a start waits for nobody.
func (s *Source) Warm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.start(s.o.Now())
}

// A Status is how a Source does.
type Status struct {
	Issuer  string
	Keys    []string  // their ids, sorted
	Fetched time.Time // zero: never
	Error   string    // of the last request; "": it went well
}

// Status tells how the source does.
func (s *Source) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{Issuer: s.o.Issuer, Keys: sorted(s.keys), Fetched: s.fetched}
	if s.err != nil {
		st.Error = s.err.Error()
	}
	return st
}

// fetch asks the issuer.
func (s *Source) fetch(ctx context.Context) (map[string]policy.PublicKey, error) {
	from := s.o.URL
	if from == "" {
		var err error
		if from, err = s.discover(ctx); err != nil {
			return nil, fmt.Errorf("discover: %w", err)
		}
	}
	body, err := s.get(ctx, from)
	if err != nil {
		return nil, fmt.Errorf("fetch the key set: %w", err)
	}
	keys, err := Parse(body, s.o.Algorithms)
	if err != nil {
		return nil, fmt.Errorf("read the key set: %w", err)
	}
	return keys, nil
}
