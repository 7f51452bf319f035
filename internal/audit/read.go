package audit

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A Query says which records are wanted. Zero values ask for all.
type Query struct {
	After uint64    // with a larger number
	Until uint64    // and none larger than that
	Since time.Time // not made before
	Event string    // of that name, or of those that begin with it and a dot
	Actor string
	Limit int // the last ones
}

// Known reports whether there are events such as q asks for, recorded or not: a
// word that is misspelled is not taken for one of which nothing happened.
func (q Query) Known() bool {
	return slices.ContainsFunc(Events(), func(e Event) bool { return q.of(e.Name) })
}

func (q Query) of(event string) bool {
	return q.Event == "" || event == q.Event || strings.HasPrefix(event, q.Event+".")
}

func (q Query) wants(r Record) bool {
	return r.Seq > q.After && (q.Until == 0 || r.Seq <= q.Until) && !r.Time.Before(q.Since) &&
		q.of(r.Event) && (q.Actor == "" || r.Actor == q.Actor)
}

// each calls f with every record that is wanted of some files, and the head that
// it made, in order; Limit is not looked at.
func (l *Log) each(names []string, q Query, f func(Record, Head)) error {
	until := l.Head().Size // what comes later may not be durable
	s := &scanner{}
	s.each = func(rec line, hash [sha256.Size]byte) {
		if rec.Seq <= q.After || rec.Seq > until || rec.Time.Before(q.Since) {
			return
		}
		if r := l.o.record(rec); q.wants(r) {
			f(r, Head{rec.Seq, hash})
		}
	}
	for _, name := range names {
		if err := s.file(l.o.Dir, name, true); err != nil {
			return fmt.Errorf("read the audit log: %w", err)
		}
	}
	return nil
}

// List returns the records that are wanted, in order. It reads no more files
// than it must.
func (l *Log) List(q Query) (all []Record, err error) {
	names, err := files(l.o.Dir)
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	for i := len(names) - 1; i >= 0; i-- {
		var found []Record
		err := l.each(names[i:i+1], q, func(r Record, _ Head) { found = append(found, r) })
		if err != nil {
			return nil, err
		}
		all = append(found, all...)
		first, _ := firstOf(names[i])
		begun := firstTime(filepath.Join(l.o.Dir, names[i]))
		older := !begun.IsZero() && begun.Before(q.Since) // all files before this one are
		if older || first <= q.After+1 || q.Limit > 0 && len(all) >= q.Limit {
			break
		}
	}
	if q.Limit > 0 && len(all) > q.Limit {
		all = all[len(all)-q.Limit:]
	}
	return all, nil
}

// Latest returns the last record of an event, and whether there is one.
func (l *Log) Latest(event string) (last Record, found bool, err error) {
	names, err := files(l.o.Dir)
	s := &scanner{}
	s.each = func(rec line, _ [sha256.Size]byte) {
		if rec.Event == event {
			last, found = l.o.record(rec), true
		}
	}
	for i := len(names) - 1; i >= 0 && err == nil && !found; i-- {
		err = s.file(l.o.Dir, names[i], i+1 == len(names))
	}
	if err != nil {
		return Record{}, false, fmt.Errorf("read the audit log: %w", err)
	}
	return last, found, nil
}

// A Count is how many records there are of a kind.
type Count struct {
	Event   string // empty in counts of actors
	Outcome string
	Actor   string // empty in counts of events
	N       int
}

// A Summary is a digest of records.
type Summary struct {
	First, Last Record // zero: there is none
	Head        Head   // that Last made
	Records     int
	Events      []Count // by event and outcome, by name
	Actors      []Count // by actor and outcome, by name; Begun is left out
}

// Summarize counts the records that are wanted.
func (l *Log) Summarize(q Query) (s Summary, err error) {
	events, actors := map[Count]int{}, map[Count]int{}
	names, err := files(l.o.Dir)
	if err != nil {
		return s, fmt.Errorf("read the audit log: %w", err)
	}
	for len(names) > 1 { // those that end before
		if next, _ := firstOf(names[1]); next > q.After+1 {
			break
		}
		names = names[1:]
	}
	err = l.each(names, q, func(r Record, head Head) {
		s.Head = head
		if s.Records == 0 {
			s.First = r
		}
		s.Last = r
		s.Records++
		events[Count{Event: r.Event, Outcome: r.Outcome}]++
		if r.Actor != "" && r.Outcome != Begun {
			actors[Count{Actor: r.Actor, Outcome: r.Outcome}]++
		}
	})
	s.Events, s.Actors = counted(events), counted(actors)
	return s, err
}

func counted(m map[Count]int) []Count {
	list := slices.Collect(maps.Keys(m))
	for i := range list {
		list[i].N = m[list[i]]
	}
	slices.SortFunc(list, func(a, b Count) int {
		return cmp.Or(strings.Compare(a.Event, b.Event), strings.Compare(a.Actor, b.Actor), strings.Compare(a.Outcome, b.Outcome))
	})
	return list
}
