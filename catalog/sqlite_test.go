package catalog_test

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog"
)

// sqliteFile makes fixtures whose store is that file.
func sqliteFile(path string) factory {
	return func(t testing.TB) func(catalog.Options) *catalog.Catalog {
		return func(o catalog.Options) *catalog.Catalog {
			t.Helper()
			open := catalog.Open
			if _, err := os.Stat(path); err != nil {
				open = catalog.Create
			}
			c, err := open(t.Context(), path, o)
			noErr(t, err)
			return c
		}
	}
}

func TestSQLite(t *testing.T) {
	suite(t, func(t testing.TB) func(catalog.Options) *catalog.Catalog {
		return sqliteFile(filepath.Join(t.TempDir(), "catalogue.db"))(t)
	})
}

// onFile is a fixture on a new file.
func onFile(t testing.TB) (f *fixture, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "catalogue.db")
	f = newFixture(t, sqliteFile(path))
	f.open()
	return f, path
}

// onDisk is all that the files of a database hold.
func onDisk(t *testing.T, path string) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob(path + "*")
	noErr(t, err)
	all := map[string][]byte{}
	for _, name := range names {
		all[name], err = os.ReadFile(name)
		noErr(t, err)
	}
	return all
}

// P2: what identifies a person or tells what is played is nowhere on the disk.
func TestNothingPersonalOnDisk(t *testing.T) {
	f, path := onFile(t)
	ctx := t.Context()
	planted := []string{
		"jazz-of-station-name", "DescriptionMarker", "TitleMarker", "ArtistMarker",
		"subject-marker@example.org", "idempotency-key-marker", "response-marker",
		"report-marker", "moderator-marker", "reason-marker",
	}
	st := newStation(planted[0])
	st.Description = planted[1]
	noErr(t, f.CreateStation(ctx, st))
	noErr(t, f.UpdateStation(ctx, st))
	for i := range 20 {
		s := newSegment(st.ID, 1+i, f.clock.Now())
		s.Title, s.Artist = planted[2], planted[3]
		noErr(t, f.Begin(ctx, s))
		noErr(t, f.Commit(ctx, s, nil, nil))
	}
	noErr(t, f.PutToken(ctx, musen.Token{ID: "a", Subject: planted[4]}))
	noErr(t, f.RevokeSubject(ctx, planted[4]))
	noErr(t, f.PutIdempotent(ctx, planted[5], []byte("digest"), []byte(planted[6]), f.clock.Now().Add(time.Hour)))
	f.report(musen.NewReport{Station: st.ID, Reporter: "client-marker", Text: planted[7]})
	noErr(t, f.CloseReport(ctx, f.openReports()[0].ID, musen.ReportActedOn, planted[8], planted[9]))
	scan := func() {
		t.Helper()
		for name, content := range onDisk(t, path) {
			for _, marker := range append(planted, "client-marker") {
				if bytes.Contains(content, []byte(marker)) {
					t.Errorf("%q stands in %s", marker, filepath.Base(name))
				}
			}
		}
	}
	scan() // most of it is in the write-ahead log now
	f.reopen()
	scan()
}

