package remote

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// says answers every request with the same body.
type says struct {
	status int
	kind   string
	body   []byte
}

func (a says) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: a.status, Status: http.StatusText(a.status), Request: r, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {a.kind}, "Retry-After": {string(a.body[:min(len(a.body), 8)])}},
		Body:   io.NopCloser(bytes.NewReader(a.body)),
	}, nil
}

// FuzzAnswer has a service answer anything: what is taken of it is short, clean
// and about the segment that was asked for.
func FuzzAnswer(f *testing.F) {
	root := seg(1)
	one := `{"requestid":"r1","status":"pinned","created":"2026-01-02T03:04:05Z","pin":{"cid":"` + root.String() + `"},"delegates":[]}`
	f.Add(200, "application/json", []byte(one))
	f.Add(202, "application/json", []byte(strings.Replace(one, "pinned", "failed", 1)))
	f.Add(200, "application/json", []byte(`{"count":1,"results":[`+one+`]}`))
	f.Add(400, "application/json", []byte(`{"error":{"reason":"BAD","details":"token `+secret+`"}}`))
	f.Add(404, "text/html", []byte("<html>"))
	f.Add(500, "application/xml", []byte("<a></a>"))
	f.Add(429, "application/json", []byte("9e99"))
	f.Add(200, "application/json", []byte(`null`))
	f.Add(200, "", []byte(`[]`))
	token := filepath.Join(f.TempDir(), "token")
	if err := os.WriteFile(token, []byte(secret), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, status int, kind string, body []byte) {
		s := &Services{client: &http.Client{Transport: says{200 + (status&0x7fffffff)%400, kind, body}}}
		l, err := s.line(Service{Endpoint: "https://example.org/psa", TokenFile: token})
		if err != nil {
			t.Fatal(err)
		}
		check := func(a answer, err error) {
			if err != nil {
				if len(err.Error()) > 1000 || strings.Contains(err.Error(), secret) || strings.ContainsAny(err.Error(), "\n\r\x1b") {
					t.Errorf("error %q", err)
				}
				return
			}
			if a.id == "" || len(a.id) > maxID || len(a.reason) > 2*maxReason || strings.Contains(a.reason, secret) {
				t.Errorf("taken: %+v", a)
			}
		}
		check(l.ask(context.Background(), root, "k7zq", nil))
		check(l.look(context.Background(), "r1", root))
		all, err := l.find(context.Background(), root)
		for _, a := range all {
			check(a, nil)
		}
		if err != nil {
			check(answer{}, err)
		}
		if err := l.remove(context.Background(), "r1"); err != nil {
			check(answer{}, err)
		}
	})
}
