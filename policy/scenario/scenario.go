// Package scenario decides what is written down in files of scenarios by
// policies, and says where the decision is another than the file expects: the
// tests of an operator's own policies.
//
// It makes real credentials under keys of its own and decides with a real
// engine, at the times that the files say. It does not know which policies a
// node has in force, and opens no file.
package scenario

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/musenai/musen/policy"
)

// maxSize bounds a file, in bytes, and maxCases what it holds of each kind.
const (
	maxSize  = 1 << 20
	maxCases = 10_000
)

// A Suite is a file of scenarios.
type Suite struct {
	// Zone of the hours and days that the policies ask for; default UTC.
	Zone     string    `toml:"zone"`
	Stations []Station `toml:"station"`
	Bearers  []Bearer  `toml:"bearer"`
	Cases    []Case    `toml:"case"`
}

// A Station is one that requests are about.
type Station struct {
	Name      string `toml:"name"`
	ID        string `toml:"id"`        // default one of its own that looks like any
	Downloads *bool  `toml:"downloads"` // default true
	Epoch     uint64 `toml:"epoch"`     // of now; default 1
}

// A Bearer is somebody who asks, with a credential.
type Bearer struct {
	Name     string   `toml:"name"` // in this file
	Kind     string   `toml:"kind"` // token, which is the default, or link
	Subject  string   `toml:"subject"`
	Actions  []string `toml:"actions"`  // that a token names; a link: download, or none
	Stations []string `toml:"stations"` // that it names; "*": all
	Roles    []Role   `toml:"role"`     // that its subject holds
	MFA      string   `toml:"mfa"`      // how long ago it showed a second factor, like "5m"; empty: never
}

// A Role is one that a subject holds.
type Role struct {
	Role    string    `toml:"role"`
	Station string    `toml:"station"` // empty: everywhere
	Until   time.Time `toml:"until"`   // zero: for good
}

// A Case is a request and the decision that is expected of it.
type Case struct {
	Name      string    `toml:"name"`
	Bearer    string    `toml:"bearer"`
	Action    string    `toml:"action"`
	Station   string    `toml:"station"` // empty: the node
	Segment   bool      `toml:"segment"` // about a segment of the station
	PublishAt time.Time `toml:"publish_at"`
	ExpiresAt time.Time `toml:"expires_at"`
	Region    string    `toml:"region"`
	At        time.Time `toml:"at"` // when; default a Thursday noon in UTC

	Allow    *bool    `toml:"allow"`
	Policies []string `toml:"policies"` // ids of all that decide; not given: any
	Reason   string   `toml:"reason"`   // not given: any
	Streams  *int     `toml:"streams"`  // at a time, 0: as many as they like; not given: any
}

// An Outcome is what became of a case.
type Outcome struct {
	Case     string
	Allowed  bool
	Reason   string
	Policies []string
	Wrong    string // what was expected instead; empty: it is as expected
}

// noon is when cases happen that do not say.
func noon() time.Time { return time.Date(2026, time.January, 1, 12, 0, 0, 0, time.UTC) }

// Parse reads a file. What it does not know, it refuses, and it says in which
// line.
func Parse(text []byte) (Suite, error) {
	var s Suite
	if len(text) > maxSize {
		return s, fmt.Errorf("parse scenarios: longer than %d bytes", maxSize)
	}
	err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&s)
	if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok && len(strict.Errors) > 0 {
		line, column := strict.Errors[0].Position()
		return s, fmt.Errorf("parse scenarios: line %d, column %d: %q is not known", line, column, strings.Join(strict.Errors[0].Key(), "."))
	}
	if at, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column := at.Position()
		return s, fmt.Errorf("parse scenarios: line %d, column %d: %w", line, column, err)
	}
	if err != nil {
		return s, fmt.Errorf("parse scenarios: %w", err)
	}
	return s, s.check()
}

