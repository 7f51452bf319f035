package folder_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musenai/musen/policy"
	"github.com/musenai/musen/policy/folder"
)

const (
	open    = `@id("open") permit (principal, action, resource);`
	closed  = `@id("closed") forbid (principal, action, resource);`
	invalid = `@id("open") permit (principal, action == Action::"fly", resource);`
)

// home is a folder with policies, and the engine that decides by them.
type home struct {
	told   []bool // of each load, whether it was refused
	t      *testing.T
	dir    string
	engine *policy.Engine
	folder *folder.Folder
	log    *lines
}

// lines are what was logged, one event each.
type lines struct {
	mu    sync.Mutex
	text  bytes.Buffer
	event chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	select {
	case l.event <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await waits until something was logged that has words in it.
func (l *lines) await(t *testing.T, words string) {
	t.Helper()
	l.awaitTimes(t, words, 1)
}

func (l *lines) awaitTimes(t *testing.T, words string, n int) {
	t.Helper()
	deadline := time.After(time.Minute)
	for strings.Count(l.String(), words) < n {
		select {
		case <-l.event:
		case <-deadline:
			t.Fatalf("nothing with %q was logged:\n%s", words, l)
		}
	}
}

func newHome(t *testing.T, files map[string]string) *home {
	t.Helper()
	h := &home{t: t, dir: filepath.Join(t.TempDir(), "policy"), log: &lines{event: make(chan struct{}, 1)}}
	if files != nil {
		must(t, os.Mkdir(h.dir, 0o700))
	}
	for name, text := range files {
		h.write(name, text)
	}
	place := folder.Place{Dir: h.dir}
	read, err := place.Read()
	must(t, err)
	h.engine, err = policy.NewEngine(policy.EngineOptions{Files: read, Now: time.Now})
	must(t, err)
	log := slog.New(slog.NewTextHandler(h.log, nil))
	h.folder = folder.New(folder.Options{Place: place, Engine: h.engine, Now: time.Now, Log: log, Changed: func(st folder.State) {
		h.told = append(h.told, st.Fault != "")
	}})
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// write puts a file in its place whole.
func (h *home) write(name, text string) {
	h.t.Helper()
	draft := filepath.Join(h.t.TempDir(), "draft")
	must(h.t, os.WriteFile(draft, []byte(text), 0o600))
	must(h.t, os.Rename(draft, filepath.Join(h.dir, name)))
}

// allows reports whether the operator may hear something by the policies in
// force.
func (h *home) allows() bool {
	return h.engine.Decide(policy.LocalOperator(), policy.Listen, policy.Resource{Station: "jazz"}).Allowed()
}

// P64: what validates takes effect, what does not changes nothing and is told
// with its file and line.
func TestReload(t *testing.T) {
	h := newHome(t, map[string]string{"a.cedar": open, "notes.txt": "permit everything", ".b.cedar": invalid})
	if st := h.folder.State(); len(st.Files) != 1 || st.Files[0] != "a.cedar" || st.Fault != "" || len(st.Digest) != 64 {
		t.Errorf("state %+v", st)
	}
	before := h.folder.State().Digest
	h.write("b.cedar", closed)
	must(t, h.folder.Reload())
	if h.allows() {
		t.Error("a forbid that was added does not bite")
	}
	good := h.folder.State()
	if good.Digest == before || len(good.Files) != 2 {
		t.Errorf("state %+v", good)
	}
	h.write("b.cedar", "\n"+invalid)
	err := h.folder.Reload()
	if err == nil || !strings.Contains(err.Error(), "policy/b.cedar:2") {
		t.Errorf("what does not validate: %v", err)
	}
	if strings.Contains(err.Error(), h.dir) {
		t.Errorf("the error tells where the home is: %v", err)
	}
	st := h.folder.State()
	if h.allows() || st.Fault != err.Error() || st.Digest != good.Digest || st.Failed.IsZero() {
		t.Errorf("after it: %+v", st)
	}
	h.log.await(t, "policies refused")
	must(t, os.Remove(filepath.Join(h.dir, "b.cedar")))
	must(t, h.folder.Reload())
	if st := h.folder.State(); !h.allows() || st.Fault != "" || st.Digest != before {
		t.Errorf("without it: %+v", st)
	}
	if !slices.Equal(h.told, []bool{false, true, false}) {
		t.Errorf("told of loads and refusals: %v", h.told)
	}
}

// P64: what was in force and is taken away by a file that goes, or is written
// anew, is told until somebody says that it is meant, or it is back.
func TestLostPolicies(t *testing.T) {
	const night = `@id("night") forbid (principal, action, resource) when { context.hour > 20 };`
	h := newHome(t, map[string]string{"a.cedar": open, "b.cedar": night + closed, "c.cedar": `@id("c") permit (principal, action, resource);`})
	lost := func(files, forbids string) {
		t.Helper()
		must(t, h.folder.Reload())
		st := h.folder.State()
		if strings.Join(st.LostFiles, " ") != files || strings.Join(st.LostForbids, " ") != forbids || st.Fault != "" {
			t.Errorf("files %q, forbids %q: %+v", files, forbids, st)
		}
	}
	lost("", "")
	must(t, os.Remove(filepath.Join(h.dir, "c.cedar")))
	lost("c.cedar", "")
	if err := h.folder.ReloadOnly(h.folder.State().Digest); err != nil {
		t.Error(err)
	}
	lost("", "")
	h.write("b.cedar", night)
	lost("", "closed")
	must(t, os.Remove(filepath.Join(h.dir, "b.cedar")))
	lost("b.cedar", "closed night")
	h.log.await(t, `level=WARN msg="policies that were in force are gone" files=[b.cedar] forbids="[closed night]"`)
	h.write("b.cedar", night)
	lost("", "closed")
	h.write("z.cedar", closed)
	lost("", "")
	fresh := newHome(t, map[string]string{})
	fresh.write("a.cedar", open) // in place of the built-in ones
	must(t, fresh.folder.Reload())
	if st := fresh.folder.State(); len(st.LostFiles)+len(st.LostForbids) > 0 {
		t.Errorf("the built-in policies are told to be lost: %+v", st)
	}
}

// Nobody falls back to the built-in policies by losing files.
func TestEmptiedFolder(t *testing.T) {
	h := newHome(t, map[string]string{"a.cedar": closed})
	must(t, os.RemoveAll(h.dir))
	if err := h.folder.Reload(); err == nil || h.allows() {
		t.Errorf("an emptied folder: %v", err)
	}
	fresh := newHome(t, nil)
	if must(t, fresh.folder.Reload()); !fresh.allows() || fresh.folder.State().Files[0] != "default.cedar" {
		t.Errorf("a home without policies: %+v", fresh.folder.State())
	}
}

// P64: the node notices by itself what changed, also in a folder that was not
// there when it started.
func TestWatch(t *testing.T) {
	for name, files := range map[string]map[string]string{"own": {"a.cedar": open}, "none": nil} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t, files)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- h.folder.Watch(ctx) }()
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
				if _, err := os.Stat(h.dir); err == nil {
					break
				} else if time.Now().After(deadline) {
					t.Fatal("no folder was made")
				}
			}
			h.write("z.cedar", closed)
			h.log.await(t, "policies loaded")
			if h.allows() {
				t.Error("the new file does not bite")
			}
			h.write("z.cedar", invalid)
			h.log.await(t, "policies refused")
			if h.allows() {
				t.Error("a file that does not validate changed something")
			}
			cancel()
			must(t, <-done)
		})
	}
}