// A removed segment's wrapped key, and an aborted one's, are in no file when
// the call returns; also after rows were moved between pages.
func TestDestroyedKeysAreGone(t *testing.T) {
	f, path := onFile(t)
	ctx := t.Context()
	st := f.station("jazz")
	var all []musen.Segment
	for i := range 400 {
		all = append(all, newSegment(st.ID, 1+i%9, f.clock.Now()))
	}
	count := func() (n int) {
		for _, content := range onDisk(t, path) {
			for _, s := range all {
				n += bytes.Count(content, s.Key.Ciphertext[:16])
			}
		}
		return n
	}
	f.inParallel(all, func(s musen.Segment) error { return f.Begin(ctx, s) })
	if count() < len(all) {
		t.Fatal("the scan does not find keys that are there")
	}
	aborted, committed := all[:100], all[100:]
	f.inParallel(aborted, func(s musen.Segment) error { return f.Abort(ctx, s.ID) })
	f.inParallel(committed, func(s musen.Segment) error { return f.Commit(ctx, s, nil, nil) })
	rand.Shuffle(len(committed), func(i, j int) { committed[i], committed[j] = committed[j], committed[i] })
	for i, s := range committed[:250] {
		noErr(t, f.Remove(ctx, s.ID))
		for name, content := range onDisk(t, path) {
			if bytes.Contains(content, s.Key.Ciphertext[:16]) {
				t.Fatalf("the key of removal %d is still in %s", i, filepath.Base(name))
			}
		}
	}
	f.inParallel(committed[250:], func(s musen.Segment) error { return f.Remove(ctx, s.ID) })
	if n := count(); n != 0 {
		t.Fatalf("%d destroyed keys are still on the disk", n)
	}
}

// A page that is open while a key is destroyed holds nothing back.
func TestRemoveWhileReading(t *testing.T) {
	f, path := onFile(t)
	ctx := t.Context()
	st := f.station("jazz")
	for range 10 {
		f.add(st.ID, 1, nil)
	}
	n := 0
	for c, err := range f.Roots(ctx) {
		noErr(t, err)
		s, err := f.Segment(ctx, c.Hash())
		noErr(t, err)
		noErr(t, f.Remove(ctx, s.ID))
		for name, content := range onDisk(t, path) {
			if bytes.Contains(content, s.Key.Ciphertext) {
				t.Fatalf("the key is still in %s", filepath.Base(name))
			}
		}
		n++
	}
	if n != 10 {
		t.Fatalf("%d roots", n)
	}
}

func TestFilesAreTheOwnersAlone(t *testing.T) {
	f, path := onFile(t)
	f.station("jazz")
	noErr(t, f.Close())
	noErr(t, os.Chmod(path, 0o644))
	f.open()
	f.station("blues")
	for name := range onDisk(t, path) {
		info, err := os.Stat(name)
		noErr(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", filepath.Base(name), info.Mode().Perm())
		}
	}
}

func TestWhatTheDatabaseIsSetTo(t *testing.T) {
	f, _ := onFile(t)
	for pragma, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "secure_delete": "1",
		"application_id": "1836413806", "user_version": newestVersion(t), "integrity_check": "ok",
	} {
		got, err := f.Query(t.Context(), "PRAGMA "+pragma)
		noErr(t, err)
		if got != want {
			t.Errorf("%s is %q, want %q", pragma, got, want)
		}
	}
}

// newestVersion is that of the last migration.
func newestVersion(t *testing.T) string {
	t.Helper()
	names, err := filepath.Glob("migrations/*.sql")
	noErr(t, err)
	number, _, _ := strings.Cut(filepath.Base(names[len(names)-1]), "_")
	return strings.TrimLeft(number, "0")
}

// H78: opening again changes nothing, a killed first start is no obstacle.
func TestMigrations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalogue.db")
	noErr(t, os.WriteFile(path+".new", []byte("half a file of a first start"), 0o600))
	f := newFixture(t, sqliteFile(path))
	f.open()
	schema := func() string {
		s, err := f.Query(t.Context(), `SELECT group_concat(sql) || (SELECT count(*) FROM goose_db_version) FROM sqlite_schema`)
		noErr(t, err)
		return s
	}
	first := schema()
	for range 3 {
		f.reopen()
		if schema() != first {
			t.Fatal("opening again changed the schema")
		}
	}
}

