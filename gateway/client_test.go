package gateway

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/policy"
)

func newClients(c *clock, header string, proxies ...string) *clients {
	p := &clients{header: http.CanonicalHeaderKey(header), life: 24 * time.Hour, now: c.Now, rand: rand.Reader}
	for _, s := range proxies {
		p.proxies = append(p.proxies, netip.MustParsePrefix(s))
	}
	return p
}

// from is a request from an address, with forwarded fields.
func from(address string, header string, values ...string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = address
	for _, v := range values {
		r.Header.Add(header, v)
	}
	return r
}

func (p *clients) must(t testing.TB, r *http.Request) client {
	t.Helper()
	c, err := p.of(r)
	check(t, err)
	return c
}

// P40, P41: an address becomes a name that is the same for a day and for all of
// an IPv6 network, and is another one after that, and under another key.
func TestPseudonyms(t *testing.T) {
	now := &clock{t: time.Now()}
	p, other := newClients(now, ""), newClients(now, "")
	name := func(address string) string { return p.must(t, from(address, "")).name }
	v4, v6 := name("203.0.113.77:1000"), name("[2001:db8::77]:1000")
	for address, want := range map[string]string{
		"203.0.113.77:2000": v4, "[::ffff:203.0.113.77]:1": v4,
		"[2001:db8::1:2:3:4]:9": v6, "[2001:db8::77%eth0]:9": v6,
	} {
		if got := name(address); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
	for _, address := range []string{"203.0.113.78:1000", "[2001:db8:0:1::77]:1", "", "@"} {
		if got := name(address); got == v4 || got == v6 || len(got) != 22 {
			t.Errorf("%q: %q", address, got)
		}
	}
	if other.must(t, from("203.0.113.77:1000", "")).name == v4 {
		t.Error("two processes give one address the same name")
	}
	now.Add(24*time.Hour - time.Second)
	if name("203.0.113.77:1000") != v4 {
		t.Error("a name changed within the day")
	}
	now.Add(time.Second)
	next := p.must(t, from("203.0.113.77:1000", ""))
	if next.name == v4 || next.key != 1 {
		t.Errorf("after a day: %+v, before: %q", next, v4)
	}
}

func TestNoNamesWithoutRandomness(t *testing.T) {
	p := newClients(&clock{t: time.Now()}, "")
	p.rand = bytes.NewReader(nil)
	if c, err := p.of(from("203.0.113.77:1", "")); err == nil {
		t.Errorf("got %+v", c)
	}
}

// P66, H45: the header counts that is configured, from declared proxies alone,
// and of it only what they wrote.
func TestForwarded(t *testing.T) {
	now := &clock{t: time.Now()}
	p := newClients(now, "X-Forwarded-For", "10.0.0.0/24", "2001:db8:ffff::/48")
	direct := func(a string) string { return p.must(t, from(a+":1", "")).name }
	for _, c := range []struct {
		what, peer string
		values     []string
		want       string
	}{
		{"one proxy", "10.0.0.1:1", []string{"203.0.113.77"}, "203.0.113.77"},
		{"with a port", "10.0.0.1:1", []string{"203.0.113.77:99"}, "203.0.113.77"},
		{"IPv6", "10.0.0.1:1", []string{"2001:db8::77"}, "[2001:db8::]"},
		{"IPv6 with a port", "10.0.0.1:1", []string{"[2001:db8::77]:99"}, "[2001:db8::]"},
		{"IPv6 in brackets", "10.0.0.1:1", []string{"[2001:db8::77]"}, "[2001:db8::]"},
		{"mapped", "10.0.0.1:1", []string{"::ffff:203.0.113.77"}, "203.0.113.77"},
		{"two proxies", "10.0.0.1:1", []string{"203.0.113.77, 10.0.0.2"}, "203.0.113.77"},
		{"two headers", "10.0.0.1:1", []string{"203.0.113.77", "10.0.0.2"}, "203.0.113.77"},
		{"a proxy on IPv6", "[2001:db8:ffff::1]:1", []string{"203.0.113.77"}, "203.0.113.77"},
		{"what the client made up", "10.0.0.1:1", []string{"198.51.100.1, 203.0.113.77"}, "203.0.113.77"},
		{"made up in a header of its own", "10.0.0.1:1", []string{"198.51.100.1", "203.0.113.77, 10.0.0.2"}, "203.0.113.77"},
		{"rubbish before it", "10.0.0.1:1", []string{"<script>, 203.0.113.77"}, "203.0.113.77"},
		{"rubbish after it", "10.0.0.1:1", []string{"203.0.113.77, x"}, "10.0.0.1"},
		{"nothing", "10.0.0.1:1", nil, "10.0.0.1"},
		{"empty", "10.0.0.1:1", []string{""}, "10.0.0.1"},
		{"only proxies", "10.0.0.1:1", []string{"10.0.0.2"}, "10.0.0.1"},
		{"no proxy", "198.51.100.9:1", []string{"203.0.113.77"}, "198.51.100.9"},
		{"loopback is no proxy by itself", "127.0.0.1:1", []string{"203.0.113.77"}, "127.0.0.1"},
	} {
		got := p.must(t, from(c.peer, "X-Forwarded-For", c.values...))
		if got.name != direct(c.want) {
			t.Errorf("%s: not %s", c.what, c.want)
		}
		if want := strings.HasPrefix(c.peer, "10.") || strings.HasPrefix(c.peer, "[2001:db8:ffff"); got.proxied != want {
			t.Errorf("%s: proxied is %v", c.what, got.proxied)
		}
	}
	if got := p.must(t, from("10.0.0.1:1", "X-Real-Ip", "203.0.113.77")); got.name != direct("10.0.0.1") {
		t.Error("a header counts that is not configured")
	}
	silent := newClients(now, "", "10.0.0.0/24")
	if !silent.must(t, from("10.0.0.1:1", "X-Forwarded-For", "203.0.113.77")).crowd || !silent.must(t, from("[::1]:1", "")).crowd {
		t.Error("all who come through a proxy are taken for one client")
	}
	if silent.must(t, from("198.51.100.9:1", "")).crowd {
		t.Error("a client is taken for a crowd")
	}
}

// What a client puts before the proxy's own word changes nothing.
func FuzzForwarded(f *testing.F) {
	f.Add("198.51.100.1", "1.2.3.4, 5.6.7.8")
	f.Add(",,,", "[::1]:x")
	f.Add("\x00", "fe80::1%eth0")
	p := newClients(&clock{t: time.Now()}, "X-Forwarded-For", "10.0.0.0/8")
	want := p.must(f, from("203.0.113.77:1", ""))
	f.Fuzz(func(t *testing.T, a, b string) {
		if got := p.must(t, from("10.0.0.1:1", "X-Forwarded-For", a, b+", 203.0.113.77")); got.name != want.name {
			t.Errorf("%q, %q: another client", a, b)
		}
		_ = p.must(t, from(a, "X-Forwarded-For", b))
	})
}

// P40, H54: behind the first middleware there is no address any more: not in
// the request, its context or its headers, and none of the connection's.
func TestAddressIsDropped(t *testing.T) {
	s := newRealm(t).serve(func(o *Options) {
		o.ClientHeader, o.Proxies = "Client-Is", []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	seen := make(chan string, 1)
	h := s.server.anonymous(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen <- fmt.Sprintf("%+v %#v %v %v", r, r.Header, r.Context(), r.RemoteAddr)
	}))
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ConnContext = s.server.http.ConnContext
	srv.Start()
	defer srv.Close()
	req, err := http.NewRequest("GET", srv.URL, nil)
	check(t, err)
	for _, name := range []string{"Client-Is", "X-Forwarded-For", "X-Real-IP", "Forwarded", "CF-Connecting-IP", "True-Client-IP"} {
		req.Header.Set(name, "203.0.113.77")
	}
	res, err := srv.Client().Do(req)
	check(t, err)
	defer res.Body.Close()
	text := <-seen
	for _, address := range []string{"203.0.113.77", "cb00714d", hex.EncodeToString([]byte("203.0.113.77"))} {
		if strings.Contains(text, address) {
			t.Errorf("%s is in %s", address, text)
		}
	}
	if port := strings.TrimPrefix(srv.URL, "http://127.0.0.1:"); strings.Count(text, "127.0.0.1") != strings.Count(text, "127.0.0.1:"+port) {
		t.Errorf("another address than the node's own is in %s", text)
	}
}

func BenchmarkPseudonym(b *testing.B) {
	p := newClients(&clock{t: time.Now()}, "X-Forwarded-For", "10.0.0.0/8")
	r := from("10.0.0.1:1", "X-Forwarded-For", "203.0.113.77")
	b.ReportAllocs()
	for b.Loop() {
		_ = p.must(b, r)
	}
}

// P40, H13: the trace of a handler that panics names nobody and holds no
// credential.
func TestPanicsNameNobody(t *testing.T) {
	r := newRealm(t)
	s := r.serve(func(o *Options) {
		o.ClientHeader, o.Proxies = "X-Forwarded-For", loopbackProxies()
		o.Opener = panics{}
	})
	token := r.token()
	a := s.as("203.0.113.77", "/listen/"+unknownCID(cid.Raw).String(), "Authorization", "Bearer "+token)
	if a.StatusCode != 500 {
		t.Errorf("status %d", a.StatusCode)
	}
	log := s.log.await("handler panicked")
	for name, form := range map[string]string{
		"address": "203.0.113.77", "address in hex": "cb00714d", "its words": "0xcb00714d", "peer": "127.0.0.1:", "token": token[len(token)-20:],
	} {
		if strings.Contains(log, form) {
			t.Errorf("the %s is in %s", name, log)
		}
	}
}

// panics is an Opener that breaks, and says what it should not.
type panics struct{ Opener }

func (panics) Open(context.Context, policy.Grant, policy.Action, cid.Cid) (Stream, error) {
	panic("203.0.113.77 came with a token")
}
