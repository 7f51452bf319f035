// Package ledger keeps sealed records in a file of its own, of each name the
// newest: what must outlive the catalogue and every backup of it.
//
// It does not know what a record says, nor the key that opens it. It takes for
// granted that no other process writes the file.
package ledger

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// ErrDamaged says that the file is not as a Ledger wrote it.
var ErrDamaged = errors.New("damaged: restore its newest copy, or move it away, upon which the catalogue fills a new one with all that it knows")

// head is the first line of the file.
const head = "musen takedowns 1\n"

// A Record is what is kept under a name. Of two the one with the higher
// generation counts.
type Record struct {
	Name       string // bytes
	Generation int64
	Sealed     []byte
}

// A Ledger is an open file. It is safe for concurrent use. The file grows with
// every record and never shrinks.
type Ledger struct {
	mu     sync.Mutex
	file   *os.File
	size   int64 // of what is sound in the file
	known  map[string]int64
	broken error // nothing more is written
}

// Open opens the file, or makes it. The remains of a write that was cut short
// are cut off; a file that is damaged otherwise is an error that wraps
// ErrDamaged.
func Open(path string) (*Ledger, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	l := &Ledger{file: f, known: map[string]int64{}}
	if err := l.load(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("open the ledger %s: %w", path, errors.Join(err, f.Close()))
	}
	return l, nil
}

// load reads which records there are.
func (l *Ledger) load(dir string) error {
	info, err := l.file.Stat()
	if err != nil {
		return err
	}
	l.size = info.Size()
	err = l.each(func(r Record) error {
		l.known[r.Name] = max(l.known[r.Name], r.Generation)
		return nil
	})
	if err != nil {
		return err
	}
	if l.size == 0 {
		if _, err := l.file.WriteAt([]byte(head), 0); err != nil {
			return err
		}
		l.size = int64(len(head))
	}
	if err := l.file.Truncate(l.size); err != nil {
		return err
	}
	if err := l.file.Sync(); err != nil {
		return err
	}
	return syncFolder(dir)
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// each reads all records in the order in which they were written, and sets size
// to the end of the last whole line.
func (l *Ledger) each(f func(Record) error) error {
	in := bufio.NewReaderSize(io.NewSectionReader(l.file, 0, l.size), 64<<10)
	sound := int64(0)
	for number := 1; ; number++ {
		line, err := in.ReadBytes('\n')
		if err == io.EOF { // what follows the last whole line was never acknowledged
			l.size = sound
			return nil
		}
		if err != nil {
			return err
		}
		if number == 1 && string(line) != head {
			return fmt.Errorf("its first line is not %q: %w", head, ErrDamaged)
		}
		if number > 1 {
			r, err := parse(line)
			if err == nil {
				err = f(r)
			}
			if err != nil {
				return fmt.Errorf("line %d: %w", number, err)
			}
		}
		sound += int64(len(line))
	}
}

// parse reads a line that appendLine wrote.
func parse(line []byte) (r Record, err error) {
	parts := bytes.Split(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
	if len(parts) != 3 {
		return r, ErrDamaged
	}
	name, err := base64.RawURLEncoding.DecodeString(string(parts[0]))
	if err == nil {
		r.Generation, err = strconv.ParseInt(string(parts[1]), 10, 64)
	}
	if err == nil {
		r.Sealed, err = base64.RawURLEncoding.DecodeString(string(parts[2]))
	}
	if err != nil || len(name) == 0 || r.Generation < 1 {
		return r, ErrDamaged
	}
	r.Name = string(name)
	return r, nil
}

func appendLine(b []byte, r Record) []byte {
	b = base64.RawURLEncoding.AppendEncode(b, []byte(r.Name))
	b = append(b, ' ')
	b = strconv.AppendInt(b, r.Generation, 10)
	b = append(b, ' ')
	b = base64.RawURLEncoding.AppendEncode(b, r.Sealed)
	return append(b, '\n')
}

// Put keeps records, those at least that are newer than what is kept of their
// names. They are durable when it returns without an error.
func (l *Ledger) Put(records ...Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []byte
	fresh := map[string]int64{}
	for _, r := range records {
		if r.Generation > max(l.known[r.Name], fresh[r.Name]) {
			lines, fresh[r.Name] = appendLine(lines, r), r.Generation
		}
	}
	if len(lines) == 0 {
		return nil
	}
	if err := l.write(lines); err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	for name, generation := range fresh {
		l.known[name] = generation
	}
	return nil
}

// write appends to the file. What cannot be written whole is cut off; after a
// sync that failed nobody knows what the disk holds, and nothing more is written.
func (l *Ledger) write(lines []byte) error {
	if l.broken != nil {
		return l.broken
	}
	if _, err := l.file.WriteAt(lines, l.size); err != nil {
		if cut := l.file.Truncate(l.size); cut != nil {
			l.broken = cut
		}
		return err
	}
	if err := l.file.Sync(); err != nil {
		l.broken = fmt.Errorf("the disk failed, check it and restart: %w", err)
		return l.broken
	}
	l.size += int64(len(lines))
	return nil
}

// Generation is that of the newest record of a name; 0: there is none.
func (l *Ledger) Generation(name string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known[name]
}

// Each calls f with the newest record of each name, until f returns an error.
// f must not call the ledger.
func (l *Ledger) Each(f func(Record) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.each(func(r Record) error {
		if r.Generation != l.known[r.Name] {
			return nil
		}
		return f(r)
	})
	if err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	return nil
}

// Close closes the file.
func (l *Ledger) Close() error { return l.file.Close() }
