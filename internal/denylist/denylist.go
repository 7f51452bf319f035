// Package denylist reads denylists: files in the IPFS compact denylist format
// (IPIP-383) that say which blocks must not be had. What changes in a file takes
// effect while the node runs, removals too.
//
// Kubo has a reader of such files of its own, which is not used: it notices only
// what is appended to a file that was there when it started, so that a rule that
// was removed stays until a restart, and it tells of a line that it cannot read
// in its log alone.
//
// A rule denies a block by its multihash: whatever CID the block is asked for
// by. Rules for /ipfs/CID/* deny the CID; those for other paths, and for /ipns,
// are passed over, since nothing here resolves a path or a name. A list may name
// a block by a hash of its name (//). The last rule about a block decides, and
// the last list that has one. Hints are not looked at, CRLF ends a line as well
// as LF, and a byte order mark is no part of the first.
//
// No fault in a file lets through what was denied before it. While a line cannot
// be read, what the others deny is denied, and so is all that the file has denied
// since it was last whole. While the file is gone, empty, cannot be read, or has
// a header that is not of version 1, all stays as it was. A fault is told to the
// owner of the List until it is mended. A file that begins with a fault of the
// second kind does not open: then there is nothing that could stay.
//
// The package does not know what the blocks are, who asks for them, or how a
// refusal is answered.
package denylist

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/multiformats/go-multihash"
)

const (
	// lookEvery is how often files are looked at. What changed is read once it
	// has been as it is for that long: who writes a file in pieces is let finish.
	lookEvery = time.Second
	// maxSize is the most bytes that a file may have.
	maxSize = 8 << 30
)

// A Fault is why something in a file is not in force.
type Fault struct {
	Line int    `json:"line"` // 0: the file as a whole
	What string `json:"what"` // is wrong with it
	Text string `json:"text"` // of the line, shortened
}

// String tells the fault in one line.
func (f Fault) String() string {
	if f.Line == 0 {
		return f.What
	}
	return fmt.Sprintf("line %d: %s: %.60q", f.Line, f.What, f.Text)
}

// A State tells how a file is.
type State struct {
	File    string    `json:"file"`
	Rules   int       `json:"rules"`            // in force
	Passed  int       `json:"passed_over"`      // rules that are about nothing that is here
	Loaded  time.Time `json:"loaded,omitzero"`  // when it was last read without a fault; zero: never
	Faults  []Fault   `json:"faults,omitempty"` // of the file as it is; some of them, if there are many
	Faulted int       `json:"fault_count"`      // how many there are
	Failed  time.Time `json:"failing_since,omitzero"`
}

// Warning is what is wrong with the file, in one line; empty: nothing.
func (s State) Warning() string {
	if s.Faulted == 0 {
		return ""
	}
	more := ""
	if s.Faulted > 1 {
		more = fmt.Sprintf(", and %d more", s.Faulted-1)
	}
	return fmt.Sprintf("the denylist %s has faults since %s, and what it denied stays denied: %s%s",
		s.File, s.Failed.UTC().Format(time.RFC3339), s.Faults[0], more)
}

// A Rule is a line that is about a block.
type Rule struct {
	File string `json:"file"`
	Line int    `json:"line"` // when the file was last read
}

// String is the rule as editors name a line.
func (r Rule) String() string { return fmt.Sprintf("%s:%d", r.File, r.Line) }

// Options are the parts of a List. All are required, but for Tell and Read.
type Options struct {
	Files []string // of rules for the same block, those in the last one count
	Now   func() time.Time
	Log   *slog.Logger
	// Tell is told of a file that has faults, when they change. nil: the log
	// alone is.
	Tell func(State)
	// Read is told of a file that changed and was read, with faults or without:
	// how it was before, and how it is. nil: the log alone is.
	Read func(before, after State)
}

// A List is what files deny. It is safe for concurrent use.
type List struct {
	o     Options
	files []*file

	reading sync.Mutex // one at a time reads files
}

// file is one file, as far as it is in force.
type file struct {
	path  string
	table atomic.Pointer[table]

	mu    sync.Mutex
	state State

	// Of whoever reads the file.
	stamp stamp // of what was last read
	told  State // what Tell was last told
}

// A stamp tells a file from the one that replaced it.
type stamp struct {
	info os.FileInfo // nil: there is none
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{info}
}

func (s stamp) same(other stamp) bool {
	if s.info == nil || other.info == nil {
		return s.info == nil && other.info == nil
	}
	return os.SameFile(s.info, other.info) && s.info.Size() == other.info.Size() && s.info.ModTime().Equal(other.info.ModTime()) && s.info.Mode() == other.info.Mode()
}

// Open reads the files. Lines that cannot be read are no error: State tells of
// them.
func Open(o Options) (*List, error) {
	l := &List{o: o}
	for _, path := range o.Files {
		f := &file{path: path, state: State{File: path}}
		f.table.Store(&table{})
		if err := f.read(o.Now()); err != nil {
			return nil, fmt.Errorf("read the denylist %s: %w", path, err)
		}
		l.files = append(l.files, f)
	}
	return l, nil
}

