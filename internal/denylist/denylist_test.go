package denylist

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/mr-tron/base58"
	"github.com/multiformats/go-multihash"
)

// desk is a List with its files.
type desk struct {
	t    *testing.T
	dir  string
	list *List

	mu   sync.Mutex
	told []State
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newDesk opens a List of files that hold these texts.
func newDesk(t *testing.T, texts ...string) *desk {
	t.Helper()
	d := &desk{t: t, dir: t.TempDir()}
	var files []string
	for i, text := range texts {
		name := string(rune('a'+i)) + ".deny"
		d.write(name, text)
		files = append(files, filepath.Join(d.dir, name))
	}
	var err error
	d.list, err = Open(Options{Files: files, Now: time.Now, Log: slog.New(slog.DiscardHandler), Tell: func(s State) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.told = append(d.told, s)
	}})
	must(t, err)
	return d
}

// write puts a file in its place whole.
func (d *desk) write(name, text string) {
	d.t.Helper()
	draft := filepath.Join(d.t.TempDir(), "draft")
	must(d.t, os.WriteFile(draft, []byte(text), 0o600))
	must(d.t, os.Rename(draft, filepath.Join(d.dir, name)))
}

func (d *desk) expect(when string, denied bool, cids ...cid.Cid) {
	d.t.Helper()
	for _, c := range cids {
		if d.list.Denied(c.Hash()) != denied {
			d.t.Errorf("%s: %s denied %v", when, c, !denied)
		}
	}
}

func (d *desk) faults(when string, n, told int) State {
	d.t.Helper()
	s := d.list.State()[0]
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.Faulted != n || len(d.told) != told || s.Failed.IsZero() != (n == 0) {
		d.t.Errorf("%s: %+v, told %d times", when, s, len(d.told))
	}
	return s
}

func rules(cids ...cid.Cid) string {
	var b strings.Builder
	for _, c := range cids {
		b.WriteString("/ipfs/" + c.String() + "\n")
	}
	return b.String()
}

// H52, P104: what changes in a file takes effect without a restart, and nothing
// that was denied is let through by a fault, which is told once.
func TestLastGoodListStays(t *testing.T) {
	a, b, c := block("a"), block("b"), block("c")
	d := newDesk(t, rules(a, b))
	path := filepath.Join(d.dir, "a.deny")
	d.expect("at first", true, a, b)
	d.expect("at first", false, c)

	d.write("a.deny", rules(a, c))
	d.list.Reload()
	d.expect("a line removed, one added", true, a, c)
	d.expect("a line removed, one added", false, b)
	d.faults("a line removed, one added", 0, 0)

	d.write("a.deny", rules(b)+"nonsense\n!"+rules(c))
	d.list.Reload()
	d.list.Reload()
	d.expect("a malformed line", true, a, b, c)
	if s := d.faults("a malformed line", 1, 1); s.Faults[0].Line != 2 || s.Faults[0].Text != "nonsense" || s.File != path || s.Rules != 3 {
		t.Errorf("%+v", s)
	}
	d.write("a.deny", "nonsense\n") // cut short, say
	d.list.Reload()
	d.expect("another malformed line", true, a, b, c)

	for what, spoil := range map[string]func(){
		"deleted":    func() { must(t, os.Remove(path)) },
		"empty":      func() { d.write("a.deny", "") },
		"a folder":   func() { must(t, os.Remove(path)); must(t, os.Mkdir(path, 0o700)) },
		"version 2":  func() { d.write("a.deny", "version: 2\n---\n"+rules(a)) },
		"a pipe":     func() { must(t, os.Remove(path)); must(t, syscall.Mkfifo(path, 0o600)) },
		"no header":  func() { d.write("a.deny", ": :\n---\n") },
		"unreadable": func() { must(t, os.Remove(path)); must(t, os.Symlink(path, path)) },
	} {
		d.write("a.deny", rules(a, b, c))
		d.list.Reload()
		told := len(d.told)
		d.faults("mended", 0, told)
		spoil()
		d.list.Reload()
		d.expect(what, true, a, b, c)
		d.list.Reload() // it is read again, and not told again
		if s := d.faults(what, 1, told+1); s.Faults[0].Line != 0 || strings.Contains(s.Faults[0].String(), d.dir) {
			t.Errorf("%s: %+v", what, s)
		}
		must(t, os.RemoveAll(path))
	}
	d.write("a.deny", "# nothing\n")
	d.list.Reload()
	d.expect("nothing is denied any more", false, a, b, c)
	if s := d.faults("nothing is denied any more", 0, len(d.told)); s.Rules != 0 || s.Loaded.IsZero() {
		t.Errorf("%+v", s)
	}
}

