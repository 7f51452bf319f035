package cmd_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/internal/audit"
)

// marker stands in every chunk of the audio of these tests. Nothing that a
// node writes may ever hold it.
const marker = "plaintext-of-the-fault-tests"

// flacHead is the head of a FLAC stream of 44,100 Hz.
const flacHead = "fLaC\x80\x00\x00\x22" + "\x10\x00\x10\x00\x00\x00\x00\x00\x00\x00\x0a\xc4\x42\xf0\x00\x00\x00\x00" +
	"0123456789abcdef"

// smallest is the least audio that holds the marker and is no other's.
const smallest = len(flacHead) + len(marker) + 8

// audioOf is audio that only name and size decide.
func audioOf(name string, size int) []byte {
	b := make([]byte, max(size, smallest))
	rand.NewChaCha8(sha256.Sum256([]byte(name))).Read(b)
	copy(b, flacHead)
	for i := len(flacHead); i+len(marker) <= len(b); i += 8 << 10 {
		copy(b[i:], marker)
	}
	return b
}

// A faultHome is a home with the station jazz and a token for it, and the node
// that runs in it.
type faultHome struct {
	t     *testing.T
	dir   string // the home
	tmp   string // TMPDIR of all that runs in it
	env   []string
	node  *process // nil: none runs
	logs  []*logBuffer
	admin *client.Client
	token string
}

// newFaultHome makes a home in a folder of its own and starts its node.
func newFaultHome(t *testing.T, env ...string) *faultHome {
	t.Helper()
	parent, err := os.MkdirTemp("", "fault") // a short name: sockets have no room for long ones
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(parent) })
	return newFaultHomeIn(t, parent, env...)
}

// newFaultHomeIn makes a home in parent.
func newFaultHomeIn(t *testing.T, parent string, env ...string) *faultHome {
	t.Helper()
	return prepareHome(t, parent, env).made("init")
}

// newFaultHomePhrase makes a home whose keyring opens with a passphrase.
func newFaultHomePhrase(t *testing.T, phrase string) *faultHome {
	t.Helper()
	parent := t.TempDir()
	file := filepath.Join(parent, "phrase")
	if err := os.WriteFile(file, []byte(phrase+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return prepareHome(t, parent, nil).made("init", "--passphrase-file", file)
}

// prepareHome is a home that is not made yet.
func prepareHome(t *testing.T, parent string, env []string) *faultHome {
	t.Helper()
	h := &faultHome{t: t, dir: filepath.Join(parent, "home"), tmp: filepath.Join(parent, "tmp")}
	if err := os.Mkdir(h.tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	h.env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + parent, "TMPDIR=" + h.tmp}, env...)
	h.admin = client.New(filepath.Join(h.dir, "admin.sock"))
	t.Cleanup(func() {
		h.admin.Close()
		if h.node != nil {
			h.node.cmd.Process.Kill()
			<-h.node.done
		}
		if t.Failed() && len(h.logs) > 0 {
			lines := strings.SplitAfter(h.logs[len(h.logs)-1].String(), "\n")
			t.Logf("last lines of the log of the last node:\n%s", strings.Join(lines[max(0, len(lines)-20):], ""))
		}
	})
	return h
}

// made makes the home, its station and its token.
func (h *faultHome) made(init ...string) *faultHome {
	t := h.t
	t.Helper()
	h.run(0, init...)
	h.start()
	if _, err := h.admin.CreateStation(t.Context(), wire.NewStation{Name: "jazz"}); err != nil {
		t.Fatal(err)
	}
	issued, err := h.admin.IssueToken(t.Context(), wire.TokenRequest{Subject: "ann", Stations: []string{"jazz"}, Actions: []string{"listen"}})
	if err != nil {
		t.Fatal(err)
	}
	h.token = issued.Token
	return h
}

// start starts the node; wrap is a tracer in front of it, if any.
func (h *faultHome) start(wrap ...string) {
	h.t.Helper()
	if err := h.tryStart(wrap...); err != nil {
		h.t.Fatal(err)
	}
	h.auditIsSound()
}

// auditIsSound checks that nothing that happened looks as if somebody had
// changed the audit log. (H55, H66, H68)
func (h *faultHome) auditIsSound() {
	h.t.Helper()
	if r, err := audit.Verify(filepath.Join(h.dir, "audit")); err != nil || len(r.Faults) > 0 || r.Head.Size == 0 {
		h.t.Errorf("the audit log: %+v, %v", r, err)
	}
	for _, log := range h.logs {
		if strings.Contains(log.String(), "the audit log was cut or put back") {
			h.t.Error("the audit log has less than the catalogue knows")
		}
	}
}

func (h *faultHome) tryStart(wrap ...string) (err error) {
	if h.node, err = serve(h.dir, h.env, wrap); err != nil {
		h.node = nil
		return err
	}
	h.logs = append(h.logs, &h.node.log)
	return nil
}

// stop stops the node, which must exit with 0.
func (h *faultHome) stop() {
	h.t.Helper()
	if err := h.node.stop(); err != nil {
		h.t.Fatalf("stop: %v\n%s", err, &h.node.log)
	}
	h.node = nil
}

// wait waits until the node has ended by itself.
func (h *faultHome) wait() {
	h.t.Helper()
	select {
	case <-h.node.done:
		h.node = nil
	case <-time.After(awaitLimit):
		h.t.Fatal("the node still runs")
	}
}

// run runs musen, which must exit with code, and returns what it printed.
func (h *faultHome) run(code int, args ...string) (stdout, stderr string) {
	h.t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command("musen", append([]string{"--home", h.dir}, args...)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = h.env, &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
		h.t.Fatalf("musen %q: %v, want exit code %d\n%s%s", args, err, code, &out, &errs)
	}
	return out.String(), errs.String()
}

// tryAdd adds the audio of that name and size, under that title.
func (h *faultHome) tryAdd(name string, size int) (wire.Added, error) {
	b := audioOf(name, size)
	return h.admin.Add(h.t.Context(), "jazz", client.Upload{Audio: bytes.NewReader(b), Size: int64(len(b)), Title: name})
}

func (h *faultHome) add(name string, size int) wire.Added {
	h.t.Helper()
	added, err := h.tryAdd(name, size)
	if err != nil {
		h.t.Fatalf("add %s of %d bytes: %v", name, size, err)
	}
	return added
}

// oneShot is an HTTP client that keeps no connection and asks nobody on the way.
func oneShot() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
}