func (s *Suite) check() error {
	if n := max(len(s.Stations), len(s.Bearers), len(s.Cases)); n > maxCases || len(s.Cases) == 0 {
		return fmt.Errorf("check scenarios: give 1 to %d cases, and no more stations and bearers", maxCases)
	}
	for i := range s.Stations {
		if err := s.checkStation(i); err != nil {
			return fmt.Errorf("check station %q: %w", s.Stations[i].Name, err)
		}
	}
	for i := range s.Bearers {
		if err := s.checkBearer(i); err != nil {
			return fmt.Errorf("check bearer %q: %w", s.Bearers[i].Name, err)
		}
	}
	for i := range s.Cases {
		if err := s.checkCase(&s.Cases[i]); err != nil {
			return fmt.Errorf("check case %q: %w", s.Cases[i].Name, err)
		}
	}
	return nil
}

func (s *Suite) checkStation(i int) error {
	st := &s.Stations[i]
	if st.Name == "" || st.Name == "*" || slices.ContainsFunc(s.Stations[:i], func(o Station) bool { return o.Name == st.Name }) {
		return errors.New("the name is empty, reserved or taken")
	}
	if st.ID == "" {
		st.ID = idOf(st.Name)
	}
	if slices.ContainsFunc(s.Stations[:i], func(o Station) bool { return o.ID == st.ID }) {
		return errors.New("the id is taken")
	}
	if st.Epoch == 0 {
		st.Epoch = 1
	}
	return nil
}

func (s *Suite) checkBearer(i int) error {
	b := &s.Bearers[i]
	if b.Name == "" || slices.ContainsFunc(s.Bearers[:i], func(o Bearer) bool { return o.Name == b.Name }) {
		return errors.New("the name is empty or taken")
	}
	switch {
	case b.Kind == "":
		b.Kind = "token"
	case b.Kind != "token" && b.Kind != "link":
		return fmt.Errorf("kind %.40q: want token or link", b.Kind)
	}
	if b.Kind == "link" && (len(b.Stations) != 1 || b.Stations[0] == "*" || len(b.Roles) > 0 || b.MFA != "") {
		return errors.New("a link is for one station, and has no role and no second factor")
	}
	for _, name := range b.Stations {
		if name != "*" && s.station(name) == nil {
			return fmt.Errorf("station %.80q is not in the file", name)
		}
	}
	for _, r := range b.Roles {
		if !slices.Contains(policy.AllRoles(), policy.Role(r.Role)) {
			return fmt.Errorf("role %.40q is not known", r.Role)
		}
		if r.Station != "" && s.station(r.Station) == nil {
			return fmt.Errorf("station %.80q is not in the file", r.Station)
		}
	}
	if _, err := b.factor(noon()); err != nil {
		return err
	}
	return nil
}

// idOf is an id for the station of that name, spelled as on a node.
func idOf(name string) string {
	sum := sha256.Sum256([]byte(name))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16]))
}

// factor is when the bearer showed a second factor, for a request at a time.
func (b Bearer) factor(at time.Time) (time.Time, error) {
	if b.MFA == "" {
		return time.Time{}, nil
	}
	ago, err := time.ParseDuration(b.MFA)
	if err != nil || ago < 0 || ago > 365*24*time.Hour {
		return time.Time{}, fmt.Errorf("mfa %.40q: want a time like \"5m\"", b.MFA)
	}
	return at.Add(-ago), nil
}

func (s *Suite) checkCase(c *Case) error {
	if c.At.IsZero() {
		c.At = noon()
	}
	switch {
	case c.Name == "":
		return errors.New("it has no name")
	case c.Allow == nil:
		return errors.New("it does not say what is expected: allow = true or false")
	case s.bearer(c.Bearer) == nil:
		return fmt.Errorf("bearer %.80q is not in the file", c.Bearer)
	case !slices.Contains(policy.Actions(), policy.Action(c.Action)):
		return fmt.Errorf("action %.40q is not known", c.Action)
	case c.Station != "" && s.station(c.Station) == nil:
		return fmt.Errorf("station %.80q is not in the file", c.Station)
	case c.Segment && c.Station == "":
		return errors.New("a segment is one of a station: name it")
	case c.At.Year() < 1971 || c.At.Year() > 2100:
		return errors.New("at is not between the years 1971 and 2100")
	}
	return nil
}

func (s *Suite) station(name string) *Station {
	i := slices.IndexFunc(s.Stations, func(st Station) bool { return st.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Stations[i]
}

func (s *Suite) bearer(name string) *Bearer {
	i := slices.IndexFunc(s.Bearers, func(b Bearer) bool { return b.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Bearers[i]
}