// H70, H78: what is not a sound catalogue of this version is refused with
// words that say what to do, and left as it was.
func TestRefusedFiles(t *testing.T) {
	sound := func(t *testing.T, path string) []byte {
		f := newFixture(t, sqliteFile(path))
		f.open()
		st := f.station("jazz")
		for range 30 {
			f.add(st.ID, 20, nil)
		}
		noErr(t, f.Close())
		b, err := os.ReadFile(path)
		noErr(t, err)
		return b
	}
	rewrite := func(change func(b []byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			noErr(t, os.WriteFile(path, change(sound(t, path)), 0o600))
		}
	}
	for name, c := range map[string]struct {
		make func(t *testing.T, path string)
		say  string
	}{
		"empty":         {rewrite(func([]byte) []byte { return nil }), "restore a backup"},
		"garbage":       {rewrite(func([]byte) []byte { return bytes.Repeat([]byte("x"), 9000) }), "restore a backup"},
		"cut":           {rewrite(func(b []byte) []byte { return b[:len(b)/2/4096*4096] }), "restore a backup"},
		"cut in a page": {rewrite(func(b []byte) []byte { return b[:len(b)/2+77] }), "restore a backup"},
		"a page of zeros": {rewrite(func(b []byte) []byte {
			clear(b[3*4096 : 4*4096])
			return b
		}), "restore a backup"},
		"of a newer program": {rewrite(func(b []byte) []byte {
			binary.BigEndian.PutUint32(b[60:], 99)
			return b
		}), "a newer program wrote it"},
		"of a newer program that was killed": {func(t *testing.T, path string) {
			sound(t, path)
			execOn(t, path, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)")
		}, "a newer program wrote it"},
		"of another program": {func(t *testing.T, path string) {
			execOn(t, path, "CREATE TABLE t (x)", "PRAGMA application_id = 7")
		}, "another program"},
		"read-only": {func(t *testing.T, path string) {
			sound(t, path)
			noErr(t, os.Chmod(path, 0o400))
		}, "chmod 600"},
		"a folder": {func(t *testing.T, path string) { noErr(t, os.Mkdir(path, 0o700)) }, "not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "catalogue.db")
			c.make(t, path)
			before := fmt.Sprint(onDiskOrFolder(path))
			got, err := catalog.Open(t.Context(), path, options([32]byte{1}, time.Now))
			if err == nil {
				got.Close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), c.say) || !strings.Contains(err.Error(), path) {
				t.Fatalf("it says %q, not %q", err, c.say)
			}
			if fmt.Sprint(onDiskOrFolder(path)) != before {
				t.Fatal("the refusal changed the file")
			}
		})
	}
}

// H70: a catalogue that is lost is not replaced by an empty one, which would
// own no audio; and making one touches none that is there.
func TestMissing(t *testing.T) {
	path, o := filepath.Join(t.TempDir(), "catalogue.db"), options([32]byte{1}, time.Now)
	_, err := catalog.Open(t.Context(), path, o)
	wantErr(t, err, fs.ErrNotExist)
	if !strings.Contains(err.Error(), "restore") || len(onDisk(t, path)) != 0 {
		t.Errorf("it says %q and left %d files", err, len(onDisk(t, path)))
	}
	_, err = catalog.Create(t.Context(), filepath.Join(t.TempDir(), "no", "catalogue.db"), o)
	wantErr(t, err, fs.ErrNotExist)

	f, path := onFile(t)
	f.station("jazz")
	noErr(t, f.Close())
	before := fmt.Sprint(onDisk(t, path))
	_, err = catalog.Create(t.Context(), path, o)
	wantErr(t, err, fs.ErrExist)
	if fmt.Sprint(onDisk(t, path)) != before {
		t.Error("it was changed")
	}
}

func onDiskOrFolder(path string) []byte {
	b, err := os.ReadFile(path)
	if err != nil {
		return []byte(err.Error())
	}
	return b
}

// execOn runs statements on a file as another program would.
func execOn(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	noErr(t, err)
	for _, s := range statements {
		_, err := db.ExecContext(t.Context(), s)
		noErr(t, err)
	}
	noErr(t, db.Close())
}