// A faulty reading takes no denial back, in whatever order the keys are.
func TestFaultsOnlyAdd(t *testing.T) {
	var all []cid.Cid
	for i := range 200 {
		all = append(all, block(string(rune('a'+i))))
	}
	for split := range 200 {
		was := parsed(t, rules(all[:split]...)+"!"+rules(all[split])).table
		fresh := parsed(t, "x\n!"+rules(all[0])+rules(all[split:]...)).table
		both := &parser{table: was.with(fresh)}
		for i, c := range all {
			if !both.denies(c) {
				t.Fatalf("split %d: %d is not denied", split, i)
			}
		}
		if len(both.table.entries) != len(all) {
			t.Fatalf("split %d: %d entries", split, len(both.table.entries))
		}
	}
}

// H52: that holds also where a block and a hash of its name are named, and lines
// have moved.
func TestFaultsOnlyAddUnderAnyName(t *testing.T) {
	c := block("a")
	direct := rules(c)
	sum := sha256.Sum256([]byte(base58.Encode(c.Hash())))
	mh, err := multihash.Encode(sum[:], multihash.SHA2_256)
	must(t, err)
	hashed := "//" + base58.Encode(mh) + "\n"
	for what, text := range map[string][2]string{
		"denied before": {"#\n!" + hashed + direct, direct + "!" + hashed + "nonsense\n"},
		"denied now":    {"#\n#\n!" + direct, hashed + "nonsense\n"},
	} {
		both := &parser{table: parsed(t, text[0]).table.with(parsed(t, text[1]).table)}
		if !both.denies(c) {
			t.Errorf("%s: it is allowed while the file has a fault", what)
		}
		if e, _ := both.table.find(c.Hash()); e.line() != 1 {
			t.Errorf("%s: by line %d", what, e.line())
		}
	}
}

// The last list that has a rule about a block decides, and says where.
func TestSeveralLists(t *testing.T) {
	a, b := block("a"), block("b")
	d := newDesk(t, rules(a, b), "# exceptions\n!"+rules(b))
	d.expect("denied by the first alone", true, a)
	d.expect("allowed by the second", false, b)
	r, denied := d.list.Why(a.Hash())
	if !denied || filepath.Base(r.File) != "a.deny" || r.Line != 1 {
		t.Errorf("%+v, %v", r, denied)
	}
	if r, denied = d.list.Why(b.Hash()); denied || filepath.Base(r.File) != "b.deny" || r.Line != 2 {
		t.Errorf("%+v, %v", r, denied)
	}
	if r, denied = d.list.Why(block("c").Hash()); denied || r != (Rule{}) {
		t.Errorf("%+v, %v", r, denied)
	}
}

// A list that is not there at the start is not taken for one that denies
// nothing.
func TestOpenNeedsTheFiles(t *testing.T) {
	for what, text := range map[string]string{"empty": "", "of another version": "version: 7\n---\n"} {
		path := filepath.Join(t.TempDir(), "x.deny")
		must(t, os.WriteFile(path, []byte(text), 0o600))
		if _, err := Open(Options{Files: []string{path}, Now: time.Now}); err == nil {
			t.Errorf("a file that is %s opens", what)
		}
	}
	if _, err := Open(Options{Files: []string{filepath.Join(t.TempDir(), "none.deny")}, Now: time.Now}); err == nil {
		t.Error("a file that is not there opens")
	}
}

// H52: a file that changes is read once it has come to rest; faults that are
// there from the start are told too.
func TestWatch(t *testing.T) {
	a, b := block("a"), block("b")
	d := newDesk(t, rules(a)+"x\n")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); d.list.Watch(ctx) }()
		synctest.Wait()
		d.faults("at the start", 1, 1)
		d.write("a.deny", rules(b))
		time.Sleep(lookEvery + 1)
		synctest.Wait()
		d.expect("just changed", true, a)
		time.Sleep(lookEvery)
		synctest.Wait()
		d.expect("at rest", true, b)
		d.expect("at rest", false, a)
		d.faults("at rest", 0, 1)
		cancel()
		<-ended
	})
}
