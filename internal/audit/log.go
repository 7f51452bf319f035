package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// A Log is an open log. It is safe for concurrent use. One process at a time
// may have it open.
type Log struct {
	o     Options
	begun time.Time

	mu    sync.Mutex
	queue []*waiting
	head  Head // durable

	io     sync.Mutex // held by whoever writes for all that wait
	owed   []Record   // what is to be told of the start, and could not be yet
	file   *os.File
	size   int64 // of file; all of it is durable
	failed error // for good: what is on the disk is not known any more
}

// waiting is a record that is not durable yet. err and done belong to whoever
// holds Log.io.
type waiting struct {
	record Record
	done   bool
	err    error
}

// Open opens the log in a folder, or begins one, and tells in the log itself
// what it found at its end: a write that was cut short is cut off, and a file
// that is not as it was written is left alone, and another begun. Only the last
// file is read; Verify reads all.
func Open(o Options) (*Log, error) {
	if o.FileSize <= 0 {
		o.FileSize = defaultFileSize
	}
	l := &Log{o: o}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("open the audit log %s: %w", o.Dir, errors.Join(err, l.closeFile()))
	}
	l.begun = firstTime(filepath.Join(o.Dir, fileName(1)))
	return l, nil
}

func (l *Log) open() error {
	if err := os.Mkdir(l.o.Dir, 0o700); err == nil {
		if err := syncDir(filepath.Dir(l.o.Dir)); err != nil {
			return err
		}
	} else if !errors.Is(err, os.ErrExist) {
		return err
	}
	names, err := files(l.o.Dir)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		if err := l.begin(); err != nil {
			return err
		}
		return l.Append(Record{Event: "log.opened", Outcome: Done})
	}
	return l.resume(names)
}

// resume goes on where the last file ends.
func (l *Log) resume(names []string) error {
	s := newScanner()
	last := names[len(names)-1]
	first, _ := firstOf(last)
	if len(names) > 1 { // for what the first record of the last one must follow
		s.linked = false
		before, _ := firstOf(names[len(names)-2])
		s.head.Size = before - 1
		if err := s.file(l.o.Dir, names[len(names)-2], false); err != nil {
			return err
		}
		s.faults = nil // told when it was the last one, and by Verify
	}
	if err := s.file(l.o.Dir, last, true); err != nil {
		return err
	}
	l.head = s.head
	if len(s.faults) > 0 {
		l.head.Size = max(l.head.Size, first)
		f := s.faults[0]
		return l.tell(Record{Event: "log.broken", Outcome: Done, Facts: map[string]string{"file": f.File, "what": f.String()}})
	}
	return l.reopen(last, s.torn)
}

// reopen opens the last file to write, without the torn bytes at its end.
func (l *Log) reopen(name string, torn int) error {
	f, err := os.OpenFile(filepath.Join(l.o.Dir, name), os.O_WRONLY|os.O_APPEND|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	l.file = f
	info, err := f.Stat()
	if err != nil {
		return err
	}
	l.size = info.Size()
	if torn == 0 {
		return nil
	}
	l.size -= int64(torn)
	if err := f.Truncate(l.size); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return l.tell(Record{Event: "log.torn", Outcome: Done, Facts: map[string]string{"file": name, "bytes": fmt.Sprint(torn)}})
}

// tell records what was found at the start; if there is no room, with the next
// record: a node must start on a full disk, so that room can be made.
func (l *Log) tell(r Record) error {
	err := l.Append(r)
	if errors.Is(err, syscall.ENOSPC) {
		l.owed = append(l.owed, r)
		return nil
	}
	return err
}

// begin makes the file of the next record.
func (l *Log) begin() error {
	if err := l.closeFile(); err != nil {
		return err
	}
	path := filepath.Join(l.o.Dir, fileName(l.head.Size+1))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	if err := syncDir(l.o.Dir); err != nil {
		return errors.Join(err, f.Close(), os.Remove(path))
	}
	l.file, l.size = f, 0
	return nil
}

func (l *Log) closeFile() error {
	if l.file == nil {
		return nil
	}
	f := l.file
	l.file = nil
	return f.Close()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Origin is the name of the log in checkpoints.
func (l *Log) Origin() string { return l.o.Origin }

// Begun is when the first record was made, if it can be read.
func (l *Log) Begun() time.Time { return l.begun }

// Head is the state of the log: what is durable.
func (l *Log) Head() Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

// Append makes a record durable, together with others that come at the same
// time. After an error, which wraps ErrUnavailable or ErrInvalid, and
// syscall.ENOSPC if there is no room, there is no record of it, unless the disk
// failed: then it may be found after the next start.
func (l *Log) Append(r Record) error {
	kind, ok := find(r.Event)
	if !ok {
		return fmt.Errorf("%w: there is no event %.40q", ErrInvalid, r.Event)
	}
	if low := l.o.Free != nil && l.o.Free() < lowSpace; low && !kind.Relief && (r.Outcome == Begun || r.Outcome == Refused) {
		return fmt.Errorf("%w: what is left of the disk is for records of what frees space: %w", ErrUnavailable, syscall.ENOSPC)
	}
	w := &waiting{record: r}
	l.mu.Lock()
	l.queue = append(l.queue, w)
	l.mu.Unlock()
	l.io.Lock()
	defer l.io.Unlock()
	for !w.done {
		l.flush()
	}
	return w.err
}

// flush writes what waits. The caller holds io.
func (l *Log) flush() {
	l.mu.Lock()
	n := min(len(l.queue), maxTogether)
	batch := l.queue[:n:n]
	l.queue = l.queue[n:]
	head := l.head
	l.mu.Unlock()
	for i := len(l.owed) - 1; i >= 0; i-- {
		batch = append([]*waiting{{record: l.owed[i]}}, batch...)
	}
	var buf []byte
	for _, w := range batch {
		w.done = true
		w.record.Time = l.o.Now()
		var b []byte
		if b, head, w.err = l.o.encode(w.record, head); w.err == nil {
			buf = append(buf, b...)
		}
	}
	if len(buf) == 0 {
		return
	}
	if err := l.write(buf); err != nil {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		for _, w := range batch {
			w.err = errors.Join(w.err, err)
		}
		return
	}
	l.owed = nil
	l.mu.Lock()
	l.head = head
	l.mu.Unlock()
	if l.o.Tell != nil {
		l.o.Tell(head)
	}
}

// write makes b durable at the end of the log, or leaves nothing of it. When
// it cannot tell, nothing is written any more: a disk that failed to sync once
// may say that it did the next time, and have forgotten.
func (l *Log) write(b []byte) (err error) {
	if l.failed != nil {
		return l.failed
	}
	if l.file == nil || l.size > 0 && l.size+int64(len(b)) > l.o.FileSize {
		if err := l.begin(); err != nil {
			return err
		}
	}
	if _, err = l.file.Write(b); err != nil {
		if cut := l.file.Truncate(l.size); cut != nil {
			l.failed = errors.Join(err, cut)
		}
		return err
	}
	if err = l.file.Sync(); err != nil {
		l.failed = fmt.Errorf("a record may not be on the disk; nothing more is written until the node is started again: %w", err)
		return l.failed
	}
	l.size += int64(len(b))
	return nil
}

// Close closes the log. Records that come later are refused.
func (l *Log) Close() error {
	l.io.Lock()
	defer l.io.Unlock()
	l.failed = fmt.Errorf("%w: it is closed", ErrUnavailable)
	return l.closeFile()
}
