package audit

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"time"
)

// A Known is a head that was kept outside of the log.
type Known struct {
	Head
	Where string // it was kept, in words
}

// A Report is what Verify found.
type Report struct {
	Head  Head      // of the last record that is sound
	Files int       //
	Last  time.Time // when the last record was made; zero: there is none
	// Torn is how many bytes of a record at the end were not written whole, or
	// are being written now: the next start cuts them off. That is no fault.
	Torn   int
	Faults []Fault // the first comes first; at most 100
}

// Verify reads the whole log in a folder, which may be in use, and says what is
// not as it was written. It needs no keys. Each head that was kept elsewhere
// must be one that the log had. The error is about reading the files.
func Verify(dir string, known ...Known) (Report, error) {
	names, err := files(dir)
	if err != nil {
		return Report{}, fmt.Errorf("verify the audit log %s: %w", dir, err)
	}
	r := Report{Files: len(names)}
	s := newScanner()
	seen := make([]bool, len(known))
	place := Fault{}
	s.each = func(l line, hash [sha256.Size]byte) {
		r.Last = l.Time
		for i, k := range known {
			if k.Size == l.Seq && !seen[i] {
				if seen[i] = true; k.Hash != hash {
					s.fault(Fault{File: place.File, Seq: l.Seq, What: fmt.Sprintf("record %d is not the one that %s knows: the log was written anew from there or before", l.Seq, k.Where)})
				}
			}
		}
	}
	for i, name := range names {
		place.File = name
		if err := s.file(dir, name, i == len(names)-1); err != nil {
			return r, fmt.Errorf("verify the audit log %s: %w", dir, err)
		}
	}
	for _, k := range known {
		if k.Size > s.head.Size {
			s.fault(Fault{Seq: s.head.Size + 1, What: fmt.Sprintf("the log ends with record %d, and %s knows %d: its end was cut off, or it was put back to an older state", s.head.Size, k.Where, k.Size)})
		}
	}
	r.Head, r.Torn, r.Faults = s.head, s.torn, s.faults
	return r, nil
}

// Confirm returns a fault unless the log had that head. It reads one file.
func (l *Log) Confirm(k Known) (*Fault, error) {
	if k.Size == 0 {
		return nil, nil
	}
	names, err := files(l.o.Dir)
	if err != nil {
		return nil, err
	}
	var name string
	for _, n := range names {
		if first, _ := firstOf(n); first <= k.Size {
			name = n
		}
	}
	fault := &Fault{Seq: l.Head().Size + 1, What: fmt.Sprintf("the log has no record %d, which %s knows: its end was cut off, or it was put back to an older state", k.Size, k.Where)}
	if name == "" {
		return fault, nil
	}
	first, _ := firstOf(name)
	s := &scanner{head: Head{Size: first - 1}}
	s.each = func(rec line, hash [sha256.Size]byte) {
		switch {
		case rec.Seq != k.Size:
		case hash == k.Hash:
			fault = nil
		default:
			fault = &Fault{File: name, Seq: rec.Seq, What: fmt.Sprintf("record %d is not the one that %s knows: the log was written anew from there or before", rec.Seq, k.Where)}
		}
	}
	if err := s.file(l.o.Dir, name, true); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return fault, nil
}
