package cmd_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/client"
)

const (
	killCount = 100
	killSeed  = 20260722
	uploaders = 5 // at once, when a node is killed at a random moment
)

// A killStep is a point of an add at which the node is killed: on entering the
// first of the system calls on one of the paths, once the audio up to hold has
// been sent.
type killStep struct {
	name  string
	hold  int
	calls string // none: killed at hold itself
	paths func(t *testing.T, h *faultHome) []string
}

// killSteps are all points between which an add leaves something else behind.
func killSteps() []killStep {
	return []killStep{
		{name: "key recorded, nothing read"},
		{name: "bytes of a block not synced", hold: 1000, calls: "fsync"},
		{name: "block has no name yet", hold: 1000, calls: "rename,renameat,renameat2"},
		{name: "later block has no name yet", hold: leaves(3), calls: "rename,renameat,renameat2"},
		{name: "name of a block not synced", hold: 1000, calls: "fsync", paths: shardPaths},
		{name: "blocks without a pin", hold: 1000, calls: "write", paths: pinPaths},
		{name: "pin without a record", hold: 1000, calls: "pwrite64", paths: logPath},
		{name: "record written, not synced", hold: 1000, calls: "fsync,fdatasync", paths: logPath},
		{name: "record synced, not answered", hold: 1000, calls: "write", paths: socketPaths},
	}
}

func globbed(t *testing.T, pattern string) []string {
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no %s: %v", pattern, err)
	}
	return paths
}

func shardPaths(t *testing.T, h *faultHome) []string {
	return globbed(t, filepath.Join(h.dir, "ipfs", "blocks", "[A-Z2-7][A-Z2-7]"))
}

func pinPaths(t *testing.T, h *faultHome) []string {
	return globbed(t, filepath.Join(h.dir, "ipfs", "datastore", "*.log"))
}

func logPath(t *testing.T, h *faultHome) []string {
	return globbed(t, filepath.Join(h.dir, "catalogue.db-wal"))
}

// socketPaths are the sockets of the node, as its open files name them.
func socketPaths(t *testing.T, h *faultHome) (paths []string) {
	for _, link := range globbed(t, fmt.Sprintf("/proc/%d/fd/*", h.node.cmd.Process.Pid)) {
		if name, err := os.Readlink(link); err == nil && filepath.Base(name) == name && name[0] == 's' {
			paths = append(paths, name)
		}
	}
	return paths
}

// kills is one home through all kills, and what its uploaders know.
type kills struct {
	*faultHome
	rand *rand.Rand
	n    int            // kills until now
	seen map[string]int // what restarts found

	mu    sync.Mutex
	sent  map[string]int    // title: size
	acked map[string]string // title: CID
}

// H66: a node that is killed at any point of an add keeps what it acknowledged
// and nothing half-done, and never wrote plaintext (P5).
func TestFaultKills(t *testing.T) {
	t.Parallel()
	h := newFaultHome(t, "MUSEN_LOG_LEVEL=info", "MUSEN_LIMITS_CREDENTIAL=100000", "MUSEN_LIMITS_SUBJECT=100000", "MUSEN_LIMITS_CLIENT=100000")
	t.Logf("seed %d", killSeed)
	k := &kills{faultHome: h, rand: rand.New(rand.NewPCG(killSeed, 0)), seen: map[string]int{}, sent: map[string]int{}, acked: map[string]string{}}
	for k.n < killCount && !t.Failed() {
		for _, step := range killSteps() {
			k.killAt(step)
			k.restart()
		}
		k.killAt(killSteps()[1+k.rand.IntN(7)])
		k.killStart()
		k.restart()
		k.killAt(killStep{name: "garbage", hold: leaves(2), calls: "pwrite64", paths: logPath})
		k.killCollection()
		k.restart()
		k.killAnswered()
		k.restart()
		for range 8 {
			k.killSometime()
			k.restart()
		}
		k.cleanRestart()
	}
	k.checkAll()
	for _, what := range []string{"a key alone", "blocks", "a pin", "a segment that was not acknowledged", "a start that was killed", "a collection that was killed"} {
		if k.seen[what] == 0 {
			t.Errorf("%d kills never left %s", k.n, what)
		}
	}
	t.Logf("%d kills, %d segments acknowledged; left behind: %v", k.n, len(k.acked), k.seen)
}

// upload adds the audio of that title, and notes the answer.
func (k *kills) upload(title string, size int, audio io.Reader) error {
	k.mu.Lock()
	k.sent[title] = size
	k.mu.Unlock()
	added, err := k.admin.Add(k.t.Context(), "jazz", client.Upload{Audio: audio, Size: int64(max(size, smallest)), Title: title})
	if err == nil {
		k.mu.Lock()
		k.acked[title] = added.CID
		k.mu.Unlock()
	}
	return err
}

