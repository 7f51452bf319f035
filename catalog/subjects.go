package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
)

var _ policy.Subjects = (*Catalog)(nil)

type subjectRow struct {
	bun.BaseModel `bun:"table:subjects"`

	SubjectMAC []byte `bun:"subject_mac,pk"`
	Subject    []byte `bun:"subject"`
	State      int    `bun:"state"`
	Reason     []byte `bun:"reason"`
	Actor      []byte `bun:"actor"`
	Changed    int64  `bun:"changed"`
}

// subjectStates are the states, each at the place of its number in a row.
func subjectStates() []policy.SubjectState {
	return []policy.SubjectState{policy.SubjectActive, policy.SubjectLimited, policy.SubjectSuspended, policy.SubjectEnded}
}

const (
	keepActive = 90 * 24 * time.Hour // the record of a subject that is active again
	maxReason  = 1000                // bytes
)

// subjectMap holds the states of all subjects that are not active. The writer
// changes it, and a suspension that could not be written.
type subjectMap struct{ states sync.Map } // subject to heldState

// heldState is a state in memory. One that could not be recorded stays whatever
// other processes record.
type heldState struct {
	policy.SubjectState
	unrecorded bool
}

func (m *subjectMap) set(subject string, state policy.SubjectState) {
	if state == policy.SubjectActive {
		m.states.Delete(subject)
		return
	}
	m.states.Store(subject, heldState{SubjectState: state})
}

// loadSubjects makes memory say what db says.
func (c *Catalog) loadSubjects(ctx context.Context, db bun.IDB, _ int64) error {
	all, err := c.readSubjects(ctx, db)
	if err != nil {
		return err
	}
	for _, s := range all {
		if held, ok := c.subjects.states.Load(s.Name); !ok || !held.(heldState).unrecorded {
			c.subjects.set(s.Name, s.State)
		}
	}
	return nil
}

// SubjectState is the state of a subject, from memory.
func (c *Catalog) SubjectState(subject string) policy.SubjectState {
	if held, ok := c.subjects.states.Load(subject); ok {
		return held.(heldState).SubjectState
	}
	return policy.SubjectActive
}

// SetSubject records the state of a subject; when it returns, SubjectState says
// so. A state that bars the subject holds for this process also if it could not
// be recorded, of which the error tells. Records of subjects that have been
// active for 90 days go.
func (c *Catalog) SetSubject(ctx context.Context, s musen.Subject) error {
	r, err := c.subjectRow(s)
	if err == nil {
		err = c.writer.write(ctx, change{
			apply: func(ctx context.Context, tx bun.Tx) error {
				old := micros(c.now().Add(-keepActive))
				if _, err := tx.NewDelete().Model((*subjectRow)(nil)).Where("state = 0 AND changed < ?", old).Exec(ctx); err != nil {
					return err
				}
				_, err := tx.NewInsert().Model(&r).On("CONFLICT (subject_mac) DO UPDATE").
					Set("subject = EXCLUDED.subject, state = EXCLUDED.state, reason = EXCLUDED.reason, actor = EXCLUDED.actor, changed = EXCLUDED.changed").
					Exec(ctx)
				return err
			},
			kind: ofSubjects,
			done: func() { c.subjects.set(s.Name, s.State) },
		})
		if err != nil && s.State.Bars() {
			c.subjects.states.Store(s.Name, heldState{s.State, true})
			err = unrecorded(err)
		}
	}
	return c.failed(err, "set the state of a subject")
}

func (c *Catalog) subjectRow(s musen.Subject) (r subjectRow, err error) {
	if err := checkName("subject", s.Name); err != nil {
		return r, err
	}
	r.State = slices.Index(subjectStates(), s.State)
	if r.State < 0 || s.Changed.IsZero() || len(s.Reason) > maxReason || len(s.Actor) > maxName {
		return r, fmt.Errorf("state %.40q: a subject needs a state, a time and a reason of at most %d bytes: %w", s.State, maxReason, musen.ErrInvalid)
	}
	r.SubjectMAC, r.Changed = c.box.lookup("subject", s.Name), micros(s.Changed)
	for _, f := range []struct {
		to           *[]byte
		column, text string
	}{{&r.Subject, "subject", s.Name}, {&r.Reason, "reason", s.Reason}, {&r.Actor, "actor", s.Actor}} {
		if *f.to, err = c.box.seal(cell{"subjects", string(r.SubjectMAC), f.column}, f.text); err != nil {
			return r, err
		}
	}
	return r, nil
}

// Subject is the record of a subject, or musen.ErrNotFound if no state was set
// for it.
func (c *Catalog) Subject(ctx context.Context, name string) (musen.Subject, error) {
	var r subjectRow
	err := c.reads.NewSelect().Model(&r).Where("subject_mac = ?", c.box.lookup("subject", name)).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return musen.Subject{}, c.failed(musen.ErrNotFound, "look a subject up")
	}
	var s musen.Subject
	if err == nil {
		s, err = c.openSubject(r)
	}
	return s, c.failed(err, "look a subject up")
}

// Subjects are the records of all subjects that a state was set for, the last
// first.
func (c *Catalog) Subjects(ctx context.Context) ([]musen.Subject, error) {
	all, err := c.readSubjects(ctx, c.reads)
	return all, c.failed(err, "list subjects")
}

func (c *Catalog) readSubjects(ctx context.Context, db bun.IDB) ([]musen.Subject, error) {
	var rows []subjectRow
	if err := db.NewSelect().Model(&rows).Order("changed DESC", "subject_mac").Scan(ctx); err != nil {
		return nil, err
	}
	all := make([]musen.Subject, len(rows))
	for i, r := range rows {
		var err error
		if all[i], err = c.openSubject(r); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (c *Catalog) openSubject(r subjectRow) (s musen.Subject, err error) {
	if r.State < 0 || r.State >= len(subjectStates()) {
		return s, damaged(fmt.Errorf("row of a subject: impossible state %d", r.State))
	}
	s.State, s.Changed = subjectStates()[r.State], instant(r.Changed)
	for _, f := range []struct {
		to     *string
		column string
		sealed []byte
	}{{&s.Name, "subject", r.Subject}, {&s.Reason, "reason", r.Reason}, {&s.Actor, "actor", r.Actor}} {
		if *f.to, err = c.box.open(cell{"subjects", string(r.SubjectMAC), f.column}, f.sealed); err != nil {
			return musen.Subject{}, err
		}
	}
	return s, nil
}
