package admin

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire/access"
	"github.com/musenai/musen/gateway/admin/wire/auditlog"
	"github.com/musenai/musen/internal/audit"
)

// AuditHeads knows and compares states of the audit log; *audit.Log does.
type AuditHeads interface {
	Origin() string
	// Checkpoint signs the state now; key verifies it.
	Checkpoint() (signed, key string, err error)
	// Confirm returns a fault unless the log had that head.
	Confirm(k audit.Known) (*audit.Fault, error)
}

// AuditState is what the node knows of its audit log besides. What is not set
// is not known.
type AuditState struct {
	Begun time.Time // when its first record was made
	// Kept is the head that the catalogue knows.
	Kept func(ctx context.Context) (audit.Head, error)
	// Check tells when the node last verified the whole log, and what was wrong.
	Check func() (at time.Time, faults []string)
}

const maxRecords = 10_000 // in one answer

// errUnknownHead refuses to sign for a digest of another log.
var errUnknownHead = refusal{409, "report_changed", "The log has no such record, or it is signed off already.", "Look at the digest again."}

// listAudit answers with records. That they were read is recorded before.
func (s *Server) listAudit(c *gin.Context, in call) error {
	p := parameters{values: c.Request.URL.Query()}
	q := audit.Query{Since: p.moment("since"), Event: p.text("event"), Actor: p.text("actor"), Limit: p.number("limit", 1, maxRecords)}
	if p.err != nil {
		return p.err
	}
	if !q.Known() {
		return badParameter("event", "is no event, nor what events begin with; docs/design/audit.md has them")
	}
	in.about("%s", wording(q))
	found, err := s.Audit.List(q)
	if err != nil {
		return err
	}
	list := auditlog.Records{Records: []auditlog.Record{}}
	for _, r := range found {
		list.Records = append(list.Records, auditlog.FromRecord(r))
		list.Size = max(list.Size, r.Seq)
	}
	return s.answer(c, http.StatusOK, list)
}

// wording is a query in words.
func wording(q audit.Query) string {
	words := fmt.Sprintf("the last %d records", q.Limit)
	if q.Event != "" {
		words += " of " + q.Event
	}
	if q.Actor != "" {
		words += fmt.Sprintf(" by %q", q.Actor)
	}
	if !q.Since.IsZero() {
		words += " since " + q.Since.Format(time.RFC3339)
	}
	return words
}

func (s *Server) getCheckpoint(c *gin.Context, _ call) (err error) {
	var p auditlog.Checkpoint
	if p.Checkpoint, p.Key, err = s.AuditHeads.Checkpoint(); err != nil {
		return err
	}
	if s.AuditState.Kept != nil {
		kept, err := s.AuditState.Kept(c.Request.Context())
		if err != nil {
			return err
		}
		head := auditlog.FromHead(kept)
		p.Catalogue = &head
	}
	return s.answer(c, http.StatusOK, p)
}

// lastAudit is the last review of this log; nil: there is none.
func (s *Server) lastAudit(ctx context.Context) (*musen.Review, error) {
	reviews, err := s.Reviews.Reviews(ctx, s.AuditHeads.Origin())
	if err != nil || len(reviews) == 0 {
		return nil, err
	}
	return &reviews[0], nil
}

// getDigest answers with what happened since the last review.
func (s *Server) getDigest(c *gin.Context, _ call) error {
	last, err := s.lastAudit(c.Request.Context())
	if err != nil {
		return err
	}
	d := auditlog.Digest{Faults: []string{}}
	if last != nil {
		v := access.FromReview(*last)
		d.Last, d.After = &v, last.Size
	}
	sum, err := s.Audit.Summarize(audit.Query{After: d.After})
	if err != nil {
		return err
	}
	d.Records, d.Head = sum.Records, auditlog.FromHead(sum.Head)
	d.From, d.To = moment(sum.First.Time), moment(sum.Last.Time)
	d.Events, d.Actors = auditlog.FromCounts(sum.Events), auditlog.FromCounts(sum.Actors)
	if s.AuditState.Check != nil {
		at, faults := s.AuditState.Check()
		d.Checked, d.Faults = moment(at), append(d.Faults, faults...)
	}
	return s.answer(c, http.StatusOK, d)
}

// signAudit records that somebody read the digest of the log up to a record.
func (s *Server) signAudit(c *gin.Context, in call) error {
	var req auditlog.SignOff
	if err := s.readJSON(c, &req); err != nil {
		return err
	}
	if req.Reviewer == "" || !isName(req.Reviewer) {
		return errField.with("The reviewer is not one line of text of 1 to %d bytes.", maxName)
	}
	head, ok := req.Head.Head()
	if !ok || head.Size == 0 {
		return errField.with("The head is not that of an audit log.")
	}
	ctx := c.Request.Context()
	last, err := s.lastAudit(ctx)
	if err != nil {
		return err
	}
	if fault, err := s.AuditHeads.Confirm(audit.Known{Head: head, Where: "the digest"}); err != nil {
		return err
	} else if fault != nil || last != nil && head.Size <= last.Size {
		return errUnknownHead
	}
	in.about("records to %d by %q", head.Size, req.Reviewer)
	v := musen.Review{Of: s.AuditHeads.Origin(), Size: head.Size, Reviewer: req.Reviewer, Actor: in.grant.Subject(), Digest: req.Head.Hash}
	if v, err = s.sign(ctx, v); err != nil {
		return err
	}
	return s.answer(c, http.StatusCreated, access.FromReview(v))
}

// sign signs a review and keeps it.
func (s *Server) sign(ctx context.Context, v musen.Review) (musen.Review, error) {
	id := make([]byte, 8)
	if _, err := io.ReadFull(s.Rand, id); err != nil {
		return v, err
	}
	v.ID, v.Made = hex.EncodeToString(id), s.Now()
	var err error
	if v.Signature, err = s.Issuer.Attest(access.FromReview(v)); err != nil {
		return v, err
	}
	return v, s.Reviews.PutReview(ctx, v)
}

// auditWarnings are what an operator should look at in the audit log.
func (s *Server) auditWarnings(ctx context.Context) (list []string, err error) {
	if s.AuditState.Check != nil {
		if _, faults := s.AuditState.Check(); len(faults) > 0 {
			list = append(list, "the audit log is not as it was written: "+strings.TrimSuffix(faults[0], ".")+"; see `musen audit verify`")
		}
	}
	if s.Limits.AuditReviewEvery <= 0 {
		return list, nil
	}
	last, err := s.lastAudit(ctx)
	if err != nil {
		return list, err
	}
	since := s.AuditState.Begun
	if last != nil {
		since = last.Made
	}
	if due := since.Add(s.Limits.AuditReviewEvery); !s.Now().Before(due) {
		list = append(list, fmt.Sprintf("a review of the audit log is due since %s: see `musen audit review`", due.UTC().Format(time.RFC3339)))
	}
	return list, nil
}