// killAt kills the node at a step of a single add.
func (k *kills) killAt(step killStep) {
	k.t.Helper()
	k.n++
	title := fmt.Sprintf("%d %s", k.n, step.name)
	size := step.hold + 1000 + k.rand.IntN(2*musen.LeafSize)
	audio := newHeld(audioOf(title, size), step.hold)
	answer := make(chan error, 1)
	go func() { answer <- k.upload(title, size, audio) }()
	select {
	case <-audio.reached:
	case err := <-answer:
		k.t.Fatalf("%s: the upload ended before the kill: %v", title, err)
	}
	if step.calls == "" {
		k.node.cmd.Process.Kill()
	} else {
		defer k.trap(step)()
	}
	close(audio.open)
	if err := <-answer; err == nil {
		k.t.Errorf("%s: acknowledged", title)
	}
	k.wait()
}

// trap makes the node be killed on the calls of a step. The func that it
// returns waits for the tracer to end.
func (k *kills) trap(step killStep) func() {
	k.t.Helper()
	var paths []string
	if step.paths != nil {
		paths = step.paths(k.t, k.faultHome)
	}
	strace := k.inject(step.calls, "signal=KILL:when=1", paths)
	return func() { strace.Wait() } // it ends as the node did
}

// inject gives system calls of the running node another effect, only those on
// the paths if there are any. It returns the tracer that does so.
func (h *faultHome) inject(calls, effect string, paths []string) *exec.Cmd {
	h.t.Helper()
	args := []string{"-f", "-p", strconv.Itoa(h.node.cmd.Process.Pid), "-o", os.DevNull, "-e", "trace=" + calls, "-e", "inject=" + calls + ":" + effect}
	for _, path := range paths {
		args = append(args, "-P", path)
	}
	attached := make(chan struct{})
	cmd := exec.Command("strace", args...)
	cmd.Stderr = &signalWriter{word: " attached", seen: attached}
	if err := cmd.Start(); err != nil {
		h.t.Fatalf("trace the node (Debian: apt-get install strace): %v", err)
	}
	select {
	case <-attached:
	case <-time.After(awaitLimit):
		h.t.Fatal("strace does not attach")
	}
	return cmd
}

// signalWriter closes seen once a word was written.
type signalWriter struct {
	word string
	seen chan struct{}
	text []byte
	done bool
}

func (w *signalWriter) Write(p []byte) (int, error) {
	w.text = append(w.text, p...)
	if !w.done && bytes.Contains(w.text, []byte(w.word)) {
		w.done = true
		close(w.seen)
	}
	return len(p), nil
}

// held is audio that stops at one place until it is opened.
type held struct {
	io.Reader
	reached, open chan struct{}
}

func newHeld(audio []byte, hold int) *held {
	h := &held{reached: make(chan struct{}), open: make(chan struct{})}
	h.Reader = io.MultiReader(bytes.NewReader(audio[:hold]), h.stop(), bytes.NewReader(audio[hold:]))
	return h
}