// P64: a folder that goes away and comes back, itself or another in its place,
// is noticed, and so is what changes in it afterwards.
func TestWatchOutlivesTheFolder(t *testing.T) {
	for name, back := range map[string]func(h *home, away string){
		"moved": func(h *home, away string) { must(h.t, os.Rename(away, h.dir)) },
		"another": func(h *home, _ string) {
			must(h.t, os.Mkdir(h.dir, 0o700))
			h.write("a.cedar", open)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t, map[string]string{"a.cedar": open})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- h.folder.Watch(ctx) }()
			away := h.dir + ".away"
			h.write("b.cedar", closed)
			h.log.await(t, "policies loaded")
			must(t, os.Remove(filepath.Join(h.dir, "b.cedar")))
			h.log.awaitTimes(t, "policies loaded", 2)
			must(t, os.Rename(h.dir, away))
			h.log.await(t, "policies refused") // by now the watch is gone too
			back(h, away)
			h.log.await(t, "policies in force lie there again")
			if st := h.folder.State(); st.Fault != "" {
				t.Errorf("the fault stays: %+v", st)
			}
			h.write("z.cedar", closed)
			h.log.awaitTimes(t, "policies loaded", 3)
			if h.allows() {
				t.Error("a file written after that does not bite")
			}
			cancel()
			must(t, <-done)
		})
	}
}

// One file in place of the folder; and what is no file.
func TestPlace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "one.cedar")
	must(t, os.WriteFile(path, []byte(open), 0o600))
	files, err := folder.Place{Dir: filepath.Join(dir, "none"), File: path}.Read()
	if err != nil || len(files) != 1 || string(files[0].Text) != open {
		t.Errorf("%v, %v", files, err)
	}
	if _, err := (folder.Place{File: filepath.Join(dir, "absent.cedar")}).Read(); err == nil {
		t.Error("a file that is not there was read")
	}
	must(t, os.Mkdir(filepath.Join(dir, "dir.cedar"), 0o700))
	if _, err := (folder.Place{Dir: dir}).Read(); err == nil {
		t.Error("a folder was read as a file")
	}
	must(t, os.Remove(filepath.Join(dir, "dir.cedar")))
	must(t, os.WriteFile(filepath.Join(dir, "big.cedar"), make([]byte, 1<<20), 0o600))
	if _, err := (folder.Place{Dir: dir}).Read(); err == nil {
		t.Error("more than 1 MiB was read")
	}
}

// P64: what was looked at is loaded, and nothing else that came in its place.
func TestReloadOnlyWhatWasMeant(t *testing.T) {
	h := newHome(t, map[string]string{"a.cedar": open})
	h.write("a.cedar", closed)
	next, err := h.folder.Next()
	must(t, err)
	if next.Digest == h.folder.State().Digest || !slices.Equal(next.Files, []string{"a.cedar"}) {
		t.Errorf("%+v", next)
	}
	h.write("b.cedar", `@id("more") permit (principal, action, resource);`)
	if err := h.folder.ReloadOnly(next.Digest); !errors.Is(err, folder.ErrChanged) || !h.allows() {
		t.Errorf("loaded what was not meant: %v", err)
	}
	if next, err = h.folder.Next(); err != nil || len(next.Files) != 2 {
		t.Errorf("%+v, %v", next, err)
	}
	if err := h.folder.ReloadOnly(next.Digest); err != nil || h.allows() || h.folder.State().Digest != next.Digest {
		t.Errorf("not loaded: %v", err)
	}
}
