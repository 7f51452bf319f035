package gateway

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/problem"
	"github.com/musenai/musen/internal/limit"
	"github.com/musenai/musen/internal/watch"
)

// Reports takes in what people say is wrong with what is played.
type Reports interface {
	// PutReport is durable on return, and works as long for what is there as for
	// what is not. The station is empty if what was reported is not here.
	PutReport(ctx context.Context, n musen.NewReport) (receipt, station string, err error)
	// ReportState is for a receipt that PutReport gave out less than keep ago, or
	// whose report was closed since; for others musen.ErrNotFound.
	ReportState(ctx context.Context, receipt string, keep time.Duration) (musen.ReportState, error)
}

const (
	reportsRoute = "/reports"
	maxReport    = 16 << 10 // bytes of a body: each byte of the text may be escaped
	// reportGrain is the measure that the time of an answer to a report is a
	// multiple of, so that it does not tell what there was to do.
	reportGrain = 50 * time.Millisecond
)

// reportLimits bound how often something is reported.
type reportLimits struct {
	client *limit.Buckets // by one client
	target *limit.Buckets // of one thing, whether or not it is there
	all    *limit.Buckets
}

func newReportLimits(now func() time.Time) reportLimits {
	const keys = 1 << 14
	return reportLimits{
		client: limit.New(limit.Options{Every: time.Minute, Burst: 10, Keys: keys, Now: now}),
		target: limit.New(limit.Options{Every: 2 * time.Second, Burst: 100, Keys: keys, Now: now}),
		all:    limit.New(limit.Options{Every: time.Second / 20, Burst: 400, Keys: 1, Now: now}),
	}
}

// take takes a token of each limit on reports of a target.
func (l reportLimits) take(target string) error {
	if err := take(l.target, "reports_target", target); err != nil {
		return err
	}
	return take(l.all, "reports", "")
}

// reportForm is what the page with the form shows.
type reportForm struct {
	About      string
	Categories []musen.ReportCategory
	Most       int // bytes of text
}

// receiptPage is what the page of a receipt shows.
type receiptPage struct {
	Receipt string
	State   string
	New     bool
}

// receiptAnswer is a receipt for programs.
type receiptAnswer struct {
	Receipt string `json:"receipt"`
	State   string `json:"state"` // received, in_review, closed
	Outcome string `json:"outcome,omitempty"`
}

// newReceiptAnswer shapes a state.
func newReceiptAnswer(receipt string, s musen.ReportState) receiptAnswer {
	switch s {
	case musen.ReportReceived:
		return receiptAnswer{receipt, "received", ""}
	case musen.ReportInReview:
		return receiptAnswer{receipt, "in_review", ""}
	case musen.ReportActedOn:
		return receiptAnswer{receipt, "closed", "action"}
	}
	return receiptAnswer{receipt, "closed", "none"}
}

// showReportForm answers GET and HEAD /reports. What the link to it says that is
// to be reported stands in the form; nothing else of the query does.
func (s *Server) showReportForm(c *gin.Context) {
	var r musen.NewReport
	about := ""
	if query, err := url.ParseQuery(c.Request.URL.RawQuery); err == nil && setTarget(&r, query.Get("about")) && r.Share == "" {
		about = reported(r)
	}
	s.page(c, http.StatusOK, "report.html", reportForm{about, musen.ReportCategories(), musen.MaxStatement})
}

// takeReport answers POST /reports, by anybody. The answer, and when it comes,
// does not tell whether there is what was reported.
func (s *Server) takeReport(c *gin.Context) {
	setPrivate(c.Writer.Header())
	r, person, err := s.readReport(c)
	start := time.Now() // the system's, as that of the client
	var receipt, station string
	if err == nil {
		receipt, station, err = s.pages.Reports.PutReport(c.Request.Context(), r)
	}
	if err != nil {
		s.refuseReport(c, person, err)
		return
	}
	if who := clientOf(c.Request.Context()); station != "" && r.Share == "" && !who.crowd {
		s.o.Watch.Reported(targetOf(r), reported(r), watch.Client{Name: who.name, Key: who.key})
	}
	wait(c.Request.Context(), untilAnswer(time.Since(start)))
	if person {
		s.page(c, http.StatusAccepted, "receipt.html", receiptPage{receipt, musen.ReportReceived.String(), true})
		return
	}
	s.answerJSON(c, http.StatusAccepted, newReceiptAnswer(receipt, musen.ReportReceived))
}