// listen asks for a segment.
func (h *faultHome) listen(ctx context.Context, cid string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.node.ready.Public+"/listen/"+cid, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+h.token)
	return oneShot().Do(req)
}

// played fetches a segment; an error stands for anything but a whole answer.
func (h *faultHome) played(cid string) ([]byte, error) {
	resp, err := h.listen(h.t.Context(), cid)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %s: %s", resp.Status, b)
	}
	return b, err
}

// plays reports an error unless the segment is the audio of that name and size.
func (h *faultHome) plays(cid, name string, size int) {
	h.t.Helper()
	got, err := h.played(cid)
	if err != nil || !bytes.Equal(got, audioOf(name, size)) {
		h.t.Errorf("%s (%s) does not play: %d bytes of %d came, %v", name, cid, len(got), size, err)
	}
}

// segments lists the station, by title.
func (h *faultHome) segments() map[string]wire.Segment {
	h.t.Helper()
	all := map[string]wire.Segment{}
	for s, err := range h.admin.Segments(h.t.Context(), "jazz") {
		if err != nil {
			h.t.Fatal(err)
		}
		if _, twice := all[s.Title]; twice {
			h.t.Errorf("%s is there twice", s.Title)
		}
		all[s.Title] = s
	}
	return all
}

func (h *faultHome) remove(id string) {
	h.t.Helper()
	c, err := cid.Decode(id)
	if err == nil {
		err = h.admin.RemoveSegment(h.t.Context(), c)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// blocks are the paths of all blocks on the disk.
func (h *faultHome) blocks() []string {
	h.t.Helper()
	files, err := filepath.Glob(filepath.Join(h.dir, "ipfs", "blocks", "*", "*.data"))
	if err != nil {
		h.t.Fatal(err)
	}
	return files
}

// holdsNone reports every file below the home and TMPDIR, and every log, that
// holds one of the secrets. It returns how many bytes it looked through.
func (h *faultHome) holdsNone(secrets map[string]string) (looked int) {
	h.t.Helper()
	look := func(name string, b []byte) {
		looked += len(b)
		for what, secret := range secrets {
			if bytes.Contains(b, []byte(secret)) {
				h.t.Errorf("%s holds %s", name, what)
			}
		}
	}
	for _, root := range []string{h.dir, h.tmp} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return ignoreGone(err)
			}
			b, err := os.ReadFile(path)
			look(path, b)
			return ignoreGone(err)
		})
		if err != nil {
			h.t.Fatal(err)
		}
	}
	for _, log := range h.logs {
		look("the log", []byte(log.String()))
	}
	return looked
}

// ignoreGone: what a running node removes while it is looked at holds nothing.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// refusedWith reports an error unless err is the node's refusal with status
// and code.
func refusedWith(t *testing.T, err error, status int, code string) {
	t.Helper()
	var refused *client.Error
	if !errors.As(err, &refused) || refused.Status != status || refused.Code != code {
		t.Errorf("got %v, want status %d with code %s", err, status, code)
	}
}

// awaitLimit is how long any event may take; it is only reached by a failure.
const awaitLimit = 2 * time.Minute

// await looks again and again until what happened.
func await(t *testing.T, what string, happened func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(awaitLimit); !happened(); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("never happened: %s", what)
		}
	}
}

// jsonError is the error that musen --json printed.
func jsonError(t *testing.T, stderr string) (code, message string) {
	t.Helper()
	var out struct {
		Error struct{ Code, Message string }
	}
	last := stderr[strings.LastIndex(strings.TrimSpace(stderr), "\n")+1:]
	if err := json.Unmarshal([]byte(last), &out); err != nil {
		t.Fatalf("%v in %q", err, stderr)
	}
	return out.Error.Code, out.Error.Message
}

// leaves is a size of audio that makes n full leaves, nearly.
func leaves(n int) int { return n*musen.LeafSize - 1000 }