func (h *held) stop() io.Reader {
	return readerFunc(func([]byte) (int, error) {
		close(h.reached)
		<-h.open
		return 0, io.EOF
	})
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// killAnswered kills the node the moment an add is acknowledged.
func (k *kills) killAnswered() {
	k.t.Helper()
	k.n++
	title := fmt.Sprintf("%d answered", k.n)
	size := k.rand.IntN(3 * musen.LeafSize)
	if err := k.upload(title, size, bytes.NewReader(audioOf(title, size))); err != nil {
		k.t.Fatal(err)
	}
	k.node.cmd.Process.Kill()
	k.wait()
}

// killStart kills the next start while it cleans up.
func (k *kills) killStart() {
	k.t.Helper()
	k.n++
	points := []string{
		"fsync,fdatasync:signal=KILL:when=1", "fsync,fdatasync:signal=KILL:when=2", "pwrite64:signal=KILL:when=2",
		"unlink,unlinkat:signal=KILL:when=1", "unlink,unlinkat:signal=KILL:when=2", "unlink,unlinkat:signal=KILL:when=3",
		"ftruncate:signal=KILL:when=1",
	}
	point := points[k.rand.IntN(len(points))]
	err := k.tryStart(tracer(os.DevNull, "fsync,fdatasync,pwrite64,unlink,unlinkat,ftruncate", "-e", "inject="+point)...)
	if err != nil {
		k.seen["a start that was killed"]++
		return
	}
	k.node.cmd.Process.Kill() // it came through
	k.wait()
}

// killCollection kills the next start while it removes the garbage that the
// last kill left.
func (k *kills) killCollection() {
	k.t.Helper()
	k.n++
	var paths []string
	for _, block := range k.blocks() {
		paths = append(paths, "-P", block)
	}
	point := "unlink,unlinkat:signal=KILL:when=1"
	if err := k.tryStart(tracer(os.DevNull, "unlink,unlinkat", append(paths, "-e", "inject="+point)...)...); err == nil {
		k.t.Fatalf("kill %d: no garbage was collected", k.n)
	}
	k.seen["a collection that was killed"]++
}

// killSometime kills the node at a random moment of many adds at once.
func (k *kills) killSometime() {
	k.t.Helper()
	k.n++
	var wg sync.WaitGroup
	begun := make(chan struct{})
	var once sync.Once
	for u := range uploaders {
		r := rand.New(rand.NewPCG(k.rand.Uint64(), 0))
		wg.Go(func() {
			for i := 0; ; i++ {
				title, size := fmt.Sprintf("%d sometime %d %d", k.n, u, i), r.IntN(1<<uint(r.IntN(20)))
				once.Do(func() { close(begun) })
				if err := k.upload(title, size, bytes.NewReader(audioOf(title, size))); err != nil {
					return
				}
			}
		})
	}
	<-begun
	time.Sleep(time.Duration(k.rand.IntN(120_000)) * time.Microsecond) // any moment will do
	k.node.cmd.Process.Signal(syscall.SIGKILL)
	wg.Wait()
	k.wait()
}

var recoveredLine = regexp.MustCompile(`msg=recovered unfinished=(\d+) orphan_pins=(\d+) repinned=(\d+) blocks=(\d+)`)

// restart starts the node and checks all that a kill may have left.
func (k *kills) restart() {
	k.t.Helper()
	k.start()
	if m := recoveredLine.FindStringSubmatch(k.node.log.String()); m != nil {
		k.note(m[1] != "0" && m[4] == "0", "a key alone")
		k.note(m[4] != "0", "blocks")
		k.note(m[2] != "0", "a pin")
	}
	k.checkRecent()
	if c, err := k.admin.GC(k.t.Context()); err != nil || c.Removed != 0 {
		k.t.Errorf("kill %d: garbage was left: %+v, %v", k.n, c, err)
	}
	if left := len(globOrNone(filepath.Join(k.dir, "ipfs", "blocks", ".temp", "temp-*"))); left > 0 {
		k.t.Errorf("kill %d: %d blocks without a name were left", k.n, left)
	}
	k.holdsNone(map[string]string{"plaintext": marker})
}

func globOrNone(pattern string) []string {
	paths, _ := filepath.Glob(pattern)
	return paths
}

func (k *kills) note(found bool, what string) {
	if found {
		k.seen[what]++
	}
}

// checkRecent checks that every acknowledged segment is there and every other
// that is there is whole, and plays those of the last kill.
func (k *kills) checkRecent() {
	k.t.Helper()
	there := k.segments()
	for title, id := range k.acked {
		if there[title].CID != id {
			k.t.Errorf("kill %d: %s was acknowledged and is gone", k.n, title)
		}
	}
	for title, s := range there {
		size, ok := k.sent[title]
		if !ok {
			k.t.Errorf("kill %d: nobody sent %q", k.n, title)
			continue
		}
		if _, ok := k.acked[title]; !ok {
			k.seen["a segment that was not acknowledged"]++
			k.acked[title] = s.CID // from now on it must stay
		} else if !strings.HasPrefix(title, fmt.Sprintf("%d ", k.n)) {
			continue
		}
		k.plays(s.CID, title, size)
	}
}

// cleanRestart stops and starts the node: then there is nothing to clean up.
func (k *kills) cleanRestart() {
	k.t.Helper()
	k.stop()
	k.start()
	if m := recoveredLine.FindString(k.node.log.String()); m != "" {
		k.t.Errorf("after %d kills and a clean stop something was left: %s", k.n, m)
	}
}

// checkAll plays everything and has every block and chunk checked.
func (k *kills) checkAll() {
	k.t.Helper()
	for title, id := range k.acked {
		k.plays(id, title, k.sent[title])
	}
	checked := 0
	for v, err := range k.admin.Verify(context.Background()) {
		if err != nil || !v.OK {
			k.t.Errorf("verify: %+v, %v", v, err)
		}
		checked++
	}
	if there := len(k.segments()); checked != there || there != len(k.acked) {
		k.t.Errorf("%d segments are there, %d checked, %d acknowledged", there, checked, len(k.acked))
	}
}
