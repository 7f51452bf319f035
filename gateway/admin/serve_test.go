package admin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire"
)

// The socket is its owner's alone, replaces one that a dead process left, and
// goes with its listener.
func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	stale.SetUnlinkOnClose(false)
	must(t, stale.Close())
	l, err := ListenUnix(path)
	must(t, err)
	info, err := os.Lstat(path)
	must(t, err)
	if info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	conn, err := net.Dial("unix", path)
	must(t, err)
	must(t, conn.Close())
	must(t, l.Close())
	left, err := os.ReadDir(filepath.Dir(path))
	if must(t, err); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := ListenUnix(filepath.Join(t.TempDir(), strings.Repeat("x", 200), "admin.sock")); err == nil {
		t.Error("a socket in a folder that is not there")
	}
}

// H80: nobody becomes the operator, and nothing is heard, over a network.
func TestServeRefusesListeners(t *testing.T) {
	w := newWorld(t, nil)
	for name, c := range map[string]struct {
		address string
		trust   Trust
	}{
		"operator over TCP": {"127.0.0.1:0", Local}, "every address": {"0.0.0.0:0", Bearer}, "every IPv6 address": {"[::]:0", Bearer},
	} {
		l, err := net.Listen("tcp", c.address)
		must(t, err)
		if err := w.server.Serve(l, c.trust); err == nil {
			t.Errorf("%s is served", name)
		}
		if _, err := net.DialTimeout("tcp", l.Addr().String(), time.Second); err == nil {
			t.Errorf("%s: the listener is still open", name)
		}
	}
}

// A unix socket that is served as Bearer makes nobody the operator.
func TestTrustIsTheListeners(t *testing.T) {
	w := newWorld(t, nil)
	path := filepath.Join(t.TempDir(), "shared.sock")
	l, err := ListenUnix(path)
	must(t, err)
	var wg sync.WaitGroup
	wg.Go(func() { noError(t, w.server.Serve(l, Bearer)) })
	c := client.New(path)
	_, err = c.Status(t.Context())
	refused(t, err, 403, "host_refused")
	c.Close()
	must(t, w.server.Shutdown(t.Context()))
	wg.Wait()
}

// H74: a shutdown lets an upload under way finish, and takes no new request.
func TestShutdownDrains(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	pr, pw := io.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := w.local.Add(t.Context(), "jazz", client.Upload{Audio: pr})
		noError(t, err)
	})
	audio := wav("one", 100_000)
	_, err := pw.Write(audio[:50_000])
	must(t, err)
	down := make(chan error, 1)
	go func() { down <- w.server.Shutdown(context.Background()) }()
	for !errors.Is(err, client.ErrNotRunning) {
		runtime.Gosched() // until the listener is closed
		_, err = client.New(w.socket).Status(t.Context())
	}
	_, err = pw.Write(audio[50_000:])
	must(t, err)
	must(t, pw.Close())
	wg.Wait()
	must(t, <-down)
	w.nothingLeft(1)
}

// When the time to drain is over, requests are cut, and their uploads leave
// nothing.
func TestShutdownCuts(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	pr, pw := io.Pipe()
	failed := make(chan error, 1)
	go func() {
		_, err := w.local.Add(t.Context(), "jazz", client.Upload{Audio: pr})
		failed <- err
	}()
	_, err := pw.Write(wav("one", 100_000)[:50_000])
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.server.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("shutdown: %v", err)
	}
	must(t, pw.Close())
	if err := <-failed; err == nil {
		t.Error("the upload was not cut")
	}
}

// A handler that breaks answers 500 with a request id, which the log has too,
// without the words of the panic; the node goes on.
func TestPanic(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Node = nilNode{o.Node} })
	_, err := w.local.Status(t.Context())
	refused(t, err, 500, "internal")
	e, _ := errors.AsType[*client.Error](err)
	if log := w.log.String(); !strings.Contains(log, e.RequestID) || !strings.Contains(log, "admin handler panicked") || strings.Contains(log, "very secret") {
		t.Errorf("log:\n%s", log)
	}
	_, err = w.local.Stations(t.Context())
	noError(t, err)
}

type nilNode struct{ Node }

func (nilNode) PeerID() string { panic("very secret") }

func TestNewNamesWhatIsMissing(t *testing.T) {
	if _, err := New(Options{}); err == nil || !strings.Contains(err.Error(), "no ") {
		t.Errorf("error %v", err)
	}
	w := newWorld(t, nil)
	o := w.server.Options
	o.MaxSegment = 0
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), "MaxSegment") {
		t.Errorf("error %v", err)
	}
}

// H13, H54: the log has a line for each request, and nothing that was sent.
func TestAccessLog(t *testing.T) {
	w := newWorld(t, nil)
	w.station("secretstation")
	_, err := w.local.Add(t.Context(), "secretstation", client.Upload{Audio: bytes.NewReader(wav("x", 3000)), Title: "Secret Title", IdempotencyKey: "secretkey"})
	must(t, err)
	_, err = w.local.IssueToken(t.Context(), wire.TokenRequest{Subject: "secretsubject", Actions: []string{"listen"}})
	must(t, err)
	log := w.log.String()
	if !strings.Contains(log, `"route":"/api/v1/stations/:station/segments"`) || !strings.Contains(log, `"by":"local"`) || !strings.Contains(log, `"status":201`) {
		t.Errorf("log:\n%s", log)
	}
	if strings.Contains(strings.ToLower(log), "secret") {
		t.Errorf("what was sent is in the log:\n%s", log)
	}
}
