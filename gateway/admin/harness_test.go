package admin

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/internal/audit"
	"github.com/musenai/musen/internal/denylist"
	"github.com/musenai/musen/internal/watch"
	"github.com/musenai/musen/policy"
	"github.com/musenai/musen/policy/folder"
)

const maxSegment = 2 << 20

// world is a node with an admin API on a socket and on TCP. Every request and
// answer is held against openapi.yaml.
type world struct {
	*memory
	fleet    *fleet
	audit    *audit.Log
	watch    *watch.Watch // that nobody in a test meets, unless it wants to
	t        *testing.T
	server   *Server
	issuer   *policy.Issuer
	verifier *policy.Verifier
	clock    atomic.Int64 // seconds that the node's clock is ahead
	log      *logBuffer
	socket   string
	tcp      string // host:port
	local    *client.Client
}

// logBuffer keeps what is logged.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (w *world) now() time.Time {
	return time.Unix(1_800_000_000, 0).Add(time.Duration(w.clock.Load()) * time.Second)
}

// newWorld starts a node; change, if not nil, changes the options first.
func newWorld(t *testing.T, change func(*Options)) *world {
	t.Helper()
	w := &world{t: t, log: &logBuffer{}}
	w.memory, w.fleet = newMemory(w.now), newFleet(w.now)
	w.watch = watch.New(watch.Options{Thresholds: map[watch.Rule]int{watch.Guesses: 1}, Now: w.now, Tell: func(watch.Alert) {}})
	w.audit = openAudit(t, filepath.Join(t.TempDir(), "audit"), w.now)
	o := w.options()
	if change != nil {
		change(&o)
	}
	var err error
	w.server, err = New(o)
	must(t, err)
	w.server.handler = newValidator(t, w.server.handler)
	w.serve()
	return w
}

func (w *world) options() Options {
	log := slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	origin := &musen.Origin{
		Records: catalogue{w.memory}, Blocks: pinner{w.memory}, Keys: w.memory,
		MaxSegment: maxSegment, Rand: rand.Reader, Now: w.now, Log: log,
	}
	engine := w.policies()
	edge, err := musen.NewEdge(musen.EdgeOptions{Directory: w.memory, Blocks: w.memory, Keys: w.memory, Policy: engine, Log: log})
	must(w.t, err)
	return Options{
		Takedowns: w.memory,
		Stations:  w.memory, Segments: w.memory, Tokens: w.memory, Keys: w.memory, Subjects: w.memory, Receipts: w.memory, Roles: w.memory,
		Alerts:    w.watch,
		Denylists: &denylist.List{},
		Approvals: w.memory, Audit: w.audit,
		AuditHeads: w.audit,
		Shares:     w.memory, Passwords: newHasher(w.t),
		Reviews: w.memory, Uses: w.memory,
		Reports: fixedReports{},
		Origin:  origin, Checker: checker{edge, w.memory}, Node: w.memory,
		Members: w.fleet, Invites: w.fleet, Copies: w.fleet, Services: w.fleet,
		Engine: engine, Verifier: w.verifier, Issuer: w.issuer,
		Digest: func() hash.Hash { return hmac.New(sha256.New, []byte("digest")) },
		Now:    w.now, Rand: rand.Reader, Log: log,
		Policies: folder.New(folder.Options{Place: folder.Place{Dir: filepath.Join(w.t.TempDir(), "policy")}, Engine: engine, Now: w.now, Log: log}), Version: "v1", Realm: "test",
		PublicURL: "https://radio.example", Hosts: []string{"admin.example"}, MaxSegment: maxSegment,
	}
}

func (w *world) policies() *policy.Engine {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(w.t, err)
	secret := make([]byte, 32)
	rand.Read(secret)
	sealer := newCipher(w.t)
	w.issuer, err = policy.NewIssuer(policy.IssuerOptions{
		Issuer: "musen:test", Audience: "musen:test", KeyID: "k1", Key: private,
		LinkKeyID: "l1", LinkSecret: secret, Subjects: w.memory, Cipher: sealer, Now: w.now, Rand: rand.Reader,
	})
	must(w.t, err)
	w.verifier, err = policy.NewVerifier(policy.VerifierOptions{
		Issuer: "musen:test", Audience: "musen:test",
		Keys:     []policy.PublicKey{{ID: "k1", Key: public}},
		LinkKeys: []policy.LinkKey{{ID: "l1", Secret: secret}}, Revocations: w.memory, Subjects: w.memory, Uses: w.memory, Now: w.now,
		Roles: w.memory, Cipher: sealer,
		After: func(time.Duration) <-chan time.Time { // it is the next second at once
			w.clock.Add(1)
			over := make(chan time.Time)
			close(over)
			return over
		},
	})
	must(w.t, err)
	engine, err := policy.NewEngine(policy.EngineOptions{Now: w.now, Roles: w.memory})
	must(w.t, err)
	return engine
}

