// Package folder keeps an engine decided by the Cedar policies that lie in a
// folder, or in one file: it reads them, watches them, and loads what changed
// if it validates. What does not validate is refused, and the last good set
// stays in force.
//
// It does not know what policies say, who asks, or how a decision is made.
package folder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/musenai/musen/policy"
)

// maxSize bounds all policies together, in bytes.
const maxSize = 1 << 20

// settle is how long nothing must change before what changed is read: who
// writes several files, or one in pieces, is let finish.
const settle = 200 * time.Millisecond

// A Place is where policies lie.
type Place struct {
	Dir  string // every *.cedar in it, by name, but hidden ones; may be missing
	File string // this file in place of Dir; empty: Dir
}

// Read reads the policies. None at all, where there is no folder or none in it,
// is no error: the built-in ones then apply. They are not checked.
func (p Place) Read() ([]policy.File, error) {
	paths, roof := []string{p.File}, filepath.Dir(p.File)
	if p.File == "" {
		var err error
		if paths, err = list(p.Dir); err != nil {
			return nil, fmt.Errorf("read policies: %w", err)
		}
		roof = filepath.Dir(p.Dir)
	}
	var files []policy.File
	size := 0
	for _, path := range paths {
		text, err := read(path)
		if err != nil {
			return nil, fmt.Errorf("read policies: %w", err)
		}
		if size += len(text); size > maxSize {
			return nil, fmt.Errorf("read policies: %s: with it they have more than %d bytes", path, maxSize)
		}
		name, err := filepath.Rel(roof, path) // errors are told to others too
		if err != nil {
			return nil, fmt.Errorf("read policies: %w", err)
		}
		files = append(files, policy.File{Name: name, Text: text})
	}
	return files, nil
}

func list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".cedar") && !strings.HasPrefix(name, ".") {
			paths = append(paths, filepath.Join(dir, name))
		}
	}
	return paths, nil
}

// read reads a file, which must be one: a pipe would be waited for.
func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxSize {
		return nil, fmt.Errorf("%s is not a file of at most %d bytes", path, maxSize)
	}
	return os.ReadFile(path)
}

// watched is the folder to watch.
func (p Place) watched() string {
	if p.File != "" {
		return filepath.Dir(p.File)
	}
	return p.Dir
}

// An Engine is what decides by policies; *policy.Engine is one.
type Engine interface {
	Load(files []policy.File) error
	Policies() []policy.File
	Forbids() []string // ids of the policies that forbid
}

var _ Engine = (*policy.Engine)(nil)

// Options are the parts of a Folder. All but Changed are required.
type Options struct {
	Place  Place
	Engine Engine // decides by what lies at Place already
	Now    func() time.Time
	Log    *slog.Logger
	// Changed is told when policies were loaded, or refused that were not refused
	// before.
	Changed func(State)
}

// A State tells which policies are in force.
type State struct {
	Files  []string  // their names; of the built-in ones, default.cedar
	Digest string    // SHA-256 of them all, in hexadecimal
	Loaded time.Time // when they were
	Fault  string    // why what lies there now is not in force; empty: it is
	Failed time.Time // since when Fault

	// What was in force, and was taken away since the start, or since it was
	// acknowledged: names of files, and ids of policies that forbid. Of the
	// built-in policies nothing is.
	LostFiles, LostForbids []string
}

// A Folder loads policies. It is safe for concurrent use.
type Folder struct {
	o  Options
	mu sync.Mutex
	st State
	// had is what State.Lost is reckoned from.
	had struct{ files, forbids []string }
}

// New makes a Folder of an engine that has loaded its policies.
func New(o Options) *Folder {
	f := &Folder{o: o}
	f.st = inForce(o.Engine.Policies(), o.Now())
	if f.st.Digest != digest(builtIn()) {
		f.had.files, f.had.forbids = f.st.Files, o.Engine.Forbids()
	}
	return f
}

func inForce(files []policy.File, at time.Time) State {
	st := State{Digest: digest(files), Loaded: at}
	for _, file := range files {
		st.Files = append(st.Files, filepath.Base(file.Name))
	}
	return st
}

// builtIn are the policies that are in force where none lie.
func builtIn() []policy.File {
	return []policy.File{{Name: "default.cedar", Text: policy.DefaultPolicies()}}
}

func digest(files []policy.File) string {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%q %d\n", filepath.Base(f.Name), len(f.Text))
		h.Write(f.Text)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// State tells which policies are in force.
func (f *Folder) State() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := f.st
	st.Files, st.LostFiles, st.LostForbids = slices.Clone(st.Files), slices.Clone(st.LostFiles), slices.Clone(st.LostForbids)
	return st
}

// errEmptied refuses to go back to the built-in policies by accident.
var errEmptied = errors.New("no policies lie there any more: put some there, or restart the node to decide by the built-in ones")

// ErrChanged says that other policies lie there than those that were meant.
var ErrChanged = errors.New("other policies lie there by now")

