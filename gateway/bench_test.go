package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
)

// BenchmarkListen is one client on one connection over loopback, with a token
// that was seen before; allocations are those of both sides, and the client
// makes none but for the header.
func BenchmarkListen(b *testing.B) {
	for _, c := range []struct {
		name    string
		size, n int64
	}{{"range64KiB", 5 << 20, 64 << 10}, {"whole160KiB", 160 << 10, 160 << 10}, {"whole5MiB", 5 << 20, 5 << 20}} {
		b.Run(c.name, func(b *testing.B) {
			r := newRealm(b)
			seg := r.add(musen.Segment{}, audioOf(int(c.size)))
			s := r.serve(func(o *Options) { o.Log, o.Rates = discard(), unlimited() })
			conn, err := net.Dial("tcp", s.addr)
			check(b, err)
			defer conn.Close()
			request := "GET /listen/" + seg.CID.String() + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + r.token() + "\r\n"
			if c.n < c.size {
				request += fmt.Sprintf("Range: bytes=%d-%d\r\n", 1<<20, 1<<20+c.n-1)
			}
			request += "\r\n"
			in := bufio.NewReaderSize(conn, 64<<10)
			b.SetBytes(c.n)
			b.ReportAllocs()
			for b.Loop() {
				_, err := io.WriteString(conn, request)
				check(b, err)
				res, err := http.ReadResponse(in, nil)
				check(b, err)
				if n, err := io.Copy(io.Discard, res.Body); n != c.n || err != nil {
					b.Fatalf("%d bytes, %v", n, err)
				}
			}
		})
	}
}

// BenchmarkRequest is what a request costs besides the audio: routing, limits,
// credential, decision, conditions and headers of a HEAD, without a network.
func BenchmarkRequest(b *testing.B) {
	r := newRealm(b)
	seg := r.add(musen.Segment{}, audioOf(1000))
	o := r.options()
	o.Log, o.Rates = discard(), unlimited()
	s, err := New(o)
	check(b, err)
	req := httptest.NewRequest("HEAD", "/listen/"+seg.CID.String(), nil)
	req.Header.Set("Authorization", "Bearer "+r.token())
	for name, target := range map[string]string{"listen": "/listen/" + seg.CID.String(), "healthz": "/healthz"} {
		b.Run(name, func(b *testing.B) {
			req.URL.Path, req.RequestURI = target, target
			b.ReportAllocs()
			for b.Loop() {
				w := &blackHole{header: make(http.Header)}
				s.engine.ServeHTTP(w, req)
				if w.status != 200 {
					b.Fatalf("status %d", w.status)
				}
			}
		})
	}
}

// unlimited are rates that no benchmark reaches.
func unlimited() Rates {
	const n = 1 << 30
	return Rates{Client: n, Refused: n, Sealed: n, Credential: n, Subject: n, Share: n, Station: n}
}

type blackHole struct {
	header http.Header
	status int
}

func (w *blackHole) Header() http.Header         { return w.header }
func (w *blackHole) WriteHeader(status int)      { w.status = status }
func (w *blackHole) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkPages is what a load of a station's page, and of a list of 100
// segments with fresh links, costs besides reading the list: without a network.
func BenchmarkPages(b *testing.B) {
	r := newRealm(b)
	for range 100 {
		r.add(musen.Segment{Title: "Blue in Green", Artist: "a trio"}, audioOf(100))
	}
	o := r.options()
	o.Log, o.Rates = discard(), unlimited()
	o.Pages = &Pages{Shares: r, Library: r, Policy: r.engine, Minter: r.issuer, Passwords: hasher(b), LinkTTL: 5 * time.Minute}
	s, err := New(o)
	check(b, err)
	share, _ := r.share("jazz", nil)
	session, _, err := r.issuer.Session(policy.SessionRequest{Share: share.ID, Station: "jazz", Epoch: 1, TTL: time.Hour})
	check(b, err)
	for name, target := range map[string]string{"page": "/stations/jazz", "list100": "/stations/jazz/segments"} {
		b.Run(name, func(b *testing.B) {
			req := httptest.NewRequest("GET", target, nil)
			req.Header.Set("Cookie", cookie(session))
			b.ReportAllocs()
			for b.Loop() {
				w := &blackHole{header: make(http.Header)}
				s.engine.ServeHTTP(w, req)
				if w.status != 200 {
					b.Fatalf("status %d", w.status)
				}
			}
		})
	}
}