// H70: a bit that flips in a page is an error or does no harm; what is read
// is what was written.
func TestFlippedBits(t *testing.T) {
	f, path := onFile(t)
	ctx := t.Context()
	st := f.station("jazz")
	var all []musen.Segment
	for range 40 {
		all = append(all, f.add(st.ID, 3, nil))
	}
	noErr(t, f.Close())
	sound, err := os.ReadFile(path)
	noErr(t, err)
	detected, r := 0, rand.New(rand.NewPCG(7, 7))
	for i := range 300 {
		bad := bytes.Clone(sound)
		at := i * len(bad) / 300
		bad[at+r.IntN(len(bad)/300)] ^= 1 << r.IntN(8)
		noErr(t, os.WriteFile(path, bad, 0o600))
		c, err := catalog.Open(ctx, path, options(f.key, f.clock.Now))
		if err != nil {
			detected++
			continue
		}
		for _, s := range all {
			got, err := c.Segment(ctx, s.CID.Hash())
			if err != nil {
				detected++
				continue
			}
			s.Key, got.Key = musen.WrappedKey{}, musen.WrappedKey{} // sealed by the keyring
			equalSegment(t, got, s)
		}
		_ = c.Close() // may find damage too
	}
	if detected == 0 {
		t.Fatal("no damage was found at all")
	}
}

// H69: a full disk refuses writes, not reads, and all goes on when it is not
// full any more.
func TestNoSpace(t *testing.T) {
	f, _ := onFile(t)
	fillUp(t, f, musen.ErrNoSpace, func() {
		noErr(t, f.Exec(t.Context(), "PRAGMA max_page_count = 1")) // is raised to what there is
	}, func() {
		noErr(t, f.Exec(t.Context(), "PRAGMA max_page_count = 1000000"))
	})
}

// revokeOnFullDisk revokes until there is no space for that either: all that
// was revoked is in force, and who could not be recorded is told.
func revokeOnFullDisk(t testing.TB, f *fixture, want error) {
	t.Helper()
	ctx, issued := t.Context(), f.clock.Now()
	var lost error
	for i := 0; lost == nil; i++ {
		name := fmt.Sprintf("%d%0900d", i, i)
		lost = errors.Join(f.RevokeToken(ctx, name), f.RevokeSubject(ctx, name))
		if !f.Revoked(name, "", issued) || !f.Revoked("", name, issued) {
			t.Errorf("revocation %d is not in force: %v", i, lost)
		}
	}
	wantErr(t, lost, want)
	if !strings.Contains(lost.Error(), "in force until the node stops") {
		t.Errorf("it says %q", lost)
	}
}

// fillUp adds until that error, frees some, and adds again.
func fillUp(t testing.TB, f *fixture, want error, full, free func()) {
	t.Helper()
	ctx := t.Context()
	st := f.station("jazz")
	kept := []musen.Segment{f.add(st.ID, 10, nil)}
	full()
	for {
		s := newSegment(st.ID, 200, f.clock.Now())
		err := f.Begin(ctx, s)
		if err == nil {
			err = f.Commit(ctx, s, nil, nil)
		}
		if err != nil {
			wantErr(t, err, want)
			break
		}
		kept = append(kept, s)
	}
	for _, s := range kept {
		got, err := f.Segment(ctx, s.CID.Hash())
		noErr(t, err)
		if got.Title != s.Title {
			t.Fatalf("title %q", got.Title)
		}
	}
	revokeOnFullDisk(t, f, want)
	free()
	pending, err := f.Pending(ctx)
	noErr(t, err)
	for _, id := range pending {
		noErr(t, f.Abort(ctx, id))
	}
	kept = append(kept, f.add(st.ID, 200, nil))
	noErr(t, f.Remove(ctx, kept[0].ID))
	f.reopen()
	for _, s := range kept[1:] {
		if _, err := f.Segment(ctx, s.CID.Hash()); err != nil {
			t.Fatal(err)
		}
	}
	if errs := errors.Join(f.RevokeToken(ctx, "x"), f.RevokeSubject(ctx, "y")); errs != nil {
		t.Fatal(errs)
	}
}