// Next tells the files and the digest of the policies that lie there. They may
// not validate.
func (f *Folder) Next() (State, error) {
	files, err := f.o.Place.Read()
	if err != nil {
		return State{}, err
	}
	return inForce(orBuiltIn(files), time.Time{}), nil
}

// orBuiltIn is files, or the built-in policies if there are none.
func orBuiltIn(files []policy.File) []policy.File {
	if len(files) == 0 {
		return builtIn()
	}
	return files
}

// Reload reads the policies and loads them if they changed and validate. The
// error says why those that lie there are not in force.
func (f *Folder) Reload() error {
	return f.reload(func([]policy.File) error { return nil })
}

// ReloadOnly is Reload, but returns ErrChanged and loads nothing if the policies
// that lie there do not have that digest. If these were in force before, that
// acknowledges what was lost.
func (f *Folder) ReloadOnly(want string) error {
	before := f.State().Digest
	err := f.reload(func(files []policy.File) error {
		if digest(orBuiltIn(files)) != want {
			return ErrChanged
		}
		return nil
	})
	if err == nil && before == want {
		f.acknowledge()
	}
	return err
}

// reload loads the policies that lie there, if they are acceptable.
func (f *Folder) reload(acceptable func([]policy.File) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	files, err := f.o.Place.Read()
	if err == nil {
		if err := acceptable(files); err != nil {
			return err
		}
		err = f.load(files)
	}
	if err == nil {
		if f.st.Fault != "" {
			f.o.Log.Info("policies in force lie there again", "in_force", f.st.Digest)
		}
		f.st.Fault, f.st.Failed = "", time.Time{}
		return nil
	}
	if f.st.Fault != err.Error() {
		f.st.Fault, f.st.Failed = err.Error(), f.o.Now()
		f.o.Log.Error("policies refused; those in force stay", "err", err, "in_force", f.st.Digest)
		f.tell(f.st)
	}
	return err
}

func (f *Folder) load(files []policy.File) error {
	emptied := len(files) == 0
	files = orBuiltIn(files)
	next := inForce(files, f.o.Now())
	if next.Digest == f.st.Digest {
		return nil
	}
	if emptied {
		return errEmptied
	}
	if err := f.o.Engine.Load(files); err != nil {
		return err
	}
	f.o.Log.Info("policies loaded", "files", next.Files, "in_force", next.Digest, "before", f.st.Digest)
	f.st = next
	f.compare()
	f.tell(f.st)
	return nil
}

func (f *Folder) tell(st State) {
	if f.o.Changed != nil {
		f.o.Changed(st)
	}
}

// compare notes what is in force, and tells what no longer is.
func (f *Folder) compare() {
	forbids := f.o.Engine.Forbids()
	f.had.files, f.st.LostFiles = union(f.had.files, f.st.Files)
	f.had.forbids, f.st.LostForbids = union(f.had.forbids, forbids)
	if len(f.st.LostFiles)+len(f.st.LostForbids) > 0 {
		f.o.Log.Warn("policies that were in force are gone", "files", f.st.LostFiles, "forbids", f.st.LostForbids, "in_force", f.st.Digest)
	}
}

// union is what is in had or in has, and what of it is not in has.
func union(had, has []string) (all, lost []string) {
	for _, v := range had {
		if !slices.Contains(has, v) {
			lost = append(lost, v)
		}
	}
	return slices.Sorted(slices.Values(slices.Concat(has, lost))), lost
}

// acknowledge says that what was lost is meant to be gone.
func (f *Folder) acknowledge() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.had.files, f.had.forbids = slices.Clone(f.st.Files), f.o.Engine.Forbids()
	f.st.LostFiles, f.st.LostForbids = nil, nil
}

// Watch reloads whenever something changes where the policies lie, until ctx
// ends. It makes the folder if it is missing; one that goes away later is
// noticed when it is back.
func (f *Folder) Watch(ctx context.Context) error {
	dir := f.o.Place.watched()
	if f.o.Place.File == "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("watch policies: %w", err)
		}
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch policies: %w", err)
	}
	defer w.Close()
	if err := w.Add(dir); err != nil {
		return fmt.Errorf("watch policies in %s: %w", dir, err)
	}
	seen := f.o.Place.glance()
	_ = f.Reload() // what changed before there was a watch; it tells by itself
	return f.follow(ctx, w, seen)
}

func (f *Folder) follow(ctx context.Context, w *fsnotify.Watcher, seen []entry) error {
	quiet := time.NewTimer(time.Hour)
	quiet.Stop()
	defer quiet.Stop()
	tick := time.NewTicker(glanceEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if now := f.o.Place.glance(); !slices.EqualFunc(seen, now, entry.same) {
				seen = now
				quiet.Reset(settle)
			}
		case <-w.Events:
			quiet.Reset(settle)
		case err := <-w.Errors: // events were lost: read what is there
			f.o.Log.Warn("watch policies", "err", err)
			quiet.Reset(settle)
		case <-quiet.C:
			_ = w.Add(f.o.Place.watched()) // another folder may have taken its place
			_ = f.Reload()                 // it tells by itself
		}
	}
}
