package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/ipfs/boxo/pinning/remote/client/openapi"
	"github.com/ipfs/go-cid"
)

const (
	maxID      = 256 // bytes of a request's ID
	maxReason  = 160
	maxOrigins = 20 // as the API has it
	fewRemote  = 100
)

// errNone says that a service does not know a request.
var errNone = errors.New("the service does not know the request")

// line is the means to make requests to one service.
type line struct {
	api   *openapi.PinsApiService
	token string
}

func (s *Services) line(v Service) (line, error) {
	token, err := readToken(v.TokenFile)
	if err != nil {
		return line{}, err
	}
	c := openapi.NewConfiguration()
	c.UserAgent = "musen"
	c.HTTPClient = s.client
	c.Servers = openapi.ServerConfigurations{{URL: v.Endpoint}}
	c.AddDefaultHeader("Authorization", "Bearer "+token)
	return line{openapi.NewAPIClient(c).PinsApi, token}, nil
}

// answer is what a service said about one request.
type answer struct {
	id        string
	state     State
	reason    string
	delegates []string // as the service wrote them, some of them at most
	fresh     bool     // to a request that was not there before
}

// read takes what matters from a status, and refuses what cannot be.
func (l line) read(st openapi.PinStatus, root cid.Cid) (answer, error) {
	id := st.GetRequestid()
	if id == "" || len(id) > maxID || id == "." || id == ".." {
		return answer{}, errors.New("the answer names no usable request")
	}
	pin := st.GetPin()
	if c, err := cid.Decode(pin.GetCid()); err != nil || !c.Equals(root) {
		return answer{}, errors.New("the answer is about another CID")
	}
	a := answer{id: id}
	for _, d := range st.GetDelegates() {
		if len(a.delegates) < maxNamed && len(d) <= maxAddress && (l.token == "" || !strings.Contains(d, l.token)) {
			a.delegates = append(a.delegates, d)
		}
	}
	switch st.GetStatus() {
	case openapi.QUEUED:
		a.state = Queued
	case openapi.PINNING:
		a.state = Pinning
	case openapi.PINNED:
		a.state = Pinned
	case openapi.FAILED:
		a.state = Failed
		a.reason = "the service failed"
		if d := st.GetInfo()["status_details"]; d != "" {
			a.reason = "the service failed: " + l.clean(d)
		}
	default:
		return answer{}, errors.New("the answer has no status")
	}
	return a, nil
}

// clean makes a stranger's words fit for records and logs: one line, short, and
// without the token, should the stranger have repeated it.
func (l line) clean(text string) string {
	if l.token != "" {
		text = strings.ReplaceAll(text, l.token, "[token]")
	}
	out := make([]rune, 0, maxReason)
	for _, r := range text {
		if r < ' ' || r > '~' {
			r = ' '
		}
		if len(out) == maxReason {
			break
		}
		out = append(out, r)
	}
	return string(out)
}

// failure is why a request went wrong, and how long the service wants to be
// left alone; 0: it did not say.
type failure struct {
	why  string
	wait time.Duration
	err  error
}

func (f *failure) Error() string { return f.why }
func (f *failure) Unwrap() error { return f.err }

// fail says why a request went wrong.
func (l line) fail(verb string, resp *http.Response, err error) error {
	f := &failure{}
	var api openapi.GenericOpenAPIError
	switch {
	case errors.Is(err, ErrRefused):
		f.err = ErrRefused
		f.why = verb + ": " + l.clean(innermost(err).Error())
	case resp != nil && resp.StatusCode == http.StatusNotFound:
		return errNone
	case errors.As(err, &api) && resp != nil:
		f.why = fmt.Sprintf("%s: the service answered %d", verb, resp.StatusCode)
		if m, ok := api.Model().(openapi.Failure); ok {
			f.why += ": " + l.clean(strings.TrimSpace(m.Error.GetReason()+" "+m.Error.GetDetails()))
		}
		if resp.StatusCode < 300 {
			f.why += ", and cannot be understood"
		}
		f.wait = after(resp)
	default:
		f.why = verb + ": " + l.clean(innermost(err).Error())
	}
	return f
}

// innermost is the cause without the URL that net/http puts around it.
func innermost(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil || errors.Is(next, ErrRefused) && errors.Unwrap(next) == nil {
			return err
		}
		err = next
	}
}

// after is how long a service asks to be left alone, at most an hour.
func after(resp *http.Response) time.Duration {
	d, err := time.ParseDuration(resp.Header.Get("Retry-After") + "s")
	if err != nil || d < 0 {
		return 0
	}
	return min(d, time.Hour)
}

// ask has the service pin root.
func (l line) ask(ctx context.Context, root cid.Cid, name string, origins []string) (answer, error) {
	p := openapi.Pin{Cid: root.String()}
	if name != "" {
		p.SetName(name)
	}
	if len(origins) > 0 {
		p.SetOrigins(origins[:min(len(origins), maxOrigins)])
	}
	st, resp, err := l.api.PinsPost(ctx).Pin(p).Execute()
	if err != nil {
		return answer{}, l.fail("ask to pin", resp, err)
	}
	a, err := l.read(st, root)
	a.fresh = err == nil
	return a, err
}

// look asks how far the service is with a request.
func (l line) look(ctx context.Context, id string, root cid.Cid) (answer, error) {
	st, resp, err := l.api.PinsRequestidGet(ctx, id).Execute()
	if err != nil {
		return answer{}, l.fail("look", resp, err)
	}
	return l.read(st, root)
}

// find asks for all requests about root, the most recent first.
func (l line) find(ctx context.Context, root cid.Cid) ([]answer, error) {
	all := []openapi.Status{openapi.QUEUED, openapi.PINNING, openapi.PINNED, openapi.FAILED}
	res, resp, err := l.api.PinsGet(ctx).Cid([]string{root.String()}).Status(all).Limit(fewRemote).Execute()
	if err != nil {
		err := l.fail("look", resp, err)
		if errors.Is(err, errNone) {
			return nil, nil
		}
		return nil, err
	}
	var out []answer
	for _, st := range res.GetResults() {
		if a, err := l.read(st, root); err == nil && len(out) < fewRemote {
			out = append(out, a)
		}
	}
	return out, nil
}

// remove deletes a request. One that the service does not know is no error.
func (l line) remove(ctx context.Context, id string) error {
	resp, err := l.api.PinsRequestidDelete(ctx, id).Execute()
	if err == nil {
		return nil
	}
	if err = l.fail("delete", resp, err); errors.Is(err, errNone) {
		return nil
	}
	return err
}
