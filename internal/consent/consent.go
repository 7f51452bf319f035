// Package consent asks a platform by webhook whether somebody may hear what
// policy has allowed them to: the platform has the last word.
//
// What is not a clear yes is a no: a platform that is slow, away or talks
// nonsense lets nobody in. Answers are remembered for as long as they say, at
// most for as long as is configured, in memory of a fixed size; many who ask
// the same at a time ask once. A question is signed as Standard Webhooks has
// it, and holds no credential and no address: who bears it is told by subject
// and by the id of the credential.
//
// It does not know HTTP requests of listeners, keys, or what a segment is.
package consent

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/alert"
)

// Options say who is asked. All must be given but Stations, with Find, and PerSegment.
type Options struct {
	URL        string
	Secret     string // to sign with, as in whsec_ and base64, see CheckSecret
	Client     *http.Client
	Timeout    time.Duration // for an answer
	TTL        time.Duration // of an answer that does not say, and the most of one that does
	PerSegment bool          // an answer is for one segment, not for the station
	Stations   []string      // names or ids that are asked about, also once they are renamed; empty: all
	// Find finds the id of a station of Stations; one that is not found is refused.
	Find func(nameOrID string) (id string, ok bool)
	Now  func() time.Time
	Rand io.Reader
	Log  *slog.Logger
}

// Bounds of what is asked and remembered.
const (
	maxKnown   = 1 << 16          // answers in memory, of about 200 bytes
	maxFlights = 128              // questions under way
	refusalTTL = 10 * time.Second // of a no that does not say, at most
	maxHeld    = 8                // of those, about one session, subject or credential
	restTTL    = time.Second      // before a platform that failed is asked the same again
	patience   = 8                // subjects in a row that it is away for, after which it is asked nothing for that time
)

// A Platform is asked.
type Platform struct {
	o      Options
	sign   *standardwebhooks.Webhook
	known  *otter.Cache[question, answer]
	about  []string      // names and ids of stations; empty: all
	flying chan struct{} // one for each question that may be under way

	mu      sync.Mutex
	flights map[question]*flight
	held    map[string]int      // flights about each
	away    map[string]struct{} // subjects that it is away for, since it last answered
	failing bool                // it last gave no clear answer
	resting time.Time           // asked nothing until then
}

var _ musen.Consent = (*Platform)(nil)

// question is a hash of all that an answer holds for.
type question [sha256.Size]byte

// answer is nil for yes, musen.ErrNotFound or musen.ErrConsent.
type answer struct {
	err          error
	renew, until time.Time
}

// flight is a question under way.
type flight struct {
	done chan struct{}
	err  error // once done is closed
}

// CheckSecret reports what is wrong with a secret: it is 24 to 64 random bytes
// in base64, behind whsec_. The error does not repeat it.
func CheckSecret(secret string) error {
	_, err := alert.ParseSecret(secret)
	return err
}

// New makes a Platform. It asks nothing yet.
func New(o Options) (*Platform, error) {
	if o.URL == "" || o.Client == nil || o.Timeout <= 0 || o.TTL <= 0 || o.Now == nil || o.Rand == nil || o.Log == nil {
		return nil, errors.New("make a webhook: an option is missing")
	}
	if err := CheckSecret(o.Secret); err != nil {
		return nil, fmt.Errorf("make a webhook: its secret: %w", err)
	}
	sign, err := standardwebhooks.NewWebhook(o.Secret)
	if err != nil {
		return nil, errors.New("make a webhook: its secret cannot be used")
	}
	known, err := otter.New(&otter.Options[question, answer]{MaximumSize: maxKnown})
	if err != nil {
		return nil, fmt.Errorf("make a webhook: %w", err)
	}
	about, err := o.about()
	if err != nil {
		return nil, fmt.Errorf("make a webhook: %w", err)
	}
	return &Platform{
		o: o, sign: sign, known: known, about: about,
		flying: make(chan struct{}, maxFlights), flights: map[question]*flight{},
		held: map[string]int{}, away: map[string]struct{}{},
	}, nil
}

// about are Stations with the id that each has now, so that a new name does not
// have a station left out.
func (o Options) about() ([]string, error) {
	about := slices.Clone(o.Stations)
	for _, name := range o.Stations {
		id, ok := "", false
		if o.Find != nil {
			id, ok = o.Find(name)
		}
		if !ok {
			return nil, fmt.Errorf("there is no station %.80q", name)
		}
		about = append(about, id)
	}
	return about, nil
}