// newCipher is a policy.Cipher of a key of its own.
func newCipher(t testing.TB) *subtle.AESGCM {
	key := make([]byte, 32)
	rand.Read(key)
	aead, err := subtle.NewAESGCM(key)
	must(t, err)
	return aead
}

// serve listens on a socket and on TCP until the test ends.
func (w *world) serve() {
	w.socket = filepath.Join(w.t.TempDir(), "admin.sock")
	unix, err := ListenUnix(w.socket)
	must(w.t, err)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	must(w.t, err)
	w.tcp = tcp.Addr().String()
	var wg sync.WaitGroup
	wg.Go(func() { noError(w.t, w.server.Serve(unix, Local)) })
	wg.Go(func() { noError(w.t, w.server.Serve(tcp, Bearer)) })
	w.local = client.New(w.socket)
	w.t.Cleanup(func() {
		w.local.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		noError(w.t, w.server.Shutdown(ctx))
		wg.Wait()
	})
}

// remote is a client on TCP with a token.
func (w *world) remote(token string) *client.Client {
	c, err := client.NewTCP("http://"+w.tcp, token)
	must(w.t, err)
	w.t.Cleanup(c.Close)
	return c
}

// token issues one for actions on stations, or on all if there are none.
func (w *world) token(stations []string, actions ...policy.Action) string {
	w.t.Helper()
	raw, _, _, err := w.issuer.Token(policy.TokenRequest{Subject: "ann", Stations: stations, Actions: actions, TTL: time.Hour})
	must(w.t, err)
	return raw
}

// station makes one.
func (w *world) station(name string) wire.Station {
	w.t.Helper()
	s, err := w.local.CreateStation(w.t.Context(), wire.NewStation{Name: name})
	must(w.t, err)
	return s
}

// segment adds one.
func (w *world) segment(station, title string) wire.Added {
	w.t.Helper()
	a, err := w.local.Add(w.t.Context(), station, client.Upload{Audio: bytes.NewReader(wav(title, 3000)), Title: title})
	must(w.t, err)
	return a
}

// wav is a sound of n bytes that seed makes different from others.
func wav(seed string, n int) []byte {
	var b bytes.Buffer
	le := func(v uint64, size int) {
		for i := range size {
			b.WriteByte(byte(v >> (8 * i)))
		}
	}
	b.WriteString("RIFF")
	le(uint64(36+n), 4)
	b.WriteString("WAVEfmt ")
	le(16, 4)
	le(1, 2)     // PCM
	le(1, 2)     // mono
	le(8000, 4)  // samples a second
	le(16000, 4) // bytes a second
	le(2, 2)     // bytes a sample
	le(16, 2)    // bits a sample
	b.WriteString("data")
	le(uint64(n), 4)
	sum := sha256.Sum256([]byte(seed))
	for i := range n {
		b.WriteByte(sum[i%len(sum)] + byte(i/len(sum)))
	}
	return b.Bytes()
}

// raw sends bytes over a fresh connection and returns it.
func (w *world) raw(request string) (net.Conn, *bufio.Reader) {
	w.t.Helper()
	conn, err := net.Dial("unix", w.socket)
	must(w.t, err)
	w.t.Cleanup(func() { conn.Close() })
	_, err = io.WriteString(conn, request)
	must(w.t, err)
	return conn, bufio.NewReader(conn)
}

// answer reads an answer to a POST, and what it says if it is a problem.
func answer(t *testing.T, r *bufio.Reader) (int, client.Error) {
	t.Helper()
	resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodPost})
	must(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	var p client.Error
	if resp.StatusCode >= 400 {
		must(t, json.Unmarshal(b, &p))
	}
	return resp.StatusCode, p
}

