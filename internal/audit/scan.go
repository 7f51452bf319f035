package audit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	fileDigits = 20 // as many as the largest number has
	fileSuffix = ".jsonl"
	// maxGap is more records than any log lacks: what claims to come after so
	// many more was not written by one, and must not say how the log goes on.
	maxGap = 1 << 32
)

// fileName is the name of the file whose first record has that number.
func fileName(seq uint64) string { return fmt.Sprintf("%0*d%s", fileDigits, seq, fileSuffix) }

// firstOf is the number of the first record of a file of that name.
func firstOf(name string) (seq uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, fileSuffix)
	if !ok || len(digits) != fileDigits {
		return 0, false
	}
	seq, err := strconv.ParseUint(digits, 10, 64)
	return seq, err == nil && seq > 0
}

// files are the names of the files of a log, in order. What else is in the
// folder is not looked at, nor what is numbered as no log is.
func files(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	last := uint64(0)
	for _, e := range entries {
		if first, ok := firstOf(e.Name()); ok && first-last <= maxGap {
			names, last = append(names, e.Name()), first
		}
	}
	return names, err
}

// openFile opens a file of a log to read. A link or a pipe is none.
func openFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// firstTime is when the first record in a file was made; zero if that cannot be
// read.
func firstTime(path string) time.Time {
	f, err := openFile(path)
	if err != nil {
		return time.Time{}
	}
	defer f.Close()
	b, err := bufio.NewReaderSize(f, maxLine).ReadSlice('\n')
	if err != nil {
		return time.Time{}
	}
	l, _, err := decode(bytes.TrimSuffix(b, []byte{'\n'}))
	if err != nil {
		return time.Time{}
	}
	return l.Time
}

// A Fault is something that is not as the log wrote it.
type Fault struct {
	File string // its name in the folder of the log; empty: of the log as a whole
	Line int    // from 1; 0: of the file as a whole
	Seq  uint64 // of the record; where it is not known, the one that was expected
	What string // in words
}

// String says where it is and what is wrong.
func (f Fault) String() string {
	switch {
	case f.File == "":
		return f.What
	case f.Line == 0:
		return f.File + ": " + f.What
	}
	return fmt.Sprintf("%s line %d, record %d: %s", f.File, f.Line, f.Seq, f.What)
}

// A scanner follows the chain through the files of a log.
type scanner struct {
	head   Head                                 // of the last record that is sound in itself
	linked bool                                 // head is what the next record must follow
	first  uint64                               // number of the first record of the file, by its name
	faults []Fault                              // at most maxFaults
	torn   int                                  // bytes of a line that was not ended, of the last file
	each   func(l line, hash [sha256.Size]byte) // may be nil
}

// newScanner begins with the first record of a log.
func newScanner() *scanner { return &scanner{linked: true} }

func (s *scanner) fault(f Fault) {
	if len(s.faults) < maxFaults {
		s.faults = append(s.faults, f)
	}
}

// file reads a file, of which last says that no other follows. The error is
// about reading it; what is wrong with what it holds is in faults.
func (s *scanner) file(dir, name string, last bool) error {
	f, err := openFile(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	first, _ := firstOf(name)
	s.first = first
	if s.linked && first != s.head.Size+1 {
		s.fault(Fault{File: name, Seq: s.head.Size + 1, What: missing(s.head.Size+1, first)})
		s.linked = false
		s.head.Size = first - 1
	}
	return s.lines(f, name, last)
}

func (s *scanner) lines(f io.Reader, name string, last bool) error {
	r := bufio.NewReaderSize(f, maxLine)
	for n := 1; ; n++ {
		b, err := r.ReadSlice('\n')
		long := errors.Is(err, bufio.ErrBufferFull)
		size := len(b)
		for errors.Is(err, bufio.ErrBufferFull) {
			b, err = r.ReadSlice('\n')
			size += len(b)
		}
		ended := err == nil
		if err != nil && err != io.EOF {
			return fmt.Errorf("read %s: %w", name, err)
		}
		switch {
		case size == 0:
			return nil
		case !ended && last:
			s.torn = size
			return nil
		case !ended:
			s.bad(name, n, "it is cut short, and another file follows")
			return nil
		case long:
			s.bad(name, n, fmt.Sprintf("it has more than %d bytes", maxLine))
		default:
			s.line(name, n, bytes.TrimSuffix(b, []byte{'\n'}))
		}
	}
}

// bad notes a record that tells nothing: it may be the one that was expected.
func (s *scanner) bad(name string, n int, what string) {
	s.fault(Fault{name, n, s.head.Size + 1, what})
	s.head.Size++
	s.linked = false
}

func (s *scanner) line(name string, n int, b []byte) {
	l, hash, err := decode(b)
	if err != nil {
		s.bad(name, n, err.Error())
		return
	}
	want := s.head.Size + 1
	if l.Seq > max(want, s.first)+maxGap {
		s.bad(name, n, fmt.Sprintf("no log has a record %d", l.Seq))
		return
	}
	switch {
	case l.Seq > want:
		s.fault(Fault{name, n, l.Seq, missing(want, l.Seq)})
	case l.Seq < want:
		s.fault(Fault{name, n, l.Seq, fmt.Sprintf("it is out of its place: record %d was expected here", want)})
	case s.linked && l.Prev != hex.EncodeToString(s.head.Hash[:]):
		s.fault(Fault{name, n, l.Seq, fmt.Sprintf("it does not follow record %d as that is now: one of the two was put in the place of another", l.Seq-1)})
	}
	s.head, s.linked = Head{l.Seq, hash}, true
	if s.each != nil {
		s.each(l, hash)
	}
}

// missing says which records are not there when got comes in place of want.
func missing(want, got uint64) string {
	switch {
	case got < want:
		return fmt.Sprintf("it is out of its place: record %d was expected here", want)
	case got == want+1:
		return fmt.Sprintf("record %d is missing before it", want)
	}
	return fmt.Sprintf("records %d to %d are missing before it", want, got-1)
}