// untilAnswer is how long an answer waits that took so long to make.
func untilAnswer(took time.Duration) time.Duration { return reportGrain - took%reportGrain }

// wait waits, unless nobody waits for it.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// refuseReport answers a person with a page, and a program with a problem.
func (s *Server) refuseReport(c *gin.Context, person bool, err error) {
	if person {
		s.refusePage(c, err)
		return
	}
	s.refuse(c, err)
}

// showReceipt answers GET and HEAD /reports/{receipt}: what became of a report,
// and nothing else.
func (s *Server) showReceipt(c *gin.Context) {
	setPrivate(c.Writer.Header())
	person := strings.Contains(c.Request.Header.Get("Accept"), "text/html")
	receipt := c.Param("receipt")
	state, err := s.pages.Reports.ReportState(c.Request.Context(), receipt, s.pages.KeepReports)
	switch {
	case errors.Is(err, musen.ErrNotFound):
		s.refuseReport(c, person, problem.WithDetail(musen.ErrNotFound, "There is no report with this receipt, or not any more."))
	case err != nil:
		s.refuseReport(c, person, err)
	case person:
		s.page(c, http.StatusOK, "receipt.html", receiptPage{receipt, state.String(), false})
	default:
		s.answerJSON(c, http.StatusOK, newReceiptAnswer(receipt, state))
	}
}

// readReport reads a report that is within the limits. person tells that it came
// from the page with the form.
func (s *Server) readReport(c *gin.Context) (r musen.NewReport, person bool, err error) {
	person = isForm(c.Request.Header.Get("Content-Type"))
	if s.pages.sites.Check(c.Request) != nil {
		return r, person, problem.WithHelp(problem.WithDetail(problem.Forbidden, "The report was sent from a page of another site."), "Send it from the page /reports here, or from a program.")
	}
	who := clientOf(c.Request.Context())
	if !who.crowd {
		if err := take(s.pages.reports.client, "reports_client", who.name); err != nil {
			return r, person, err
		}
	}
	mediaType, body, err := s.readBody(c, maxReport)
	if err != nil {
		return r, person, err
	}
	if r, err = parseReport(mediaType, body); err != nil {
		return r, person, err
	}
	r.Reporter = who.name
	if err = s.pages.reports.take(targetOf(r)); err == nil {
		err = r.MakeReportID(s.o.Rand)
	}
	return r, person, err
}

// isForm reports whether a Content-Type is that of a form.
func isForm(contentType string) bool {
	mediaType, _, err := mime.ParseMediaType(contentType)
	return err == nil && mediaType == formType
}

// sentReport is a report as it is sent.
type sentReport struct {
	About    string `json:"about"`
	Category string `json:"category"`
	Text     string `json:"text"`
}

// parseReport reads the body of a report: three fields, and no other, for what
// is not asked for is not wanted.
func parseReport(mediaType string, body []byte) (r musen.NewReport, err error) {
	var sent sentReport
	switch mediaType {
	case formType:
		sent, err = parseReportForm(string(body))
	case "application/json":
		err = json.Unmarshal(body, &sent, json.RejectUnknownMembers(true))
	default:
		return r, problem.UnsupportedMedia
	}
	if err != nil {
		return r, problem.WithDetail(problem.BadRequest, "The report is not the fields about, category and, if you like, text, each once.")
	}
	r.Category = musen.ReportCategory(sent.Category)
	r.Text = strings.TrimSpace(strings.ReplaceAll(sent.Text, "\r\n", "\n"))
	switch {
	case !slices.Contains(musen.ReportCategories(), r.Category):
		return r, problem.WithDetail(musen.ErrInvalid, "The category is none of "+categoryList()+".")
	case !utf8.ValidString(r.Text) || len(r.Text) > musen.MaxStatement:
		return r, problem.WithDetail(musen.ErrInvalid, "The text is longer than 2048 bytes, or not in UTF-8.")
	case !setTarget(&r, sent.About):
		return r, problem.WithDetail(musen.ErrInvalid, "What the report is about is neither the CID of a segment nor a link to a segment, a station or a share.")
	}
	return r, nil
}