// do sends a request of any form, and returns the status and the problem.
func (w *world) do(req *http.Request) (int, client.Error) {
	w.t.Helper()
	c := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, ExpectContinueTimeout: 5 * time.Second,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			if req.URL.Host == "socket" {
				return net.Dial("unix", w.socket)
			}
			return net.Dial("tcp", w.tcp)
		},
	}}
	resp, err := c.Do(req)
	must(w.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(w.t, err)
	var p client.Error
	if resp.StatusCode >= 400 {
		must(w.t, json.Unmarshal(b, &p))
		for _, h := range []string{"private, no-store", "nosniff"} {
			if !strings.Contains(fmt.Sprint(resp.Header), h) {
				w.t.Errorf("%s %s: answer without %q", req.Method, req.URL, h)
			}
		}
	}
	return resp.StatusCode, p
}

func newRequest(t *testing.T, method, url, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	must(t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return req
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// validator holds what passes through it against openapi.yaml.
type validator struct {
	t      *testing.T
	next   http.Handler
	doc    *openapi3.T
	router routers.Router
}

func newValidator(t *testing.T, next http.Handler) *validator {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	must(t, err)
	must(t, doc.Validate(t.Context()))
	router, err := legacy.NewRouter(doc)
	must(t, err)
	return &validator{t: t, next: next, doc: doc, router: router}
}

// recorder keeps a copy of an answer.
type recorder struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	r.body.Write(p)
	return r.ResponseWriter.Write(p)
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) Flush() {
	if err := http.NewResponseController(r.ResponseWriter).Flush(); err != nil {
		panic(http.ErrAbortHandler) // the client is gone
	}
}

func (v *validator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := &recorder{ResponseWriter: w, status: http.StatusOK}
	sent := &bytes.Buffer{}
	isJSON := r.Header.Get("Content-Type") == "application/json"
	if isJSON {
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(r.Body, sent), r.Body}
	}
	v.next.ServeHTTP(rec, r)
	if err := v.check(r, rec, sent.Bytes()); err != nil {
		v.t.Errorf("%s %s: answer %d against openapi.yaml: %v", r.Method, r.URL, rec.status, err)
	}
}

// check returns an error unless the answer is as described, and the request
// too if it was done.
func (v *validator) check(r *http.Request, rec *recorder, sent []byte) error {
	r = r.Clone(context.Background())
	r.Body = io.NopCloser(bytes.NewReader(sent))
	r.URL.Host, r.URL.Scheme = "", ""
	route, params, err := v.router.FindRoute(r)
	if err != nil {
		return v.checkProblem(rec)
	}
	in := &openapi3filter.RequestValidationInput{
		Request: r, Route: route, PathParams: params,
		Options: &openapi3filter.Options{
			AuthenticationFunc:    openapi3filter.NoopAuthenticationFunc,
			IncludeResponseStatus: true,
			ExcludeRequestBody:    len(sent) == 0,
		},
	}
	if rec.status < 300 {
		if err := openapi3filter.ValidateRequest(context.Background(), in); err != nil {
			return fmt.Errorf("request: %w", err)
		}
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: rec.status, Header: rec.Header(), Options: in.Options}
	body := rec.body.Bytes()
	if rec.Header().Get("Content-Type") == "application/x-ndjson" {
		body = asArray(body)
		out.Header = http.Header{"Content-Type": {"application/json"}}
		route.Operation.Responses.Status(200).Value.Content["application/json"] = route.Operation.Responses.Status(200).Value.Content["application/x-ndjson"]
	}
	return openapi3filter.ValidateResponse(context.Background(), out.SetBodyBytes(body))
}

// asArray makes lines of JSON the array that the description shows.
func asArray(lines []byte) []byte {
	joined := bytes.ReplaceAll(bytes.TrimSpace(lines), []byte("\n"), []byte(","))
	return append(append([]byte("["), joined...), ']')
}

// checkProblem checks the answer to a request that openapi.yaml does not have.
func (v *validator) checkProblem(rec *recorder) error {
	var p any
	if err := json.Unmarshal(rec.body.Bytes(), &p); err != nil {
		return err
	}
	return v.doc.Components.Schemas["Problem"].Value.VisitJSON(p, openapi3.EnableJSONSchema2020())
}
