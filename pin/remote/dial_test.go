package remote

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
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
	c := newClient(Options{Timing: Timing{Request: time.Second}})
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

// question is where the question of a DNS query ends.
func question(q []byte) int {
	i := 12
	for q[i] != 0 {
		i += int(q[i]) + 1
	}
	return i + 5
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
