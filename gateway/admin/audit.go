package admin

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/problem"
	"github.com/musenai/musen/internal/audit"
	"github.com/musenai/musen/internal/limit"
	"github.com/musenai/musen/policy"
)

// Audit keeps the record of what is done; *audit.Log does.
type Audit interface {
	// Append is durable on return. After an error what was to be recorded must
	// not be done.
	Append(r audit.Record) error
	List(q audit.Query) ([]audit.Record, error)
	Summarize(q audit.Query) (audit.Summary, error)
}

const (
	reasonHeader = "Musen-Reason" // carries a purpose or a ticket
	notRecorded  = ""             // the event of a route that changes nothing
)

var (
	errAudit       = refusal{503, "audit_unavailable", "What changes something is recorded first, and the audit log cannot be written.", "See why in the node's log. If its disk failed, mend that and start the node again."}
	errManyRefused = refusal{429, "too_many_requests", "Too many of your requests were refused within a minute.", "Look at why they are refused, and wait."}
	errReason      = refusal{400, "bad_reason", "", "Send the header " + reasonHeader + " once, or leave it out."}
)

// notes are what a handler adds to the record of what came of a call.
type notes struct{ object string }

// about says what the call acts on, where its path does not, or not by a name
// that lasts.
func (c call) about(format string, args ...any) {
	if c.notes != nil {
		c.notes.object = fmt.Sprintf(format, args...)
	}
}

// record is one of the call, so far.
func (c call) record(g *gin.Context, event, outcome string) audit.Record {
	return audit.Record{
		Event: event, Outcome: outcome, By: c.grant.Kind(), Actor: c.grant.Subject(), Credential: c.grant.ID(),
		Object: objectOf(g), Request: problem.RequestID(g.Request.Context()),
	}
}

// objectOf is the path of a request, without what stands in the place of an id
// and may be a secret: the whole link of a share, or a token.
func objectOf(g *gin.Context) string {
	path := strings.TrimPrefix(g.FullPath(), prefix)
	for _, p := range g.Params {
		value := url.PathEscape(p.Value)
		if len(value) > maxInPath || strings.Contains(value, "%2F") || musen.IsShareSecret(value) {
			value = "(no id)"
		}
		path = strings.Replace(path, ":"+p.Key, value, 1)
	}
	return path
}

// maxInPath is how many bytes an id, a name or a CID has in a path at most.
const maxInPath = 128

// local reports whether the caller is the operator on the socket.
func (c call) local() bool { return c.grant.Kind() == policy.LocalOperator().Kind() }

// act runs the handler of a route between two records: that it will be tried,
// and what came of it. When the first cannot be made, nothing is done.
func (s *Server) act(c *gin.Context, in call, event string) (err error) {
	r := in.record(c, event, audit.Begun)
	if r.Reason, err = reason(c.Request); err != nil {
		return err
	}
	asks := in.route.scope == onEach && !in.local() // any credential gets as far as this
	if asks && s.refused.full(in.grant.Subject()) {
		return errManyRefused
	}
	if err := s.append(c.Request.Context(), r); err != nil {
		return err
	}
	err = errInternal // unless the handler returns
	defer func() {
		r.Object = cmp.Or(in.notes.object, r.Object)
		r.Outcome, r.Code = outcomeOf(err)
		if asks && r.Outcome == audit.Refused {
			s.refused.by.Take(in.grant.Subject())
		}
		_ = s.append(c.Request.Context(), r) // it was done: all that is left is to tell
	}()
	err = in.route.handle(s, c, in)
	return err
}

func outcomeOf(err error) (outcome, code string) {
	if err == nil {
		return audit.Done, ""
	}
	p, _ := problemOf(err)
	if p.Status < http.StatusInternalServerError {
		return audit.Refused, string(p.Code)
	}
	return audit.Failed, string(p.Code)
}

// reason is the purpose or ticket that a request names.
func reason(r *http.Request) (string, error) {
	values := r.Header.Values(reasonHeader)
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 || !isText(values[0]) {
		return "", errReason.with("The reason is not one line of text of at most %d bytes, without characters that change its direction.", maxText)
	}
	return values[0], nil
}

// append makes a record durable, or says why what it is about is not done.
func (s *Server) append(ctx context.Context, r audit.Record) error {
	err := s.Audit.Append(r)
	if err == nil {
		return nil
	}
	s.Log.LogAttrs(ctx, slog.LevelError, "not recorded in the audit log", slog.String("event", r.Event),
		slog.String("outcome", r.Outcome), slog.String("err", err.Error()), slog.String("request_id", r.Request))
	if noRoom(err) {
		return problem.WithHelp(problem.WithDetail(musen.ErrNoSpace, "The disk of the audit log has no room left, so nothing was done."),
			"Make room on the disk of the folder audit and send it again; what frees space or takes access away still works.")
	}
	return errAudit
}

// refusedAMinute is how many refused calls of one caller are recorded one by one.
const refusedAMinute = 60

// refusals bound how many calls that were refused are recorded: the log is never
// made smaller. Strangers share a bucket, and take no place from who is known.
type refusals struct {
	by   *limit.Buckets // by subject
	more atomic.Int64   // that were not recorded
}

func newRefusals(now func() time.Time) *refusals {
	return &refusals{by: limit.New(limit.Options{Every: time.Minute / refusedAMinute, Burst: refusedAMinute, Keys: 1 << 12, Now: now})}
}

// full reports whether no more of a subject are recorded now, and counts that.
func (r *refusals) full(subject string) bool {
	full := r.by.Wait(subject) > 0
	if full {
		r.more.Add(1)
	}
	return full
}

// recordRefusal records that the guard refused a caller, whom it may not know.
// Its path is not recorded: it is the caller's to choose.
func (s *Server) recordRefusal(c *gin.Context, in call, err error) {
	p, _ := problemOf(err)
	switch p.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
	default:
		return
	}
	if in.local() { // who may do all, and misspelled something
		return
	}
	if s.refused.full(in.grant.Subject()) {
		return
	}
	s.refused.by.Take(in.grant.Subject())
	r := in.record(c, "admin.refused", audit.Refused)
	r.Object, r.Code = knownMethod(c.Request.Method)+" "+strings.TrimPrefix(c.FullPath(), prefix), string(p.Code)
	if more := s.refused.more.Swap(0); more > 0 {
		r.Facts = map[string]string{"more": fmt.Sprint(more)}
	}
	_ = s.append(c.Request.Context(), r)
}
