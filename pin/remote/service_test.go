package remote

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/multiformats/go-multihash"
)

const secret = "s3cr3t-t0ken-of-the-operator"

// server is a small pinning service: it speaks the API, over TLS, and pins
// after it has been asked how far it is twice.
type server struct {
	*httptest.Server
	t testing.TB

	mu       sync.Mutex
	token    string
	pins     map[string]*request
	order    []string
	requests int
	posts    int
	status   int           // answered to everything; 0: the truth
	details  string        // of that answer
	after    string        // Retry-After of it
	fails    int           // requests that end as failed
	slow     time.Duration // before each answer
	lose     int           // answers to POST that do not arrive
	nodes    []string      // delegates of every request
	hold     bool          // nothing gets further than pinning
	raw      func(w http.ResponseWriter, r *http.Request) bool
}

type request struct {
	RequestID string            `json:"requestid"`
	Status    string            `json:"status"`
	Created   time.Time         `json:"created"`
	Pin       pinBody           `json:"pin"`
	Delegates []string          `json:"delegates"`
	Info      map[string]string `json:"info,omitempty"`
}

type pinBody struct {
	CID     string   `json:"cid"`
	Name    string   `json:"name"`
	Origins []string `json:"origins"`
}

func newServer(t testing.TB) *server {
	v := &server{t: t, token: secret, pins: map[string]*request{}}
	v.Server = httptest.NewTLSServer(v)
	t.Cleanup(v.Close)
	return v
}

func (v *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.requests++
	if v.slow > 0 {
		v.mu.Unlock()
		select {
		case <-time.After(v.slow):
		case <-r.Context().Done():
		}
		v.mu.Lock()
	}
	if v.raw != nil && v.raw(w, r) {
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+v.token {
		v.fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "who is "+r.Header.Get("Authorization")+"?")
		return
	}
	if v.status != 0 {
		if v.after != "" {
			w.Header().Set("Retry-After", v.after)
		}
		v.fail(w, v.status, "BUSY", v.details)
		return
	}
	id, one := strings.CutPrefix(r.URL.Path, "/psa/pins/")
	switch {
	case r.Method == http.MethodPost && r.URL.Path == "/psa/pins":
		v.post(w, r)
	case r.Method == http.MethodGet && r.URL.Path == "/psa/pins":
		v.list(w, r)
	case !one || v.pins[id] == nil:
		v.fail(w, http.StatusNotFound, "NOT_FOUND", "no such request")
	case r.Method == http.MethodDelete:
		delete(v.pins, id)
		w.WriteHeader(http.StatusAccepted)
	default:
		v.advance(v.pins[id])
		v.say(w, http.StatusOK, v.pins[id])
	}
}

func (v *server) advance(p *request) {
	switch {
	case v.hold && p.Status == "pinning":
	case p.Status == "queued":
		p.Status = "pinning"
	case p.Status == "pinning" && v.fails > 0:
		v.fails--
		p.Status = "failed"
		p.Info = map[string]string{"status_details": "cannot find it, " + secret}
	case p.Status == "pinning":
		p.Status = "pinned"
	}
}

func (v *server) post(w http.ResponseWriter, r *http.Request) {
	var b pinBody
	if err := json.NewDecoder(r.Body).Decode(&b); err != nil {
		v.fail(w, http.StatusBadRequest, "BAD", err.Error())
		return
	}
	v.posts++
	id := fmt.Sprintf("r%d", v.posts)
	v.pins[id] = &request{RequestID: id, Status: "queued", Created: time.Now(), Pin: b, Delegates: append([]string{}, v.nodes...)}
	v.order = append(v.order, id)
	if v.lose > 0 {
		v.lose--
		panic(http.ErrAbortHandler)
	}
	v.say(w, http.StatusAccepted, v.pins[id])
}

func (v *server) list(w http.ResponseWriter, r *http.Request) {
	out := []*request{}
	for i := len(v.order) - 1; i >= 0; i-- {
		if p := v.pins[v.order[i]]; p != nil && p.Pin.CID == r.URL.Query().Get("cid") {
			out = append(out, p)
		}
	}
	v.say(w, http.StatusOK, map[string]any{"count": len(out), "results": out})
}

func (v *server) fail(w http.ResponseWriter, status int, reason, details string) {
	v.say(w, status, map[string]any{"error": map[string]string{"reason": reason, "details": details}})
}

func (v *server) say(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		v.t.Log(err)
	}
}

// set changes the server under its lock.
func (v *server) set(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f()
}

// held counts the pins of a root, and those that are pinned.
func (v *server) held(root cid.Cid) (all, pinned int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, p := range v.pins {
		if p.Pin.CID == root.String() {
			all++
			if p.Status == "pinned" {
				pinned++
			}
		}
	}
	return all, pinned
}

// fixture is Services that run against a server.
type fixture struct {
	*Services
	t       testing.TB
	store   datastore.Batching
	token   string // path
	logs    *safeBuffer
	changes chan cid.Cid
	stop    func()
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func loopback() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}

func newFixture(t testing.TB, v *server, change ...func(*Options)) *fixture {
	t.Helper()
	f := &fixture{
		t: t, store: dssync.MutexWrap(datastore.NewMapDatastore()), token: filepath.Join(t.TempDir(), "token"),
		logs: &safeBuffer{}, changes: make(chan cid.Cid, 1000),
	}
	if err := os.WriteFile(f.token, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.open(v, change...)
	t.Cleanup(func() {
		f.stop()
		if s := f.logs.String(); strings.Contains(s, secret) {
			t.Errorf("the token is in the log: %s", s)
		}
	})
	return f
}

func (f *fixture) open(v *server, change ...func(*Options)) {
	f.t.Helper()
	o := Options{
		Store: f.store, Allow: loopback(), Log: slog.New(slog.NewTextHandler(f.logs, nil)),
		Origins: func() []string {
			return []string{"/ip4/203.0.113.7/tcp/4001/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"}
		},
		Timing: Timing{Poll: time.Millisecond, Check: time.Hour, Retry: 2 * time.Millisecond, Request: 2 * time.Second},
		Changed: func(c cid.Cid) {
			select {
			case f.changes <- c:
			default:
			}
		},
	}
	if v != nil {
		o.Roots = x509.NewCertPool()
		o.Roots.AddCert(v.Certificate())
	}
	for _, c := range change {
		c(&o)
	}
	s, err := Open(context.Background(), o)
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			f.t.Error(err)
		}
	}()
	f.Services = s
	f.stop = sync.OnceFunc(func() { cancel(); <-done })
}

func (f *fixture) add(v *server, name string) {
	f.t.Helper()
	if err := f.Add(context.Background(), Service{Name: name, Endpoint: v.URL + "/psa/", TokenFile: f.token}); err != nil {
		f.t.Fatal(err)
	}
}

// until waits until ok, looking whenever something changed.
func (f *fixture) until(what string, ok func() bool) {
	f.t.Helper()
	limit := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-f.changes:
		case <-time.After(5 * time.Millisecond): // for what no copy's state shows
		case <-limit:
			f.t.Fatalf("not in time: %s; %+v", what, f.List())
		}
	}
}

// is reports whether a segment's only copy is in a state.
func (f *fixture) is(root cid.Cid, st State) func() bool {
	return func() bool {
		cs := f.Copies(root)
		return len(cs) == 1 && cs[0].State == st
	}
}

func seg(n int) cid.Cid {
	h := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("root"), uint64(n)))
	mh, err := multihash.Encode(h[:], multihash.SHA2_256)
	if err != nil {
		panic(err)
	}
	return cid.NewCidV1(cid.Raw, mh)
}
