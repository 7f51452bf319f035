package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Where no node listens, every call says so.
func TestNotRunning(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	must(t, err)
	l.SetUnlinkOnClose(false)
	must(t, l.Close())
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, tcp.Close())
	remote, err := client.NewTCP("http://"+tcp.Addr().String(), "token")
	must(t, err)
	for name, c := range map[string]*client.Client{
		"no socket": client.New(filepath.Join(dir, "none.sock")), "stale socket": client.New(stale), "closed port": remote,
	} {
		if _, err := c.Status(t.Context()); !errors.Is(err, client.ErrNotRunning) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := c.Add(t.Context(), "jazz", client.Upload{Audio: strings.NewReader("x")}); !errors.Is(err, client.ErrNotRunning) {
			t.Errorf("%s: upload: %v", name, err)
		}
		for _, err := range c.Verify(t.Context()) {
			if !errors.Is(err, client.ErrNotRunning) {
				t.Errorf("%s: verify: %v", name, err)
			}
		}
	}
	if _, err := client.New(dir).Status(t.Context()); err == nil || strings.Contains(err.Error(), "http://node") {
		t.Errorf("a folder for a socket: %v", err)
	}
}

// A node that ends the connection before its answer is whole went away.
func TestWentAway(t *testing.T) {
	for name, begin := range map[string]string{
		"no answer": "", "half of one": "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"cid\":",
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, begin)
			_ = conn.Close()
		}))
		c, err := client.NewTCP(s.URL, "token")
		must(t, err)
		if _, err := c.Add(t.Context(), "jazz", client.Upload{Audio: strings.NewReader("x")}); !errors.Is(err, client.ErrWentAway) {
			t.Errorf("%s: upload: %v", name, err)
		}
		for _, err := range c.Verify(t.Context()) {
			if !errors.Is(err, client.ErrWentAway) {
				t.Errorf("%s: verify: %v", name, err)
			}
		}
		c.Close()
		s.Close()
	}
}

// P3: a token crosses no network in the clear.
func TestNewTCPRefusesAddresses(t *testing.T) {
	for _, base := range []string{
		"http://radio.example:7071", "http://192.168.1.4", "http://0.0.0.0:80", "http://localhost.evil", "ftp://127.0.0.1", "127.0.0.1:7071", "",
		"https://", "http://user:secret@127.0.0.1", "http://127.0.0.1/?a=b", "http://127.0.0.1/api", "http://127.0.0.1/#a", "http://%zz",
	} {
		if _, err := client.NewTCP(base, "token"); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", base, err)
		}
	}
	for _, base := range []string{"http://127.0.0.1:7071", "http://[::1]:7071/", "http://localhost", "https://radio.example"} {
		if _, err := client.NewTCP(base, "token"); err != nil {
			t.Errorf("%q: %v", base, err)
		}
	}
}

// fake is a client of a server that answers everything with h.
func fake(t *testing.T, h http.HandlerFunc) *client.Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := client.NewTCP(s.URL, "secret-token")
	must(t, err)
	t.Cleanup(c.Close)
	return c
}

// A redirect is not followed: the token goes to one place.
func TestRedirectIsAnError(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer elsewhere.Close()
	c := fake(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	})
	_, err := c.Status(t.Context())
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Status != 307 || e.Code != "http_307" {
		t.Errorf("error %v", err)
	}
}

// Answers that no node gives are errors, not results.
func TestStrangeAnswers(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"no JSON": func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") },
		"nothing": func(http.ResponseWriter, *http.Request) {},
		"cut": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "99")
			io.WriteString(w, "{")
		},
		"broken problem": problem(500, "{"),
		"wrong problem":  problem(500, `{"status":"x"}`),
		"page":           func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) },
	} {
		c := fake(t, h)
		_, err := c.Status(t.Context())
		if err == nil || strings.Contains(err.Error(), "secret-token") {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := fake(t, problem(409, `{"status":409,"code":"exists","title":"Conflict","detail":"It exists already.","help":"Choose another."}`)).Status(t.Context())
	if err == nil || err.Error() != "It exists already (exists)" {
		t.Errorf("error %q", err)
	}
}

func problem(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// Names that a user types cannot leave their place in the path.
func TestNamesAreEscaped(t *testing.T) {
	var asked []string
	c := fake(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.RequestURI)
		io.WriteString(w, "{}")
	})
	for _, name := range []string{"a/b", "../status", "a?force=true", "a b", "ä"} {
		_, err := c.Station(t.Context(), name)
		must(t, err)
	}
	for i, want := range []string{"a%2Fb", "..%2Fstatus", "a%3Fforce=true", "a%20b", "%C3%A4"} {
		if asked[i] != "/api/v1/stations/"+want {
			t.Errorf("asked for %s, want %s", asked[i], want)
		}
	}
}

// A listing stops when its reader does, and a caller who gives up is told so.
func TestListingStops(t *testing.T) {
	calls := 0
	c := fake(t, func(w http.ResponseWriter, _ *http.Request) {
		calls++
		io.WriteString(w, `{"segments":[{"cid":"a"},{"cid":"b"}],"next":"more"}`)
	})
	var got []wire.Segment
	for s, err := range c.Segments(t.Context(), "jazz") {
		must(t, err)
		if got = append(got, s); len(got) == 3 {
			break
		}
	}
	if calls != 2 {
		t.Errorf("%d pages for three segments", calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Status(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, client.ErrNotRunning) {
		t.Errorf("error %v", err)
	}
}
