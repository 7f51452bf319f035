package remote

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// H57: whatever is written into an endpoint, and whatever a name resolves to,
// no connection is made to this machine, its neighbours or its provider.
func TestNoConnectionInward(t *testing.T) {
	var connections atomic.Int64
	trap := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	trap.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			connections.Add(1)
		}
	}
	trap.StartTLS()
	defer trap.Close()
	_, port, err := net.SplitHostPort(trap.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(nil, nil, time.Second)
	defer c.CloseIdleConnections()
	for _, host := range []string{
		"127.0.0.1", "[::1]", "0.0.0.0", "[::]", "169.254.169.254", "127.1", "2130706433", "0x7f000001", "017700000001",
		"localhost", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
		"10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "[fe80::1]", "[fc00::1]", "224.0.0.1", "255.255.255.255", "[ff02::1]",
	} {
		for _, scheme := range []string{"https", "http"} {
			resp, err := c.Get(fmt.Sprintf("%s://%s:%s/", scheme, host, port))
			if err == nil {
				resp.Body.Close()
				t.Errorf("%s://%s answered", scheme, host)
			}
		}
	}
	for _, u := range []string{"file:///etc/passwd", "gopher://127.0.0.1:" + port + "/", "unix:///run/x", "unix://127.0.0.1:" + port} {
		if resp, err := c.Get(u); err == nil {
			resp.Body.Close()
			t.Errorf("%s answered", u)
		}
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// A name that resolves to a public address when it is checked and to loopback
// when it is dialled gains nothing: what is checked is what is dialled.
func TestEachAddressOfANameIsChecked(t *testing.T) {
	control := guard(nil)
	for address, ok := range map[string]bool{
		"93.184.215.14:443": true, "[2606:2800:21f:cb07:6820:80da:af6b:8b2c]:443": true, "8.8.8.8:80": true,
		"127.0.0.1:443": false, "[::1]:443": false, "[::ffff:127.0.0.1]:443": false, "[::ffff:8.8.8.8]:443": true,
		"[fe80::1%eth0]:443": false, "10.1.2.3:443": false, "198.18.0.1:443": false, "240.0.0.1:443": false,
		"192.0.0.8:443": false, "[2001::1]:443": false, "[fec0::1]:443": false, "[100::1]:443": false,
		"/run/docker.sock": false, "": false, "example.org:443": false,
	} {
		if err := control("tcp4", address, nil); (err == nil) != ok || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, network := range []string{"unix", "udp4", "tcp", ""} {
		if err := control(network, "8.8.8.8:443", nil); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", network, err)
		}
	}
	some := guard([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")})
	if err := some("tcp4", "10.1.2.3:443", nil); err != nil {
		t.Errorf("an address that was allowed: %v", err)
	}
	if err := some("tcp4", "127.0.0.1:443", nil); !errors.Is(err, ErrRefused) {
		t.Errorf("another one: %v", err)
	}
}

// A name that leads to the service at first and to loopback from then on: the
// service stands at 127.0.0.2, which is allowed here as if it were public.
func TestNameThatFlips(t *testing.T) {
	var served, trapped atomic.Int64
	service, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	_, port, err := net.SplitHostPort(service.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	trap, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer trap.Close()
	count := func(l net.Listener, n *atomic.Int64) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n.Add(1)
			c.Close()
		}
	}
	go count(service, &served)
	go count(trap, &trapped)
	dialer := &net.Dialer{Timeout: time.Second, Control: guard([]netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")})}
	dialer.Resolver = flipping(netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1"))
	c := newClientOn(dialer, nil, time.Second)
	defer c.CloseIdleConnections()
	for n := range 3 {
		_, err := c.Get("https://pins.example.org:" + port + "/")
		if refused := errors.Is(err, ErrRefused); refused != (n > 0) {
			t.Errorf("request %d: %v", n, err)
		}
	}
	if served.Load() != 1 || trapped.Load() != 0 {
		t.Errorf("%d connections to the service, %d to loopback", served.Load(), trapped.Load())
	}
}

// flipping resolves every name to one address the first time and to another
// from then on.
func flipping(first, then netip.Addr) *net.Resolver {
	var asked atomic.Int64
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			var size [2]byte
			if _, err := io.ReadFull(server, size[:]); err != nil {
				return
			}
			q := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(server, q); err != nil {
				return
			}
			a := answerTo(q, first)
			if isA(q) && asked.Add(1) > 1 {
				a = answerTo(q, then)
			}
			server.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...))
		}()
		return client, nil
	}}
}

// question is where the question of a DNS query ends.
func question(q []byte) int {
	i := 12
	for q[i] != 0 {
		i += int(q[i]) + 1
	}
	return i + 5
}

func isA(q []byte) bool { return binary.BigEndian.Uint16(q[question(q)-4:]) == 1 }

// answerTo answers a DNS query for an IPv4 address, and no other.
func answerTo(q []byte, ip netip.Addr) []byte {
	a := append([]byte(nil), q[:question(q)]...)
	copy(a[2:], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0})
	if isA(q) {
		a[7] = 1
		a = append(a, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		a = append(a, ip.AsSlice()...)
	}
	return a
}

func TestNoRedirectElsewhere(t *testing.T) {
	var reached atomic.Int64
	other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer other.Close()
	v := newServer(t)
	f := newFixture(t, v)
	for _, target := range []string{other.URL, "http://127.0.0.1/", "file:///etc/passwd", "//" + other.Listener.Addr().String() + "/", strings.Replace(v.URL, "https", "http", 1)} {
		v.set(func() {
			v.raw = func(w http.ResponseWriter, r *http.Request) bool {
				http.Redirect(w, r, target, http.StatusTemporaryRedirect)
				return true
			}
		})
		l, err := f.line(Service{Endpoint: v.URL + "/psa", TokenFile: f.token})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.ask(t.Context(), seg(1), "", nil); !errors.Is(err, ErrRefused) {
			t.Errorf("to %s: %v", target, err)
		}
	}
	if reached.Load() != 0 {
		t.Error("the other host was reached")
	}
	n := 0
	v.set(func() {
		v.raw = func(w http.ResponseWriter, r *http.Request) bool {
			if n++; n > 1 {
				return false
			}
			http.Redirect(w, r, v.URL+r.URL.Path, http.StatusTemporaryRedirect)
			return true
		}
	})
	l, err := f.line(Service{Endpoint: v.URL + "/psa", TokenFile: f.token})
	if err != nil {
		t.Fatal(err)
	}
	if a, err := l.ask(t.Context(), seg(1), "", nil); err != nil || a.state != Queued {
		t.Errorf("on the same host: %+v, %v", a, err)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	v := newServer(t)
	f := newFixture(t, v, func(o *Options) { o.Timing.Request = 200 * time.Millisecond })
	l, err := f.line(Service{Endpoint: v.URL + "/psa", TokenFile: f.token})
	if err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("x", 64<<10)
	for what, raw := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"endless": func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"requestid":"`)
			for {
				if _, err := fmt.Fprint(w, big); err != nil {
					return true
				}
			}
		},
		"silent": func(_ http.ResponseWriter, r *http.Request) bool {
			io.Copy(io.Discard, r.Body) // else the server does not see that the client is gone
			<-r.Context().Done()
			return true
		},
		"no JSON": func(w http.ResponseWriter, _ *http.Request) bool {
			fmt.Fprint(w, "<html>")
			return true
		},
		"another CID": func(w http.ResponseWriter, _ *http.Request) bool {
			v.say(w, 202, &request{RequestID: "x", Status: "pinned", Pin: pinBody{CID: seg(2).String()}})
			return true
		},
		"no request": func(w http.ResponseWriter, _ *http.Request) bool {
			v.say(w, 202, &request{Status: "pinned", Pin: pinBody{CID: seg(1).String()}})
			return true
		},
		"long request": func(w http.ResponseWriter, _ *http.Request) bool {
			v.say(w, 202, &request{RequestID: strings.Repeat("x", maxID+1), Status: "pinned", Pin: pinBody{CID: seg(1).String()}})
			return true
		},
		"a way out": func(w http.ResponseWriter, _ *http.Request) bool {
			v.say(w, 202, &request{RequestID: "..", Status: "pinned", Pin: pinBody{CID: seg(1).String()}})
			return true
		},
		"no such status": func(w http.ResponseWriter, _ *http.Request) bool {
			v.say(w, 202, &request{RequestID: "x", Status: "fine", Pin: pinBody{CID: seg(1).String()}})
			return true
		},
		"empty": func(w http.ResponseWriter, _ *http.Request) bool { v.say(w, 202, map[string]string{}); return true },
	} {
		v.set(func() { v.raw = raw })
		began := time.Now()
		a, err := l.ask(context.Background(), seg(1), "", nil)
		if err == nil {
			t.Errorf("%s: taken as %+v", what, a)
		} else if len(err.Error()) > 400 || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", what, err)
		}
		if d := time.Since(began); d > 20*time.Second {
			t.Errorf("%s: took %v", what, d)
		}
	}
}

func TestUnknownCertificateIsRefused(t *testing.T) {
	v := newServer(t)
	f := newFixture(t, v, func(o *Options) { o.Roots = x509.NewCertPool() })
	f.add(v, "first")
	f.Keep(seg(1), "")
	f.until("refused", f.is(seg(1), Failed))
	v.set(func() {
		if v.requests != 0 {
			t.Error("the token went to a server that nobody vouches for")
		}
	})
}