func categoryList() string {
	var words []string
	for _, c := range musen.ReportCategories() {
		words = append(words, string(c))
	}
	return strings.Join(words, ", ")
}

func parseReportForm(body string) (sent sentReport, err error) {
	form, err := url.ParseQuery(body)
	if err != nil {
		return sent, err
	}
	for name, values := range form {
		to, ok := map[string]*string{"about": &sent.About, "category": &sent.Category, "text": &sent.Text}[name]
		if !ok || len(values) != 1 {
			return sent, problem.BadRequest
		}
		*to = values[0]
	}
	return sent, nil
}

// setTarget reads what a report is about: a CID in any spelling, or a link or
// its path, on whatever host it was copied. Of a link it takes what it leads to;
// what it opens that with is not looked at.
func setTarget(r *musen.NewReport, about string) bool {
	about = strings.TrimSpace(about)
	if c, _, err := parseCID(strings.TrimPrefix(about, "ipfs://")); err == nil {
		r.CID = c
		return true
	}
	if !strings.Contains(about, "://") {
		about = "//" + about // as people copy it: a host and a path, or a path
	}
	link, err := url.Parse(about)
	if err != nil {
		return false
	}
	parts := strings.Split(strings.Trim(link.EscapedPath(), "/"), "/")
	for i, part := range parts[:len(parts)-1] {
		next := parts[i+1]
		switch part {
		case "listen", "ipfs":
			if c, _, err := parseCID(next); err == nil {
				r.CID = c
				return true
			}
		case "s":
			if musen.IsShareSecret(next) {
				r.Share = next
				return true
			}
		case "stations":
			if musen.IsID(next) {
				r.Station = next
				return true
			}
		}
	}
	return false
}

// reported names what a report is about, unless that is a secret.
func reported(r musen.NewReport) string {
	switch {
	case r.CID.Defined():
		return canonical(r.CID, r.CID.String())
	case r.Station != "":
		return "/stations/" + r.Station
	}
	return ""
}

// targetOf is what limits on what is reported go by: a segment has many CIDs and
// one hash.
func targetOf(r musen.NewReport) string {
	if r.CID.Defined() {
		return string(r.CID.Hash())
	}
	return reported(r) + r.Share
}

// formType is the media type of forms.
const formType = "application/x-www-form-urlencoded"

// readBody reads a body of at most that many bytes, with its media type.
func (s *Server) readBody(c *gin.Context, most int64) (mediaType string, body []byte, err error) {
	r := c.Request
	types := r.Header.Values("Content-Type")
	if len(types) != 1 || r.Header.Get("Content-Encoding") != "" {
		return "", nil, problem.UnsupportedMedia
	}
	if mediaType, _, err = mime.ParseMediaType(types[0]); err != nil {
		return "", nil, problem.UnsupportedMedia
	}
	control := http.NewResponseController(c.Writer)
	_ = control.SetReadDeadline(time.Now().Add(s.o.Limits.HeaderTimeout)) // a recorder has none
	body, err = io.ReadAll(http.MaxBytesReader(c.Writer, r.Body, most))
	if err != nil {
		return "", nil, err
	}
	_ = control.SetReadDeadline(time.Time{}) // when it passes, a request counts as abandoned
	return mediaType, body, nil
}
