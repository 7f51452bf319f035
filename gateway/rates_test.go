package gateway

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/problem"
	"github.com/musenai/musen/policy"
)

// A watched Verifier counts the credentials that it has to look at.
type watched struct {
	Verifier
	looks atomic.Int64
}

func (w *watched) Token(raw string) (policy.Grant, error) {
	w.looks.Add(1)
	return w.Verifier.Token(raw)
}

func (w *watched) Link(raw, method, path string) (policy.Grant, error) {
	w.looks.Add(1)
	return w.Verifier.Link(raw, method, path)
}

// servePaced starts a Server behind a proxy on loopback, with those rates and
// bursts of a second.
func (r *realm) servePaced(rates Rates) (*site, *watched) {
	w := &watched{Verifier: r.verifier}
	s := r.serve(func(o *Options) {
		o.Verifier, o.Rates = w, rates
		o.Rates.Burst = time.Second
		o.ClientHeader, o.Proxies = "X-Forwarded-For", loopbackProxies()
	})
	return s, w
}

// loopbackProxies has whoever connects from loopback be a proxy.
func loopbackProxies() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }

// as sends a GET for a client at an address.
func (s *site) as(address, path string, headers ...string) answer {
	s.t.Helper()
	return s.ask("GET", path, append([]string{"X-Forwarded-For", address}, headers...)...)
}

func (s *site) wantStatus(a answer, status int, what string) {
	s.t.Helper()
	check(s.t, a.err)
	if a.StatusCode != status {
		s.t.Errorf("%s: status %d, want %d: %s", what, a.StatusCode, status, a.body)
	}
}

// P66, H45: who asks too much is refused with a time to wait, and nobody else.
func TestClientsAreLimited(t *testing.T) {
	s, _ := newRealm(t).servePaced(Rates{Client: 5})
	for range 5 {
		s.wantStatus(s.as("2001:db8::77", "/healthz"), 200, "within the burst")
	}
	a := s.as("2001:db8::1:0:0:78", "/healthz") // of the same /64
	s.wantStatus(a, 429, "beyond it")
	var p problem.Problem
	check(t, json.Unmarshal(a.body, &p))
	if p.Code != "too_many_requests" || a.Header.Get("Retry-After") != "1" || a.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("answer %+v with %v", p, a.Header)
	}
	s.wantStatus(s.as("2001:db8:0:1::77", "/healthz"), 200, "a client of another /64")
	s.wantStatus(s.as("203.0.113.77", "/healthz"), 200, "another client")
	s.clock.Add(time.Second)
	s.wantStatus(s.as("2001:db8::77", "/healthz"), 200, "a second later")
	var limited uint64
	for _, c := range s.server.Counts() {
		if c.Limit == "client" && c.Status == 429 && c.Code == "too_many_requests" && c.Route == "/healthz" {
			limited = c.N
		}
	}
	if limited != 1 || strings.Contains(s.log.String(), `"status":429`) {
		t.Errorf("%d refusals counted; log: %s", limited, s.log)
	}
}

// H45: where nobody says who the clients are, none is limited for all of them.
func TestCrowdIsNotOneClient(t *testing.T) {
	s := newRealm(t).serve(func(o *Options) { o.Rates = Rates{Client: 1, Refused: 1, Burst: time.Second} })
	for range 10 {
		s.wantStatus(s.ask("GET", "/healthz", "X-Forwarded-For", "203.0.113.77"), 200, "from loopback")
		s.wantStatus(s.ask("GET", "/listen/x"), 401, "from loopback")
	}
}

// H45, P67: who floods the node with bad credentials is refused before another
// signature is checked. A neighbour behind the same address plays on.
func TestFloodOfBadCredentials(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(1000))
	s, w := r.servePaced(Rates{Refused: 10})
	path, good := "/listen/"+seg.CID.String(), "Bearer "+r.token()
	s.wantStatus(s.as("203.0.113.77", path, "Authorization", good), 200, "a neighbour")
	for i := range 10 {
		s.wantStatus(s.as("203.0.113.77", path, "Authorization", fmt.Sprintf("Bearer bad%d", i)), 401, "within the burst")
	}
	looked := w.looks.Load()
	for i := range 20 {
		s.wantStatus(s.as("203.0.113.77", path, "Authorization", fmt.Sprintf("Bearer worse%d", i)), 429, "beyond it")
		s.wantStatus(s.as("203.0.113.77", path), 429, "without any")
	}
	s.wantStatus(s.as("203.0.113.77", path, "Authorization", "Bearer "+r.token()), 429, "one that was never seen")
	if n := w.looks.Load(); n != looked {
		t.Errorf("%d credentials were looked at", n-looked)
	}
	s.wantStatus(s.as("203.0.113.77", path, "Authorization", good), 200, "the neighbour")
	s.wantStatus(s.as("203.0.113.78", path, "Authorization", "Bearer bad"), 401, "another client")
	s.clock.Add(time.Second)
	s.wantStatus(s.as("203.0.113.77", path, "Authorization", "Bearer bad"), 401, "later")
}

// H45: who tries CIDs is refused before the catalogue is asked again.
func TestFloodOfUnknownBlocks(t *testing.T) {
	r := newRealm(t)
	s, _ := r.servePaced(Rates{Refused: 10})
	path := "/ipfs/" + unknownCID(cid.Raw).String() + "?format=raw"
	for range 10 {
		s.wantStatus(s.as("203.0.113.77", path), 404, "within the burst")
	}
	s.wantStatus(s.as("203.0.113.77", path), 429, "beyond it")
	s.wantStatus(s.as("203.0.113.78", path), 404, "another client")
}

