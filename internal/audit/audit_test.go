package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// P36, P57: what was recorded is read back, over file borders and restarts, and
// can be asked for in parts.
func TestRecordsAreKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l := open(t, dir)
	add(t, l, 4)
	noErr(t, l.Close())
	begun := l.Begun()
	l = open(t, dir)
	if !l.Begun().Equal(begun) || begun.IsZero() || l.Origin() != origin {
		t.Errorf("begun at %v, not %v; %s", l.Begun(), begun, l.Origin())
	}
	want := Record{
		Event: "approval.given", Outcome: Refused, Code: "own_request", By: "token", Actor: "bob", Credential: "j1", Object: "/approvals/1",
		Reason: "ticket 7", Request: "r2", Facts: map[string]string{"digest": "d"},
	}
	noErr(t, l.Append(want))
	add(t, l, 1)
	all, err := l.List(Query{})
	noErr(t, err)
	if len(all) != 7 || all[0].Event != "log.opened" || all[1].Object != "ann@example.org" {
		t.Fatalf("%+v", all)
	}
	want.Seq, want.Time = 6, all[5].Time
	if got := all[5]; fmt.Sprint(got) != fmt.Sprint(want) || got.Time.IsZero() {
		t.Errorf("%+v, not %+v", got, want)
	}
	for q, n := range map[Query]int{
		{Actor: "bob"}: 1, {Actor: "bo"}: 0, {Event: "approval"}: 1, {Event: "appro"}: 0, {Event: "subject.set"}: 5,
		{Since: all[4].Time}: 3, {After: 5}: 2, {Until: 5}: 5, {Limit: 3}: 3, {After: 2, Until: 4}: 2,
	} {
		got, err := l.List(q)
		if err != nil || len(got) != n || n == 3 && got[2].Seq != 7 {
			t.Errorf("%+v: %d records, %v", q, len(got), err)
		}
	}
	for event, seq := range map[string]uint64{"subject.set": 7, "approval.given": 6, "log.opened": 1, "gc.run": 0} {
		if r, found, err := l.Latest(event); err != nil || r.Seq != seq || found != (seq > 0) {
			t.Errorf("the last %s: %+v, %v", event, r, err)
		}
	}
	s, err := l.Summarize(Query{After: 1})
	noErr(t, err)
	if s.Records != 6 || s.Head != l.Head() || s.First.Seq != 2 || s.Last.Seq != 7 || !slices.Equal(s.Events, []Count{{"approval.given", Refused, "", 1}, {"subject.set", Done, "", 5}}) ||
		!slices.Equal(s.Actors, []Count{{"", Refused, "bob", 1}, {"", Done, "local", 5}}) {
		t.Errorf("%+v", s)
	}
}

// H54, P2: who and what a record is about stands nowhere in clear, and is
// sealed for its place.
func TestNamesAreSealed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l := open(t, dir)
	noErr(t, l.Append(Record{Event: "subject.set", Actor: "ann@example.org", Object: "bob@example.org", Reason: "asked by eve@example.org"}))
	b, err := os.ReadFile(filepath.Join(dir, fileName(1)))
	noErr(t, err)
	if bytes.Contains(b, []byte("example")) {
		t.Errorf("in clear: %s", b)
	}
	o := options(dir)
	o.Origin += "2"
	if r := o.record(mustDecode(t, lines(t, filepath.Join(dir, fileName(1)))[1])); r.Actor != sealedElsewhere || r.Event != "subject.set" {
		t.Errorf("%+v", r)
	}
}

func mustDecode(t *testing.T, b []byte) line {
	t.Helper()
	l, _, err := decode(bytes.TrimSuffix(b, []byte("\n")))
	noErr(t, err)
	return l
}

// The format is what docs/design/audit.md says: this is its second
// implementation.
func TestFormat(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	add(t, open(t, dir), 1)
	prev := strings.Repeat("0", 64)
	for _, b := range lines(t, filepath.Join(dir, fileName(1))) {
		text := strings.TrimSuffix(string(b), "\n")
		body, tail := text[:len(text)-75], text[len(text)-75:]
		sum := sha256.Sum256([]byte("musen audit 1\n" + body))
		if tail != `,"hash":"`+hex.EncodeToString(sum[:])+`"}` {
			t.Errorf("%s ends with %s", text, tail)
		}
		var l struct {
			V          int
			Prev, Hash string
		}
		noErr(t, json.Unmarshal([]byte(text), &l))
		if l.V != 1 || l.Prev != prev {
			t.Errorf("%s does not follow %s", text, prev)
		}
		prev = l.Hash
	}
}

