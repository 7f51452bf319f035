package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
)

type tokenRow struct {
	bun.BaseModel `bun:"table:tokens"`

	ID         string `bun:"id,pk"`
	Subject    []byte `bun:"subject"`
	SubjectMAC []byte `bun:"subject_mac"`
	Stations   string `bun:"stations"`
	Actions    string `bun:"actions"`
	Issued     int64  `bun:"issued"`
	Expires    int64  `bun:"expires"`
	Revoked    int64  `bun:"revoked"`
	Identity   bool   `bun:"identity"`
	Issuer     []byte `bun:"issuer"`     // nil: whoever holds the node
	IssuerMAC  []byte `bun:"issuer_mac"` // of the subject that stands for all that it issued
}

type revokedTokenRow struct {
	bun.BaseModel `bun:"table:revoked_tokens"`

	ID      string `bun:"id,pk"`
	Expires int64  `bun:"expires"`
	Change  int64  `bun:"change"`
}

type revokedSubjectRow struct {
	bun.BaseModel `bun:"table:revoked_subjects"`

	SubjectMAC []byte `bun:"subject_mac,pk"`
	Subject    []byte `bun:"subject"`
	Revoked    int64  `bun:"revoked"`
	Change     int64  `bun:"change"`
}

// maxName is the longest jti or subject that is kept, in bytes.
const maxName = 1024

const (
	keepRevoked = 24 * time.Hour      // after a revoked credential expired; more than any leeway
	keepTokens  = 30 * 24 * time.Hour // records of tokens that expired
)

// zeroTime is how a column says "never".
var zeroTime = micros(time.Time{})

// revocations is what was revoked, in memory. The writer changes it, and a
// revocation that could not be written.
type revocations struct {
	tokens   sync.Map // jti to the time.Time when it expires anyway; zero: never
	subjects sync.Map // subject to time.Time of the revocation
	keys     sync.Map // name of a key to struct{}{}
}

// loadRevocations adds to what memory holds: nothing is ever revoked no more.
func (c *Catalog) loadRevocations(ctx context.Context, db bun.IDB, since int64) error {
	var tokens []revokedTokenRow
	var subjects []revokedSubjectRow
	if err := db.NewSelect().Model(&tokens).Where("change > ?", since).Scan(ctx); err != nil {
		return c.store.explain(err)
	}
	if err := db.NewSelect().Model(&subjects).Where("change > ?", since).Scan(ctx); err != nil {
		return c.store.explain(err)
	}
	for _, r := range tokens {
		c.revoked.tokens.Store(r.ID, instant(r.Expires))
	}
	c.revoked.prune(c.now().Add(-keepRevoked))
	for _, r := range subjects {
		subject, err := c.box.open(cell{"revoked_subjects", string(r.SubjectMAC), "subject"}, r.Subject)
		if err != nil {
			return err
		}
		c.revoked.subject(subject, instant(r.Revoked))
	}
	return nil
}

// subject notes that a subject was revoked then. A later time stays.
func (r *revocations) subject(subject string, at time.Time) {
	for {
		was, there := r.subjects.LoadOrStore(subject, at)
		if !there || !was.(time.Time).Before(at) || r.subjects.CompareAndSwap(subject, was, at) {
			return
		}
	}
}

// prune forgets revocations of what expired before that time by itself.
func (r *revocations) prune(before time.Time) {
	r.tokens.Range(func(id, expires any) bool {
		if at := expires.(time.Time); !at.IsZero() && at.Before(before) {
			r.tokens.Delete(id)
		}
		return true
	})
}

// Revoked reports whether the credential with that id, issued then to that
// subject, was revoked. It looks in memory only. A subject's revocation holds
// for all that was issued up to the end of the second in which it was made.
func (c *Catalog) Revoked(id, subject string, issued time.Time) bool {
	if id != "" {
		if _, ok := c.revoked.tokens.Load(id); ok {
			return true
		}
	}
	at, ok := c.revoked.subjects.Load(subject)
	return ok && issued.Unix() <= at.(time.Time).Unix()
}

// Epoch is the epoch of the station with that id, from memory.
func (c *Catalog) Epoch(station string) (uint64, bool) {
	s, ok := c.stations.byID.Load(station)
	if !ok {
		return 0, false
	}
	return s.(musen.Station).Epoch, true
}

// PutToken records a token that is about to be handed out. It returns
// musen.ErrExists if that id is on record. Records of tokens that expired more
// than 30 days ago go.
func (c *Catalog) PutToken(ctx context.Context, t musen.Token) error {
	r, err := c.tokenRow(t)
	if err == nil {
		err = c.writer.write(ctx, change{apply: func(ctx context.Context, tx bun.Tx) error {
			old := micros(c.now().Add(-keepTokens))
			if _, err := tx.NewDelete().Model((*tokenRow)(nil)).Where("expires <> ? AND expires < ?", zeroTime, old).Exec(ctx); err != nil {
				return err
			}
			_, err := tx.NewInsert().Model(&r).Exec(ctx)
			return err
		}})
	}
	return c.failed(err, "record token %.80q", t.ID)
}

func (c *Catalog) tokenRow(t musen.Token) (tokenRow, error) {
	if err := checkName("token id", t.ID); err != nil {
		return tokenRow{}, err
	}
	sealed, err := c.box.seal(cell{"tokens", t.ID, "subject"}, t.Subject)
	r := tokenRow{
		ID: t.ID, Subject: sealed, SubjectMAC: c.box.lookup("subject", t.Subject),
		Stations: strings.Join(t.Stations, " "), Actions: strings.Join(t.Actions, " "),
		Issued: micros(t.Issued), Expires: micros(t.Expires), Revoked: micros(t.Revoked), Identity: t.Identity,
	}
	if err == nil && t.Issuer != "" {
		r.IssuerMAC = c.box.lookup("subject", policy.IssuedBy(t.Issuer))
		r.Issuer, err = c.box.seal(cell{"tokens", t.ID, "issuer"}, t.Issuer)
	}
	return r, err
}