// P66: each credential, each subject, each share and each station has a limit.
func TestCredentialsAreLimited(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(1000))
	path := "/listen/" + seg.CID.String()
	for name, c := range map[string]struct {
		rates Rates
		same  func() string // another credential under the same limit
		other func() string
	}{
		"credential": {Rates{Credential: 4}, nil, func() string { return r.token("jazz") }},
		"subject": {Rates{Subject: 4}, func() string { return r.token("jazz") }, func() string {
			raw, _ := r.tokenFor("another", "jazz")
			return raw
		}},
		"station": {Rates{Station: 4}, func() string { return r.token("jazz") }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := r.servePaced(c.rates)
			one := r.token("jazz")
			if c.same != nil {
				one = c.same()
			}
			for i := range 4 {
				s.wantStatus(s.as("203.0.113."+strconv.Itoa(i), path, "Authorization", "Bearer "+one), 200, "within the burst")
			}
			if c.same != nil {
				one = c.same()
			}
			s.wantStatus(s.as("203.0.113.9", path, "Authorization", "Bearer "+one), 429, "beyond it")
			if c.other != nil {
				s.wantStatus(s.as("203.0.113.9", path, "Authorization", "Bearer "+c.other()), 200, "another")
			}
			s.clock.Add(time.Second)
			s.wantStatus(s.as("203.0.113.9", path, "Authorization", "Bearer "+one), 200, "a second later")
		})
	}
}

// The default limits are out of reach of a player that seeks wildly, and of a
// house full of them behind one address.
func TestPlayersMeetNoLimit(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(300_000))
	s, _ := r.servePaced(Rates{})
	path := "/listen/" + seg.CID.String()
	var tokens []string
	for i := range 20 {
		raw, _ := r.tokenFor("listener "+strconv.Itoa(i), "jazz")
		tokens = append(tokens, "Bearer "+raw)
	}
	for second := range 3 {
		for i := range 200 { // ten requests of each in a second
			from := (second*1000 + i*777) % 299_000
			a := s.as("203.0.113.77", path, "Authorization", tokens[i%len(tokens)], "Range", fmt.Sprintf("bytes=%d-%d", from, from+999))
			s.wantStatus(a, 206, "a player that seeks")
		}
		s.clock.Add(time.Second)
	}
}

// BenchmarkRefusal is what it costs to refuse somebody, without a network: one
// whose credential is looked at, and one who was refused too often.
func BenchmarkRefusal(b *testing.B) {
	r := newRealm(b)
	for name, c := range map[string]struct {
		refused, status int
	}{"signature": {1 << 20, 401}, "flood": {1, 429}} {
		b.Run(name, func(b *testing.B) {
			o := r.options()
			o.Log = discard() // the clock stands still
			o.Rates = Rates{Client: 1 << 20, Refused: c.refused}
			s, err := New(o)
			check(b, err)
			h := s.anonymous(s.engine)
			req := httptest.NewRequest("GET", "/listen/"+unknownCID(cid.Raw).String(), nil)
			bad := r.token()
			req.Header.Set("Authorization", "Bearer "+bad[:len(bad)-8]+"AAAAAAAA")
			ask := func() int {
				req.RemoteAddr = "203.0.113.77:1"
				w := &blackHole{header: make(http.Header)}
				h.ServeHTTP(w, req)
				return w.status
			}
			for ask() != c.status {
			}
			b.ReportAllocs()
			used := cpuTime()
			for b.Loop() {
				if got := ask(); got != c.status {
					b.Fatalf("status %d", got)
				}
			}
			b.ReportMetric(float64(b.N)/(cpuTime()-used).Seconds(), "refusals/cpu-s")
		})
	}
}

// BenchmarkRefusalsOverHTTP is a flood of bad credentials over connections of
// loopback, client and server on the same cores.
func BenchmarkRefusalsOverHTTP(b *testing.B) {
	r := newRealm(b)
	s := r.serve(func(o *Options) { o.Log, o.Rates = discard(), unlimited() })
	request := "GET /listen/" + unknownCID(cid.Raw).String() + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n\r\n"
	used := cpuTime()
	b.RunParallel(func(pb *testing.PB) {
		c := dial(b, s.addr)
		defer c.Close()
		for pb.Next() {
			_, err := io.WriteString(c, request)
			check(b, err)
			c.answer(b)
		}
	})
	b.ReportMetric(float64(b.N)/(cpuTime()-used).Seconds(), "refusals/cpu-s")
}

// cpuTime is what the process has used of all cores: other programs of the
// machine do not change it.
func cpuTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err) // it fails only for a wrong argument
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// A conn is a connection of a client that costs little.
type conn struct {
	net.Conn
	in *bufio.Reader
}

func dial(t testing.TB, addr string) *conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	check(t, err)
	return &conn{c, bufio.NewReader(c)}
}

// answer reads a whole answer and returns its status.
func (c *conn) answer(t testing.TB) int {
	t.Helper()
	res, err := http.ReadResponse(c.in, nil)
	check(t, err)
	_, err = io.Copy(io.Discard, res.Body)
	check(t, err)
	return res.StatusCode
}