// H55: each way to change the log is told, with the first record that is wrong.
func TestTamperingIsNamed(t *testing.T) {
	swap := func(names []string) {
		l := lines(t, names[1])
		l[0], l[1] = l[1], l[0]
		write(t, names[1], l...)
	}
	for what, c := range map[string]struct {
		change func(names []string)
		want   string
		faults int
	}{
		"a line is deleted": {func(n []string) { l := lines(t, n[0]); write(t, n[0], l[0], l[2]) }, "line 2, record 3: record 2 is missing", 1},
		"a byte is edited": {func(n []string) {
			l := lines(t, n[1])
			l[1][bytes.Index(l[1], []byte("local"))] ^= 1
			write(t, n[1], l...)
		}, "line 2, record 5: it was changed", 1},
		"a byte of the hash is edited": {func(n []string) {
			l := lines(t, n[1])
			l[1][len(l[1])-10] ^= 1
			write(t, n[1], l...)
		}, "line 2, record 5: it was changed", 1},
		"a record is made anew": {func(n []string) {
			l := lines(t, n[1])
			old := mustDecode(t, l[0])
			prev, err := hex.DecodeString(old.Prev)
			noErr(t, err)
			b, _, err := options("").encode(Record{Event: "gc.run", Time: old.Time}, Head{old.Seq - 1, [32]byte(prev)})
			noErr(t, err)
			write(t, n[1], append([][]byte{b}, l[1:]...)...)
		}, "line 2, record 5: it does not follow record 4", 1},
		"two are in another order": {swap, "line 1, record 5: record 4 is missing", 3},
		"a file is deleted":        {func(n []string) { noErr(t, os.Remove(n[1])) }, "records 4 to 6 are missing", 1},
		"the first file is":        {func(n []string) { noErr(t, os.Remove(n[0])) }, "records 1 to 3 are missing", 1},
		"a file is cut short": {func(n []string) {
			l := lines(t, n[0])
			write(t, n[0], l[0], l[1], l[2][:20])
		}, "line 3, record 3: it is cut short", 1},
		"a line is put in":   {func(n []string) { l := lines(t, n[0]); write(t, n[0], l[0], l[1], l[1], l[2]) }, "line 3, record 2: it is out of its place", 1},
		"a line is not JSON": {func(n []string) { l := lines(t, n[0]); write(t, n[0], l[0], []byte("x\n"), l[2]) }, "line 2, record 2: it is not a record", 1},
		"a line is very long": {func(n []string) {
			l := lines(t, n[0])
			write(t, n[0], l[0], bytes.Repeat([]byte("x"), 200_000), []byte("\n"), l[2])
		}, "line 2, record 2: it has more than", 1},
		"a line is empty": {func(n []string) { l := lines(t, n[0]); write(t, n[0], l[0], []byte("\n"), l[2]) }, "line 2, record 2: it is not a record", 1},
	} {
		t.Run(what, func(t *testing.T) {
			r := tampered(t, c.change)
			if len(r.Faults) != c.faults || !strings.Contains(fmt.Sprint(r.Faults), c.want) || !strings.Contains(r.Faults[0].String(), c.want) {
				t.Errorf("told %v, not %q", r.Faults, c.want)
			}
		})
	}
}

// H55: what is cut off at the end, or put back to an older state, is told by a
// head that was kept elsewhere, whether or not the log went on since.
func TestOlderCopiesAreNamed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l := open(t, dir)
	add(t, l, 3)
	old := map[string][]byte{}
	names, err := files(dir)
	noErr(t, err)
	for _, n := range names {
		old[n] = bytes.Join(lines(t, filepath.Join(dir, n)), nil)
	}
	add(t, l, 4)
	kept := Known{l.Head(), "the checkpoint"}
	noErr(t, l.Close())

	noErr(t, os.RemoveAll(dir))
	noErr(t, os.Mkdir(dir, 0o700))
	for n, b := range old {
		write(t, filepath.Join(dir, n), b)
	}
	r, err := Verify(dir, kept)
	if err != nil || len(r.Faults) != 1 || !strings.Contains(r.Faults[0].What, "ends with record 4, and the checkpoint knows 8") {
		t.Errorf("%v, %v", r.Faults, err)
	}
	l = open(t, dir)
	if f, err := l.Confirm(kept); err != nil || f == nil || f.Seq != 5 {
		t.Errorf("%v, %v", f, err)
	}
	if f, err := l.Confirm(Known{Head: l.Head()}); err != nil || f != nil {
		t.Errorf("%v, %v", f, err)
	}
	add(t, l, 6)
	if r, err = Verify(dir, kept); err != nil || len(r.Faults) != 1 || r.Faults[0].Seq != 8 || !strings.Contains(r.Faults[0].What, "record 8 is not the one that the checkpoint knows") {
		t.Errorf("%v, %v", r.Faults, err)
	}
	if f, err := l.Confirm(kept); err != nil || f == nil || f.Seq != 8 {
		t.Errorf("%v, %v", f, err)
	}
	noErr(t, os.RemoveAll(dir))
	if r, err = Verify(dir, kept); err != nil || len(r.Faults) != 1 {
		t.Errorf("%v, %v", r.Faults, err)
	}
	r = tampered(t, func(n []string) { l := lines(t, n[3]); write(t, n[3], l[:len(l)-1]...) })
	if len(r.Faults) != 0 || r.Head.Size == 10 {
		t.Errorf("%v", r)
	}
}

