package catalog_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/multiformats/go-multihash"
	"go.uber.org/goleak"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog"
)

// childRole tells this binary to be a process that a test runs and kills.
const childRole = "MUSEN_CATALOG_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childRole) == "writer" {
		writeUntilKilled(os.Args[len(os.Args)-1])
	}
	goleak.VerifyTestMain(m)
}

// writeUntilKilled adds and removes segments from four goroutines, and prints
// what was acknowledged: "live" or "gone", id, multihash, start of the key.
func writeUntilKilled(path string) {
	ctx, out := context.Background(), sync.Mutex{}
	say := func(word string, s musen.Segment) {
		out.Lock()
		defer out.Unlock()
		fmt.Printf("%s %s %s %x\n", word, s.ID, s.CID.Hash().HexString(), s.Key.Ciphertext[:16])
	}
	must := func(err error) {
		if err != nil {
			fmt.Println("failed", err)
			os.Exit(1)
		}
	}
	c, err := catalog.Open(ctx, path, options([32]byte{1}, time.Now))
	must(err)
	st, err := c.Station(ctx, "jazz")
	must(err)
	for range 4 {
		go func() {
			for i := 0; ; i++ {
				s := newSegment(st.ID, 1+i%5, time.Now())
				s.Title = s.ID
				must(c.Begin(ctx, s))
				must(c.Commit(ctx, s, []byte(s.ID), nil))
				say("live", s)
				if i%4 == 3 {
					must(c.Remove(ctx, s.ID))
					say("gone", s)
				}
			}
		}()
	}
	select {}
}

// acknowledged is what a killed process had said about a segment.
type acknowledged struct {
	mh    multihash.Multihash
	key   []byte
	state musen.State
}

// H66: whenever the process is killed, all that was acknowledged is there and
// whole, and what was not can be forgotten.
func TestKilledAtRandom(t *testing.T) {
	f, path := onFile(t)
	f.station("jazz")
	noErr(t, f.Close())
	known := map[string]acknowledged{}
	for range 20 {
		runAndKill(t, path, rand.IntN(120), known)
		f.open()
		checkKnown(t, f, path, known)
		noErr(t, f.Close())
	}
	if len(known) < 20 {
		t.Fatalf("only %d segments were acknowledged", len(known))
	}
}

// runAndKill kills a writer after that many lines, and notes all that it said.
func runAndKill(t *testing.T, path string, lines int, known map[string]acknowledged) {
	t.Helper()
	cmd := exec.Command(os.Args[0], path)
	cmd.Env = append(os.Environ(), childRole+"=writer")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	noErr(t, err)
	noErr(t, cmd.Start())
	in := bufio.NewReader(out)
	for n := 0; ; n++ {
		if n == lines {
			noErr(t, cmd.Process.Kill())
		}
		line, err := in.ReadString('\n')
		if err == io.EOF {
			break // also drops a line that was cut
		}
		noErr(t, err)
		note(t, line, known)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the writer ended by itself: %v", err)
	}
}

func note(t *testing.T, line string, known map[string]acknowledged) {
	t.Helper()
	words := strings.Fields(line)
	if len(words) != 4 || (words[0] != "live" && words[0] != "gone") {
		t.Fatalf("the writer says %q", line)
	}
	mh, err := multihash.FromHexString(words[2])
	noErr(t, err)
	key, err := hex.DecodeString(words[3])
	noErr(t, err)
	a := acknowledged{mh: mh, key: key}
	if words[0] == "gone" {
		a.state = musen.Removed
	}
	known[words[1]] = a
}

func checkKnown(t *testing.T, f *fixture, path string, known map[string]acknowledged) {
	t.Helper()
	ctx := t.Context()
	for id, a := range known {
		s, err := f.Segment(ctx, a.mh)
		noErr(t, err)
		switch {
		case s.ID != id:
			t.Fatalf("segment %s became %s", id, s.ID)
		case a.state == musen.Removed && s.State != musen.Removed:
			t.Fatalf("segment %s came back", id)
		case s.State == musen.Removed: // may be ahead of what was said
			delete(known, id)
		case s.Title != id || !strings.HasPrefix(string(s.Key.Ciphertext), string(a.key)):
			t.Fatalf("segment %s is not whole: %+v", id, s)
		}
		if a.state == musen.Removed {
			for name, content := range onDisk(t, path) {
				if strings.Contains(string(content), string(a.key)) {
					t.Fatalf("a destroyed key is in %s", filepath.Base(name))
				}
			}
		}
	}
	pending, err := f.Pending(ctx)
	noErr(t, err)
	for _, id := range pending {
		if _, there := known[id]; there {
			t.Fatalf("segment %s was acknowledged and is pending", id)
		}
		noErr(t, f.Abort(ctx, id))
	}
	for _, pragma := range []string{"integrity_check", "foreign_key_check"} {
		if found, err := f.Query(ctx, "SELECT coalesce(group_concat(x.\""+firstColumn(pragma)+"\"), 'ok') FROM pragma_"+pragma+" AS x"); err != nil || found != "ok" {
			t.Fatalf("%s: %q, %v", pragma, found, err)
		}
	}
}

func firstColumn(pragma string) string {
	if pragma == "integrity_check" {
		return pragma
	}
	return "table"
}

// H69: no space for the files themselves, not only for pages.
func TestNoSpaceForFiles(t *testing.T) {
	if os.Getenv(childRole) != "limited" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestNoSpaceForFiles$", "-test.count=1")
		cmd.Env = append(os.Environ(), childRole+"=limited")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	var was syscall.Rlimit
	noErr(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was))
	limit := func(n uint64) {
		noErr(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: was.Max}))
	}
	f, _ := onFile(t)
	fillUp(t, f, musen.ErrUnavailable, func() { limit(300 << 10) }, func() { limit(was.Cur) })
}