// Ask implements musen.Consent. An answer that is about to end is asked for
// again while it still holds, so that a stream does not wait for it.
func (p *Platform) Ask(ctx context.Context, q musen.Question) error {
	if len(p.about) > 0 && !slices.Contains(p.about, q.Station.ID) && !slices.Contains(p.about, q.Station.Name) {
		return nil
	}
	key := p.key(q)
	now := p.o.Now()
	a, ok := p.known.GetIfPresent(key)
	if ok && now.Before(a.until) {
		if a.err == nil && !now.Before(a.renew) {
			p.start(key, q)
		}
		return a.err
	}
	f := p.start(key, q)
	if f == nil {
		return musen.ErrConsent
	}
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// key hashes all that an answer holds for: links are one with what they were
// minted with.
func (p *Platform) key(q musen.Question) question {
	kind, id := q.Grant.Bearer()
	parts := []string{kind, id, q.Grant.Subject(), string(q.Action), q.Station.ID}
	if p.o.PerSegment {
		parts = append(parts, string(q.CID.Hash()))
	}
	h := sha256.New()
	for _, s := range parts {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	return question(h.Sum(nil))
}

// subject is whom a question is about, as far as it is known.
func subject(q musen.Question) string {
	_, id := q.Grant.Bearer()
	return cmp.Or(q.Grant.Subject(), id)
}

// holder is who has room for maxHeld questions: listeners by one share have room
// each.
func holder(q musen.Question) string { return cmp.Or(q.Grant.Session(), subject(q)) }

// start asks, or finds who is asking the same. It returns nil when too much is
// under way, or when the platform failed a moment ago.
func (p *Platform) start(key question, q musen.Question) *flight {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.flights[key]; f != nil {
		return f
	}
	who := holder(q)
	if p.o.Now().Before(p.resting) || p.held[who] >= maxHeld {
		return nil
	}
	select {
	case p.flying <- struct{}{}:
	default:
		return nil
	}
	f := &flight{done: make(chan struct{})}
	p.flights[key] = f
	p.held[who]++
	go func() {
		// Others may wait for it too, so who asked first does not end it.
		ctx, cancel := context.WithTimeout(context.Background(), p.o.Timeout)
		defer cancel()
		said, err := p.call(ctx, q)
		p.land(key, q, said, err)
	}()
	return f
}

// land takes what a platform said into memory, or that it said nothing.
func (p *Platform) land(key question, q musen.Question, said verdict, err error) {
	<-p.flying
	p.mu.Lock()
	defer p.mu.Unlock()
	f, who := p.flights[key], holder(q)
	defer close(f.done)
	delete(p.flights, key)
	if p.held[who]--; p.held[who] == 0 {
		delete(p.held, who)
	}
	now := p.o.Now()
	p.judge(now, q, err)
	if err != nil {
		f.err = musen.ErrConsent
		if a, ok := p.known.GetIfPresent(key); !ok || !now.Before(a.until) {
			p.known.Set(key, answer{err: f.err, until: now.Add(restTTL)})
		}
		return
	}
	ttl := p.o.TTL
	if !said.allow {
		f.err, ttl = musen.ErrNotFound, min(ttl, refusalTTL)
	}
	if said.ttl > 0 {
		ttl = min(said.ttl, p.o.TTL)
	}
	p.known.Set(key, answer{err: f.err, renew: now.Add(ttl - ttl/4), until: now.Add(ttl)})
}

// judge notes whether a platform works. That it does not is told once, not each
// time. It is left alone for a while when it is away for several subjects: one
// may be able to make it fail, and must not have others refused by that.
func (p *Platform) judge(now time.Time, q musen.Question, err error) {
	switch {
	case err != nil && !p.failing:
		p.o.Log.Warn("the webhook gives no answer: nobody is let in by it", "error", err)
	case err == nil && p.failing:
		p.o.Log.Info("the webhook answers again")
	}
	p.failing = err != nil
	if _, away := errors.AsType[*awayError](err); !away {
		clear(p.away)
		return
	}
	if len(p.away) < patience {
		p.away[subject(q)] = struct{}{}
	}
	if len(p.away) >= patience {
		p.resting = now.Add(restTTL)
	}
}
