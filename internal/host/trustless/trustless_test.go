package trustless

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	chunk "github.com/ipfs/boxo/chunker"
	"github.com/ipfs/boxo/exchange/offline"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/boxo/ipld/unixfs/importer/balanced"
	"github.com/ipfs/boxo/ipld/unixfs/importer/helpers"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/ipld/go-car/v2"
	"github.com/multiformats/go-multibase"
	"github.com/multiformats/go-multihash"
)

// terms are those of a host that a test changes.
type terms struct {
	mu     sync.Mutex
	retry  time.Duration // closed if not 0
	denied cid.Cid
	passed int64
	block  chan struct{} // WaitN waits for it if it is there
	waits  chan struct{} // gets one element when WaitN waits
}

func (m *terms) Closed() (time.Duration, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.retry, m.retry != 0
}

func (m *terms) Denied(mh multihash.Multihash) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.denied.Defined() && string(m.denied.Hash()) == string(mh)
}

func (m *terms) WaitN(ctx context.Context, n int) error {
	m.mu.Lock()
	m.passed += int64(n)
	block := m.block
	m.mu.Unlock()
	if block == nil {
		return ctx.Err()
	}
	select {
	case m.waits <- struct{}{}:
	default:
	}
	select {
	case <-block:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *terms) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// A held is a segment on the disk of the host.
type held struct {
	root   cid.Cid
	leaves []cid.Cid
	bytes  []byte
}

type host struct {
	t      *testing.T
	server *Server
	addr   string
	client *http.Transport
	blocks blockservice.BlockService
	terms  *terms
}

// start serves on a port of loopback until the test ends, with TLS if files
// are named.
func start(t *testing.T, l Limits, files ...string) *host {
	t.Helper()
	store := blockstore.NewBlockstore(dssync.MutexWrap(datastore.NewMapDatastore()))
	h := &host{t: t, terms: &terms{waits: make(chan struct{}, 1)}, blocks: blockservice.New(store, offline.Exchange(store)), client: &http.Transport{}}
	o := Options{Blocks: h.blocks, Terms: h.terms, Limits: l, Log: slog.New(slog.DiscardHandler), Now: time.Now}
	if len(files) == 2 {
		o.CertFile, o.KeyFile = files[0], files[1]
		h.client.ForceAttemptHTTP2 = true
		h.client.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // it is one that the test made
	}
	var err error
	if h.server, err = New(o); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.addr = listener.Addr().String()
	served := make(chan error, 1)
	go func() { served <- h.server.Serve(listener) }()
	t.Cleanup(func() {
		h.client.CloseIdleConnections()
		if err := errors.Join(h.server.Shutdown(context.Background()), <-served); err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *host) url(path string) string {
	if h.server.cert != nil {
		return "https://" + h.addr + path
	}
	return "http://" + h.addr + path
}

// hold puts a segment of n bytes on the disk.
func (h *host) hold(n int) held {
	h.t.Helper()
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = r.Read(b)
	prefix, err := merkledag.PrefixForCidVersion(1)
	if err != nil {
		h.t.Fatal(err)
	}
	dag := merkledag.NewDAGService(h.blocks)
	params := helpers.DagBuilderParams{Dagserv: dag, RawLeaves: true, Maxlinks: 174, CidBuilder: prefix}
	builder, err := params.New(chunk.NewSizeSplitter(bytes.NewReader(b), 256<<10))
	if err != nil {
		h.t.Fatal(err)
	}
	nd, err := balanced.Layout(builder)
	if err != nil {
		h.t.Fatal(err)
	}
	out := held{root: nd.Cid(), bytes: b}
	for _, l := range nd.Links() {
		out.leaves = append(out.leaves, l.Cid)
	}
	return out
}

type answer struct {
	*http.Response
	body []byte
	err  error // of reading the body
}

func (h *host) ask(method, path string, header ...string) answer {
	h.t.Helper()
	req, err := http.NewRequest(method, h.url(path), nil)
	if err != nil {
		h.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := h.client.RoundTrip(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp, body, err}
}

// spellings are the ways in which one block can be asked for.
func spellings(t *testing.T, c cid.Cid) (all []string) {
	t.Helper()
	all = append(all, cid.NewCidV0(c.Hash()).String())
	for _, codec := range []uint64{cid.Raw, cid.DagProtobuf} {
		for _, base := range []multibase.Encoding{multibase.Base16, multibase.Base16Upper, multibase.Base32, multibase.Base32Upper, multibase.Base36, multibase.Base36Upper, multibase.Base58BTC, multibase.Base64url} {
			s, err := cid.NewCidV1(codec, c.Hash()).StringOfBase(base)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, s)
		}
	}
	return all
}

func TestBlocksAndCARs(t *testing.T) {
	h := start(t, Limits{})
	seg := h.hold(600_000)
	for _, spelled := range spellings(t, seg.leaves[2]) {
		a := h.ask("GET", "/ipfs/"+spelled+"?format=raw")
		if a.StatusCode != 200 || !bytes.Equal(a.body, seg.bytes[2*262144:]) {
			t.Errorf("%s: status %d, %d bytes", spelled, a.StatusCode, len(a.body))
		}
	}
	a := h.ask("GET", "/ipfs/"+seg.root.String(), "Accept", "application/vnd.ipld.car")
	if a.StatusCode != 200 || a.err != nil {
		t.Fatalf("CAR: status %d, %v", a.StatusCode, a.err)
	}
	r, err := car.NewBlockReader(bytes.NewReader(a.body))
	if err != nil || !r.Roots[0].Equals(seg.root) {
		t.Fatalf("CAR of %v, %v", r, err)
	}
	blocks := 0
	for _, err = r.Next(); err == nil; _, err = r.Next() { // each is checked against its CID
		blocks++
	}
	if err != io.EOF || blocks != 4 {
		t.Errorf("%d blocks, %v", blocks, err)
	}
	head := h.ask("HEAD", "/ipfs/"+seg.leaves[0].String()+"?format=raw")
	if head.StatusCode != 200 || head.ContentLength != 262144 || len(head.body) != 0 {
		t.Errorf("HEAD: %d of %d bytes", head.StatusCode, head.ContentLength)
	}
	for name, want := range map[string]string{"Cache-Control": "public, max-age=29030400, immutable", "Content-Type": "application/vnd.ipld.raw",
		"X-Content-Type-Options": "nosniff", "Access-Control-Allow-Origin": "*", "X-Ipfs-Path": "", "X-Ipfs-Roots": "", "Set-Cookie": "", "Server": ""} {
		if got := head.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if a := h.ask("GET", "/ipfs/"+seg.leaves[0].String()+"?format=raw", "If-None-Match", head.Header.Get("ETag")); a.StatusCode != 304 {
		t.Errorf("If-None-Match: %d", a.StatusCode)
	}
	if h.terms.passed < 600_000 {
		t.Errorf("only %d bytes were counted", h.terms.passed)
	}
}

func TestRanges(t *testing.T) {
	h := start(t, Limits{})
	seg := h.hold(1000)
	for header, want := range map[string][]byte{
		"bytes=0-9": seg.bytes[:10], "bytes=-5": seg.bytes[995:], "bytes=-99999": seg.bytes, "bytes=10-": seg.bytes[10:],
		"bytes=990-99999999999999999999999": seg.bytes[990:],
	} {
		if a := h.ask("GET", "/ipfs/"+seg.root.String()+"?format=raw", "Range", header); a.StatusCode != 206 || !bytes.Equal(a.body, want) {
			t.Errorf("%s: status %d, %d bytes", header, a.StatusCode, len(a.body))
		}
	}
	for header, status := range map[string]int{"bytes=5000-": 416, "bytes=-0": 416, "bytes=x": 200, "bytes=0-0,9-9": 200, "bytes=5-1": 200, "lines=1-2": 200, "bytes=--1": 200, "bytes=+1-2": 200} {
		a := h.ask("GET", "/ipfs/"+seg.root.String()+"?format=raw", "Range", header)
		if a.StatusCode != status || status == 416 && a.Header.Get("Content-Range") != "bytes */1000" {
			t.Errorf("%s: status %d, want %d", header, a.StatusCode, status)
		}
	}
}

// Nothing but blocks and CARs, by no other name, and only what is here.
func TestRefusals(t *testing.T) {
	h := start(t, Limits{URLBytes: 300})
	seg := h.hold(600_000)
	other := cid.NewCidV1(cid.Raw, merkledag.NewRawNode([]byte("elsewhere")).Cid().Hash())
	if err := h.blocks.AddBlock(t.Context(), unixfs.EmptyDirNode()); err != nil {
		t.Fatal(err)
	}
	for path, status := range map[string]int{
		"/": 404, "/ipfs": 404, "/ipfs/": 404, "/ipns/" + seg.root.String(): 404, "/healthz": 404, "/api/v0/id": 404,
		"/ipfs/" + seg.root.String():                                           406,
		"/ipfs/" + seg.root.String() + "?format=tar":                           406,
		"/ipfs/" + seg.root.String() + "?format=car&dag-scope=nonsense":        400,
		"/ipfs/" + seg.root.String() + "/":                                     404,
		"/ipfs/" + seg.root.String() + "/x?format=raw":                         404,
		"/ipfs/" + seg.root.String()[:20] + "?format=raw":                      404,
		"/ipfs/" + other.String() + "?format=raw":                              404,
		"/ipfs/" + unixfs.EmptyDirNode().Cid().String() + "?format=raw":        404,
		"/ipfs/%62" + seg.root.String()[1:] + "?format=raw":                    404,
		"//ipfs/" + seg.root.String() + "?format=raw":                          404,
		"/ipfs/../ipfs/" + seg.root.String() + "?format=raw":                   404,
		"/ipfs/" + seg.root.String() + "?format=raw&x=" + longText(300):        414,
		"/ipfs/" + cid.NewCidV0(seg.leaves[0].Hash()).String() + "?format=car": 404,
	} {
		a := h.ask("GET", path)
		var p struct {
			Status int
			Code   string
		}
		if err := json.Unmarshal(a.body, &p); a.StatusCode != status || err != nil || p.Status != status || p.Code == "" {
			t.Errorf("%s: status %d, want %d: %.200s", path, a.StatusCode, status, a.body)
		}
		if kind := a.Header.Get("Content-Type"); kind != "application/problem+json" {
			t.Errorf("%s: %s", path, kind)
		}
	}
	a := h.ask("POST", "/ipfs/"+seg.root.String())
	if a.StatusCode != 405 || a.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d", a.StatusCode)
	}
	if got := h.raw("OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 404") {
		t.Errorf("OPTIONS *: %.60q", got)
	}
	many := []string{}
	for range 101 {
		many = append(many, "X-"+longText(3+len(many)), "1")
	}
	if a := h.ask("GET", "/ipfs/"+seg.root.String(), many...); a.StatusCode != 431 {
		t.Errorf("101 headers: %d", a.StatusCode)
	}
	if a := h.ask("GET", "/ipfs/"+seg.root.String()+"?format=car", "X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "http", "X-Ipfs-Gateway-Prefix", "/x"); a.StatusCode != 200 || bytes.Contains(a.body, []byte("evil")) {
		t.Errorf("forwarded headers: %d", a.StatusCode)
	}
}

func longText(n int) string { return strings.Repeat("a", n) }

// What was purged is gone in every spelling, also when nothing is served.
func TestDenied(t *testing.T) {
	h := start(t, Limits{})
	seg := h.hold(1000)
	h.terms.set(func() { h.terms.denied = seg.root })
	for _, spelled := range spellings(t, seg.root) {
		if a := h.ask("GET", "/ipfs/"+spelled+"?format=raw"); a.StatusCode != 410 {
			t.Errorf("%s: status %d", spelled, a.StatusCode)
		}
	}
	h.terms.set(func() { h.terms.retry = time.Minute })
	if a := h.ask("HEAD", "/ipfs/"+seg.root.String()); a.StatusCode != 410 {
		t.Errorf("while closed: %d", a.StatusCode)
	}
}

func TestClosed(t *testing.T) {
	h := start(t, Limits{})
	seg := h.hold(1000)
	h.terms.set(func() { h.terms.retry = 90*time.Minute + time.Millisecond })
	a := h.ask("GET", "/ipfs/"+seg.root.String()+"?format=raw")
	if a.StatusCode != 503 || a.Header.Get("Retry-After") != "5401" {
		t.Errorf("status %d, Retry-After %s", a.StatusCode, a.Header.Get("Retry-After"))
	}
	h.terms.set(func() { h.terms.retry = 0 })
	if a := h.ask("GET", "/ipfs/"+seg.root.String()+"?format=raw"); a.StatusCode != 200 {
		t.Errorf("open again: %d", a.StatusCode)
	}
}

// An answer that runs ends when the host closes, and nobody takes it for whole.
func TestClosingCutsAnAnswer(t *testing.T) {
	for what, stop := range map[string]func(*terms, held){
		"hours over": func(m *terms, _ held) { m.retry = time.Hour },
		"purged":     func(m *terms, seg held) { m.denied = seg.root },
	} {
		h := start(t, Limits{})
		seg := h.hold(600_000)
		gate := make(chan struct{})
		h.terms.block = gate
		go func() {
			gate <- struct{}{} // one piece, or the head of the CAR
			h.terms.set(func() { stop(h.terms, seg) })
			close(gate)
		}()
		got := h.raw("GET /ipfs/" + seg.root.String() + "?format=car HTTP/1.1\r\nHost: x\r\n\r\n")
		if strings.HasSuffix(got, "\r\n0\r\n\r\n") || len(got) > 2*piece {
			t.Errorf("%s: %d bytes came, as if they were all", what, len(got))
		}
	}
}

// As many answers as there may be are given at once; what is left is told to
// wait, and a client that goes away makes room.
func TestSlots(t *testing.T) {
	h := start(t, Limits{Answers: 1})
	seg := h.hold(1000)
	h.terms.block = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		req, err := http.NewRequestWithContext(ctx, "GET", h.url("/ipfs/"+seg.root.String()+"?format=raw"), nil)
		if err == nil {
			var resp *http.Response
			if resp, err = h.client.RoundTrip(req); err == nil {
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
		}
		first <- err
	}()
	<-h.terms.waits
	if a := h.ask("GET", "/ipfs/"+seg.root.String()+"?format=raw"); a.StatusCode != 503 || a.Header.Get("Retry-After") == "" {
		t.Errorf("a second answer: %d", a.StatusCode)
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	h.terms.set(func() { h.terms.block = nil })
	for h.ask("HEAD", "/ipfs/"+seg.root.String()+"?format=raw").StatusCode == 503 {
		runtime.Gosched() // the server has not seen yet that the first client went
	}
}

// Without a certificate nobody from another machine may connect.
func TestPlainIsLocal(t *testing.T) {
	h := start(t, Limits{})
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.server.Serve(l); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
}

func FuzzParseRange(f *testing.F) {
	f.Add("bytes=0-9", int64(100))
	f.Add("bytes=-9", int64(3))
	f.Fuzz(func(t *testing.T, header string, size int64) {
		off, n, ok := parseRange(header, size)
		if ok && (off < 0 || n < 0 || n > size || off > size-n) {
			t.Fatalf("%q of %d: %d bytes from %d", header, size, n, off)
		}
	})
}