// Denied reports whether a block is denied.
func (l *List) Denied(mh multihash.Multihash) bool {
	_, denied := l.Why(mh)
	return denied
}

// Why returns the rule that decides about a block, if there is one, and whether
// that denies it.
func (l *List) Why(mh multihash.Multihash) (r Rule, denied bool) {
	for i := len(l.files) - 1; i >= 0; i-- {
		f := l.files[i]
		if e, found := f.table.Load().find(mh); found {
			return Rule{f.path, e.line()}, !e.allows()
		}
	}
	return Rule{}, false
}

// State tells how the files are.
func (l *List) State() []State {
	all := make([]State, len(l.files))
	for i, f := range l.files {
		all[i] = f.now()
	}
	return all
}

func (f *file) now() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.state
	s.Rules = len(f.table.Load().entries)
	return s
}

// Reload reads the files that are not as they were when they were last read.
func (l *List) Reload() {
	l.reading.Lock()
	defer l.reading.Unlock()
	for _, f := range l.files {
		if !f.stamp.same(stampOf(f.path)) {
			l.reload(f)
		}
	}
	l.tell()
}

func (l *List) reload(f *file) {
	before := f.now()
	err := f.read(l.o.Now())
	after := f.now()
	if err == nil && l.o.Read != nil {
		l.o.Read(before, after)
	}
	if err == nil && after.Faulted == 0 {
		l.o.Log.Info("denylist read", "file", f.path, "rules", after.Rules, "before", before.Rules)
	}
}

// tell tells of faults that were not told of.
func (l *List) tell() {
	for _, f := range l.files {
		s := f.now()
		if s.Faulted == f.told.Faulted && (s.Faulted == 0 || s.Faults[0] == f.told.Faults[0]) {
			continue
		}
		f.told = s
		if s.Faulted == 0 {
			continue
		}
		l.o.Log.Error("denylist has faults; what it denied stays denied", "file", s.File, "faults", s.Faulted, "first", s.Faults[0].String())
		if l.o.Tell != nil {
			l.o.Tell(s)
		}
	}
}

// Watch reads files that change until ctx ends, and tells of faults, those that
// are there from the start among them. A look at a file costs next to nothing,
// and shows what a watch of its folder does not: what changes behind a link or a
// mount.
func (l *List) Watch(ctx context.Context) {
	l.Reload()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	seen := make([]stamp, len(l.files))
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		l.look(seen)
	}
}

// look reads the files that changed, and have not changed since the look before.
func (l *List) look(seen []stamp) {
	l.reading.Lock()
	defer l.reading.Unlock()
	for i, f := range l.files {
		now := stampOf(f.path)
		if !f.stamp.same(now) && seen[i].same(now) {
			l.reload(f)
		}
		seen[i] = now
	}
	l.tell()
}

// errEmpty is what a file is that somebody has begun to write.
var errEmpty = errors.New("it is empty: to deny nothing, leave a comment in it")

// read reads the file. An error says that nothing of it is in force, and is a
// fault of the state too.
func (f *file) read(at time.Time) error {
	p, stamp, err := readFile(f.path)
	f.stamp = stamp
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.stamp.info = nil // it may be the disk that is at fault: it is read again until it can be
		f.fail(at, 1, []Fault{{What: reason(err)}})
		return err
	}
	t := p.table
	if p.faulted > 0 {
		t = f.table.Load().with(t)
		f.fail(at, p.faulted, p.faults)
	} else {
		f.state.Loaded, f.state.Failed, f.state.Faults, f.state.Faulted = at, time.Time{}, nil, 0
	}
	f.state.Passed = t.passed
	f.table.Store(t)
	return nil
}

func (f *file) fail(at time.Time, count int, faults []Fault) {
	if f.state.Faulted == 0 {
		f.state.Failed = at
	}
	f.state.Faults, f.state.Faulted = faults, count
}

// reason is an error without the path, which whoever reads it knows.
func reason(err error) string {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Op + ": " + path.Err.Error()
	}
	return err.Error()
}

// readFile reads the rules of a file, which must be one: a pipe would be waited
// for. What changes in it meanwhile has another stamp.
func readFile(path string) (*parser, stamp, error) {
	r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, stamp{}, err
	}
	defer r.Close()
	info, err := r.Stat()
	switch {
	case err != nil:
		return nil, stamp{}, err
	case !info.Mode().IsRegular() || info.Size() > maxSize:
		return nil, stamp{info}, fmt.Errorf("it is not a file of at most %d GiB", maxSize>>30)
	case info.Size() == 0:
		return nil, stamp{info}, errEmpty
	}
	p, err := parse(io.LimitReader(r, maxSize), info.Size())
	return p, stamp{info}, err
}