// A checkpoint is verified with its key, and nothing else passes for one.
func TestCheckpoints(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l := open(t, dir)
	add(t, l, 2)
	signed, key, err := l.Checkpoint()
	noErr(t, err)
	c, err := OpenCheckpoint(signed, key)
	if err != nil || c.Head != l.Head() || c.Origin != origin || CheckpointOrigin(signed) != origin || c.Made.IsZero() {
		t.Errorf("%+v, %v", c, err)
	}
	other, err := VerifierKey(origin, make([]byte, 32))
	noErr(t, err)
	for what, bad := range map[string][2]string{
		"another size": {strings.Replace(signed, "\n3\n", "\n4\n", 1), key}, "another key": {signed, other},
		"no signature": {strings.Split(signed, "\n\n")[0] + "\n", key}, "nothing": {"", key}, "no key": {signed, ""},
		"too long": {signed + strings.Repeat("x", maxCheckpoint), key},
	} {
		if _, err := OpenCheckpoint(bad[0], bad[1]); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// H68: a line that a crash cut short is cut off and told; damage is not taken
// for that, stays where it is, and the log goes on behind it.
func TestStartAfterACrash(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l := open(t, dir)
	add(t, l, 1)
	noErr(t, l.Close())
	path := filepath.Join(dir, fileName(1))
	write(t, path, append(lines(t, path), []byte("{\"v\":1,\"se"))...)
	if r, err := Verify(dir); err != nil || len(r.Faults) != 0 || r.Torn != 10 {
		t.Errorf("%+v, %v", r, err)
	}
	l = open(t, dir)
	all, err := l.List(Query{})
	noErr(t, err)
	if len(all) != 3 || all[2].Event != "log.torn" || all[2].Facts["bytes"] != "10" {
		t.Errorf("%+v", all)
	}
	noErr(t, l.Close())

	b := lines(t, path)
	b[1][30] ^= 1
	write(t, path, b...)
	l = open(t, dir)
	add(t, l, 1)
	noErr(t, l.Close())
	l = open(t, dir) // told once
	r, err := Verify(dir)
	if err != nil || len(r.Faults) != 1 || r.Faults[0].Seq != 2 || r.Head != l.Head() || r.Head.Size != 5 {
		t.Errorf("%+v, %v", r, err)
	}
	if all, err = l.List(Query{Event: "log.broken"}); err != nil || len(all) != 1 || !strings.Contains(all[0].Facts["what"], "line 2, record 2") {
		t.Errorf("%+v, %v", all, err)
	}
}

// H55: whoever can write to the folder, without any key, cannot have what is
// recorded from then on lie where nobody looks, nor stop the start.
func TestNumbersOfNoLog(t *testing.T) {
	for what, plant := range map[string]func(dir string, end Head){
		"a record": func(dir string, end Head) {
			path := filepath.Join(dir, fileName(1))
			b, _, err := options("").encode(Record{Event: "gc.run", Time: time.Now()}, Head{^uint64(0) - 1, end.Hash})
			noErr(t, err)
			write(t, path, append(lines(t, path), b)...)
		},
		"a file": func(dir string, _ Head) { write(t, filepath.Join(dir, fileName(^uint64(0)))) },
	} {
		dir := filepath.Join(t.TempDir(), "audit")
		l := open(t, dir)
		add(t, l, 1)
		noErr(t, l.Close())
		plant(dir, l.Head())
		for range 2 {
			l = open(t, dir)
			add(t, l, 1)
			noErr(t, l.Close())
		}
		all, err := l.List(Query{Event: "subject"})
		r, verr := Verify(dir)
		if err != nil || len(all) != 3 || verr != nil || r.Head != l.Head() || r.Head.Size > 10 || (what == "a record") != (len(r.Faults) == 1) {
			t.Errorf("%s: %d records, %v; %+v, %v", what, len(all), err, r, verr)
		}
	}
}

// What is no file in the folder is told, and not waited for.
func TestPipesAndLinks(t *testing.T) {
	for _, make := range []func(path string) error{
		func(path string) error { return syscall.Mkfifo(path, 0o600) },
		func(path string) error { return os.Symlink("/dev/null", path) },
	} {
		dir := filepath.Join(t.TempDir(), "audit")
		noErr(t, os.Mkdir(dir, 0o700))
		noErr(t, make(filepath.Join(dir, fileName(1))))
		if _, err := Open(options(dir)); err == nil {
			t.Error("it opens")
		}
		if _, err := Verify(dir); err == nil {
			t.Error("it is verified")
		}
	}
}

// H69: a node starts on a full disk; what it found is told when there is room.
func TestStartOnAFullDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l := open(t, dir)
	l.failed = syscall.ENOSPC
	for _, bytes := range []string{"1", "2"} {
		noErr(t, l.tell(Record{Event: "log.torn", Outcome: Done, Facts: map[string]string{"bytes": bytes}}))
	}
	if err := l.Append(Record{Event: "gc.run", Outcome: Begun}); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	l.failed = nil // there is room again
	add(t, l, 2)
	all, err := l.List(Query{})
	noErr(t, err)
	if len(all) != 5 || all[1].Facts["bytes"] != "1" || all[2].Facts["bytes"] != "2" || all[3].Event != "subject.set" {
		t.Errorf("%+v", all)
	}
	if r, err := Verify(dir); err != nil || len(r.Faults) > 0 || r.Head != l.Head() {
		t.Errorf("%+v, %v", r, err)
	}
}

// Many who wait share a write, and each is told of its own record.
func TestTogether(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	writes := 0
	o := options(dir)
	o.Tell = func(Head) { writes++ }
	l, err := Open(o)
	noErr(t, err)
	l.io.Lock() // a slow disk
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			r := Record{Event: "link.made", Outcome: Done}
			if i == 50 {
				r.Object = strings.Repeat("x", maxLine)
			}
			if err := l.Append(r); errors.Is(err, ErrInvalid) != (i == 50) || err != nil && i != 50 {
				t.Error(err)
			}
		})
	}
	for n := 0; n < 100; {
		l.mu.Lock()
		n = len(l.queue)
		l.mu.Unlock()
	}
	l.io.Unlock()
	all.Wait()
	if r, err := Verify(dir); err != nil || len(r.Faults) > 0 || r.Head.Size != 100 || writes != 2 {
		t.Errorf("%+v in %d writes, %v", r, writes, err)
	}
	noErr(t, l.Close())
	if err := l.Append(Record{Event: "gc.run"}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("after Close: %v", err)
	}
	if err := l.Append(Record{Event: "made.up"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("no such event: %v", err)
	}
}

