// Package watch counts what looks like abuse: one credential that is used from
// many networks, audio that is taken faster than anybody listens, bursts of
// refusals, guesses at passwords, many who report the same. What goes beyond a
// threshold is told once.
//
// Clients are pseudonyms, and nothing is counted for longer than an hour, which
// must not be longer than a pseudonym lives. Memory is bounded: when there are
// more keys than there is room for, those with the least to tell are forgotten.
//
// It does not know HTTP, addresses or secrets, writes nothing down, and does
// nothing about what it sees.
package watch

import (
	"hash/maphash"
	"sync"
	"time"
)

// A Rule is something that is watched for.
type Rule string

// The rules.
const (
	Networks Rule = "networks" // clients with one credential, in an hour
	Scraping Rule = "scraping" // hours of audio that one bearer took, in an hour
	Refusals Rule = "refusals" // requests of one client that were refused, in ten minutes
	Denied   Rule = "denied"   // different segments that one bearer asked for and may not have, in ten minutes
	Guesses  Rule = "guesses"  // wrong passwords for one share, in ten minutes
	Reported Rule = "reported" // clients that reported one segment or station, in an hour
)

// Rules are all rules.
func Rules() []Rule { return []Rule{Networks, Scraping, Refusals, Denied, Guesses, Reported} }

// Window is the time in which r counts.
func (r Rule) Window() time.Duration {
	if r == Networks || r == Scraping || r == Reported {
		return time.Hour
	}
	return 10 * time.Minute
}

// quiet is how long nothing more is told of a key by a rule that it broke.
const quiet = time.Hour

// A Client is who sends a request: a pseudonym, and the number of the key that
// it was made with.
type Client struct {
	Name string
	Key  uint64
}

// A Bearer is whose credential a request came with.
type Bearer struct {
	Credential string // id of the token, link or session; no secret
	Subject    string // may be empty
	Session    bool   // the credential is a session, and the subject its share
}

// holder is who is counted as one: a subject, or whoever has a session or a
// credential without a subject.
func (b Bearer) holder() string {
	if b.Subject != "" && !b.Session {
		return "subject " + b.Subject
	}
	return "credential " + b.Credential
}

// An Alert says that a rule was broken. It holds no address, no pseudonym and
// no secret.
type Alert struct {
	Rule      Rule
	At        time.Time
	Bearer    Bearer // zero: nobody who is known
	Share     string // whose password was guessed at
	About     string // CID of the segment, or path of the station, that was reported
	Count     int    // what was counted when the threshold was passed
	Threshold int
	Window    time.Duration
}

// Options are the parts of a Watch.
type Options struct {
	Thresholds map[Rule]int // more than that is told; 0: the rule is off
	Keys       int          // counted at a time by each rule; 0: 16,384
	Now        func() time.Time
	Tell       func(Alert) // called at once, and must not wait
}

// A Watch counts. It is safe for concurrent use; nil counts nothing.
type Watch struct {
	o      Options
	seed   maphash.Seed
	tables map[Rule]*table

	mu     sync.Mutex
	recent []Alert // newest last
	counts map[Rule]uint64
}

const (
	defaultKeys = 1 << 14
	maxRecent   = 100
)

// New makes a Watch that has seen nothing.
func New(o Options) *Watch {
	if o.Keys <= 0 {
		o.Keys = defaultKeys
	}
	w := &Watch{o: o, seed: maphash.MakeSeed(), tables: map[Rule]*table{}, counts: map[Rule]uint64{}}
	for _, r := range Rules() {
		w.tables[r] = &table{window: r.Window(), most: o.Keys, entries: map[string]*entry{}}
	}
	return w
}

// Used notes that a credential was good for a request of a client.
func (w *Watch) Used(b Bearer, c Client) {
	w.count(Networks, b.Credential, Alert{Bearer: b}, func(e *entry) int { return e.meet(c, w.o.Thresholds[Networks]+1) })
}

// Heard notes that so much audio was sent to a bearer.
func (w *Watch) Heard(b Bearer, audio time.Duration) {
	w.count(Scraping, b.holder(), Alert{Bearer: b}, func(e *entry) int {
		e.audio += audio
		return int(e.audio / time.Hour)
	})
}

// Refused notes that a request of a client was refused.
func (w *Watch) Refused(c Client) { w.count(Refusals, c.Name, Alert{}, (*entry).more) }

// Denied notes that a bearer asked for a segment that is not there, or that the
// credential does not open. A player that asks for one again and again tries no
// other.
func (w *Watch) Denied(b Bearer, segment string) {
	if w == nil {
		return
	}
	print := maphash.String(w.seed, segment)
	w.count(Denied, b.holder(), Alert{Bearer: b}, func(e *entry) int { return e.try(print, w.o.Thresholds[Denied]+1) })
}

// Guessed notes that a wrong password was given for a share.
func (w *Watch) Guessed(share string) {
	w.count(Guesses, share, Alert{Share: share}, (*entry).more)
}

// Reported notes that a client reported a segment or a station. key tells them
// apart, and about names them in words: a segment has several CIDs.
func (w *Watch) Reported(key, about string, c Client) {
	if w != nil {
		w.count(Reported, key, Alert{About: about}, func(e *entry) int { return e.meet(c, w.o.Thresholds[Reported]+1) })
	}
}

// count has add count one more thing under key, and tells when that is beyond
// the threshold.
func (w *Watch) count(r Rule, key string, a Alert, add func(*entry) int) {
	if w == nil || w.o.Thresholds[r] <= 0 || key == "" {
		return
	}
	threshold := w.o.Thresholds[r]
	now := w.o.Now()
	t := w.tables[r]
	t.mu.Lock()
	e := t.touch(key, now)
	n := add(e)
	tell := n > threshold && now.Sub(e.told) >= quiet
	if tell {
		e.told = now
	}
	t.mu.Unlock()
	if !tell {
		return
	}
	a.Rule, a.At, a.Count, a.Threshold, a.Window = r, now, n, threshold, r.Window()
	w.keep(a)
	w.o.Tell(a)
}

func (w *Watch) keep(a Alert) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[a.Rule]++
	if len(w.recent) == maxRecent {
		w.recent = append(w.recent[:0], w.recent[1:]...)
	}
	w.recent = append(w.recent, a)
}

// Recent are the last hundred alerts, the newest first.
func (w *Watch) Recent() []Alert {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := make([]Alert, len(w.recent))
	for i, a := range w.recent {
		list[len(list)-1-i] = a
	}
	return list
}

// Count is how often a rule was broken since the start.
func (w *Watch) Count(r Rule) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts[r]
}