func checkName(what, name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("%s %.80q: %w: give 1 to %d bytes", what, name, musen.ErrInvalid, maxName)
	}
	return nil
}

// Tokens are the records of the tokens that were issued, newest first.
func (c *Catalog) Tokens(ctx context.Context) ([]musen.Token, error) {
	var rows []tokenRow
	err := c.reads.NewSelect().Model(&rows).Order("issued DESC", "id").Scan(ctx)
	if err != nil {
		return nil, c.failed(err, "list tokens")
	}
	tokens := make([]musen.Token, len(rows))
	for i, r := range rows {
		subject, err := c.box.open(cell{"tokens", r.ID, "subject"}, r.Subject)
		var issuer string
		if err == nil && r.Issuer != nil {
			issuer, err = c.box.open(cell{"tokens", r.ID, "issuer"}, r.Issuer)
		}
		if err != nil {
			return nil, c.failed(err, "list tokens")
		}
		tokens[i] = musen.Token{
			ID: r.ID, Subject: subject, Issuer: issuer, Stations: strings.Fields(r.Stations), Actions: strings.Fields(r.Actions),
			Issued: instant(r.Issued), Expires: instant(r.Expires), Revoked: instant(r.Revoked), Identity: r.Identity,
		}
	}
	return tokens, nil
}

// RevokeToken revokes the credential with that id, also one that is not on
// record; when it returns, Revoked says so, until the credential has long
// expired by itself. That holds for this process also if it could not be
// recorded, of which the error tells.
func (c *Catalog) RevokeToken(ctx context.Context, id string) error {
	expires := zeroTime
	err := checkName("token id", id)
	if err == nil {
		err = c.writer.write(ctx, change{
			apply: func(ctx context.Context, tx bun.Tx) (err error) {
				expires, err = c.revokeToken(ctx, tx, id)
				return err
			},
			kind: ofRevocations,
			done: func() {
				c.revoked.tokens.LoadOrStore(id, instant(expires))
				c.revoked.prune(c.now().Add(-keepRevoked))
			},
		})
		if err != nil {
			c.revoked.tokens.LoadOrStore(id, instant(zeroTime))
			err = unrecorded(err)
		}
	}
	return c.failed(err, "revoke token %.80q", id)
}

// unrecorded tells what a revocation is worth that only memory holds.
func unrecorded(err error) error {
	return fmt.Errorf("in force until the node stops, but not recorded, so do it again: %w", err)
}

func (c *Catalog) revokeToken(ctx context.Context, tx bun.Tx, id string) (expires int64, err error) {
	old := micros(c.now().Add(-keepRevoked))
	_, err = tx.NewDelete().Model((*revokedTokenRow)(nil)).Where("expires <> ? AND expires < ?", zeroTime, old).Exec(ctx)
	if err != nil {
		return 0, err
	}
	t := tokenRow{ID: id, Expires: zeroTime}
	err = tx.NewSelect().Model(&t).WherePK().Scan(ctx)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, err
	}
	r := revokedTokenRow{ID: id, Expires: t.Expires}
	if r.Change, err = nextChange(ctx, tx); err != nil {
		return 0, err
	}
	if _, err = tx.NewInsert().Model(&r).On("CONFLICT (id) DO NOTHING").Exec(ctx); err != nil {
		return 0, err
	}
	_, err = tx.NewUpdate().Model((*tokenRow)(nil)).Set("revoked = ?", micros(c.now())).
		Where("id = ? AND revoked = ?", id, zeroTime).Exec(ctx)
	return r.Expires, err
}

// RevokeSubject revokes all that was issued to a subject until the end of this
// second, or by one, if the subject is that which policy.IssuedBy makes; when it
// returns, Revoked says so. What is issued later is good. An error is as that of
// RevokeToken.
func (c *Catalog) RevokeSubject(ctx context.Context, subject string) error {
	var at time.Time
	err := checkName("subject", subject)
	if err == nil {
		err = c.writer.write(ctx, change{
			apply: func(ctx context.Context, tx bun.Tx) (err error) {
				at = c.now()
				return c.revokeSubject(ctx, tx, subject, at)
			},
			kind: ofRevocations,
			done: func() { c.revoked.subject(subject, at) },
		})
		if err != nil {
			c.revoked.subject(subject, c.now())
			err = unrecorded(err)
		}
	}
	return c.failed(err, "revoke a subject")
}

func (c *Catalog) revokeSubject(ctx context.Context, tx bun.Tx, subject string, at time.Time) error {
	mac := c.box.lookup("subject", subject)
	sealed, err := c.box.seal(cell{"revoked_subjects", string(mac), "subject"}, subject)
	if err != nil {
		return err
	}
	r := revokedSubjectRow{SubjectMAC: mac, Subject: sealed, Revoked: micros(at)}
	if r.Change, err = nextChange(ctx, tx); err != nil {
		return err
	}
	_, err = tx.NewInsert().Model(&r).On("CONFLICT (subject_mac) DO UPDATE").
		Set("subject = EXCLUDED.subject, revoked = EXCLUDED.revoked, change = EXCLUDED.change").Exec(ctx)
	if err == nil {
		_, err = tx.NewUpdate().Model((*tokenRow)(nil)).Set("revoked = ?", micros(at)).
			Where("(subject_mac = ? OR issuer_mac = ?) AND revoked = ?", mac, mac, zeroTime).Exec(ctx)
	}
	return err
}