// H69: what is left of a disk that is nearly full is for what frees space.
func TestLittleSpace(t *testing.T) {
	o := options(filepath.Join(t.TempDir(), "audit"))
	free := int64(1 << 40)
	o.Free = func() int64 { return free }
	l, err := Open(o)
	noErr(t, err)
	defer l.Close()
	free = 1 << 20
	if err := l.Append(Record{Event: "segment.added", Outcome: Begun}); !errors.Is(err, ErrUnavailable) || !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
	noErr(t, l.Append(Record{Event: "segment.added", Outcome: Failed}))
	noErr(t, l.Append(Record{Event: "segment.removed", Outcome: Begun}))
	free = 1 << 40
	noErr(t, l.Append(Record{Event: "segment.added", Outcome: Begun}))
}

// P57: the catalogue of events is published whole.
func TestEventsArePublished(t *testing.T) {
	doc, err := os.ReadFile("../../docs/design/audit.md")
	noErr(t, err)
	seen := map[string]bool{}
	for _, e := range Events() {
		if !bytes.Contains(doc, []byte("| `"+e.Name+"` | "+e.What+" |")) || seen[e.Name] {
			t.Errorf("docs/design/audit.md does not have once: | `%s` | %s |", e.Name, e.What)
		}
		seen[e.Name] = true
	}
}

// H55: no bytes make the reader fail, or take what it did not write for whole.
func FuzzScan(f *testing.F) {
	l, _, err := options("").encode(Record{Event: "gc.run", Time: time.Unix(1, 0), Actor: "ann"}, Head{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(l, uint16(0), byte(0))
	f.Add(l, uint16(30), byte(1))
	f.Add([]byte("{}\n\n"), uint16(0), byte(0))
	f.Fuzz(func(t *testing.T, b []byte, at uint16, flip byte) {
		s := newScanner()
		noErr(t, s.lines(bytes.NewReader(b), "f", true))
		if _, err := OpenCheckpoint(string(b), string(b)); err == nil {
			t.Error("a checkpoint of no log")
		}
		c := bytes.Clone(l)
		i := int(at) % (len(c) - 1)
		c[i] ^= flip
		s = newScanner()
		noErr(t, s.lines(bytes.NewReader(append(c, b...)), "f", true))
		if flip != 0 && len(s.faults) == 0 && s.head.Size > 0 {
			t.Errorf("byte %d was changed by %x: %+v", i, flip, s)
		}
	})
}
