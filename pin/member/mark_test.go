package member

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	leveldb "github.com/ipfs/go-ds-leveldb"

	"github.com/musenai/musen/pin/wire"
)

// onDisk are the options of a ledger in LevelDB, with a mark beside it.
func onDisk(t *testing.T) (o LedgerOptions, c *clock, dir string) {
	t.Helper()
	o, c = options(t)
	dir = t.TempDir()
	o.Mark = filepath.Join(dir, "ledger.json")
	o.Store = level(t, dir)
	return o, c, dir
}

// level opens a LevelDB.
func level(t *testing.T, dir string) datastore.Batching {
	t.Helper()
	store, err := leveldb.NewDatastore(filepath.Join(dir, "store"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// journal is the newest journal of a LevelDB.
func journal(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "store", "*.log"))
	if err != nil || len(files) == 0 {
		t.Fatalf("journals %v, %v", files, err)
	}
	return files[len(files)-1]
}

// A store whose journal was damaged opens without what was in it. The ledger
// says so, and is not begun anew.
func TestLostLedgerIsNoticed(t *testing.T) {
	for what, damage := range map[string]func(b []byte) []byte{
		"all of it": func([]byte) []byte { return nil },
		"the end":   func(b []byte) []byte { return b[:len(b)*2/3] },
		"a bit":     func(b []byte) []byte { b[100] ^= 1; return b },
	} {
		t.Run(what, func(t *testing.T) {
			o, clock, dir := onDisk(t)
			l := open(t, o)
			for i := range 20 {
				admit(t, l, Storage, fmt.Sprint("peer ", i))
				clock.add(time.Second)
			}
			path := journal(t, dir)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			noted, err := os.ReadFile(o.Mark)
			if err != nil {
				t.Fatal(err)
			}
			if err := o.Store.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			o.Store = level(t, dir)
			for range 2 { // nor is it begun by a second try
				_, err = OpenLedger(t.Context(), o)
				is(t, "a ledger that lost something", err, ErrDamaged)
			}
			if b, err := os.ReadFile(o.Mark); err != nil || !bytes.Equal(b, noted) {
				t.Errorf("the mark is %s, %v; was %s", b, err, noted)
			}
			if err := os.Remove(o.Mark); err != nil { // the operator goes on with what is there
				t.Fatal(err)
			}
			if what != "a bit" {
				open(t, o)
			}
		})
	}
}

// What LevelDB lost in the middle is seen without the mark: what came later is
// there, and does not fit.
func TestLedgerThatLostAPeerIsNoticed(t *testing.T) {
	o, _ := options(t)
	l := open(t, o)
	p := admit(t, l, Storage, "oslo")
	q := admit(t, l, Replica, "attic")
	i := invite(t, l, InviteRequest{})
	for _, key := range []datastore.Key{peerKey(p.ID), inviteKey(i.ID), peerKey(q.ID)} {
		b, err := o.Store.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if err := o.Store.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		_, err = OpenLedger(t.Context(), o)
		is(t, "without "+key.String(), err, ErrDamaged)
		if err := o.Store.Put(t.Context(), key, b); err != nil {
			t.Fatal(err)
		}
	}
	again := open(t, o)
	if err := again.Remove(t.Context(), q.ID); err != nil {
		t.Fatal(err)
	}
	if got := open(t, o).Peers(); len(got) != 2 {
		t.Errorf("peers\n%s", text(got))
	}
}

// A change that failed, and may be in the store in part, is no damage.
func TestFailedChangeIsNoDamage(t *testing.T) {
	o, _ := options(t)
	store := &broken{Batching: o.Store}
	o.Store = store
	l := open(t, o)
	store.sync = errors.New("the disk broke")
	lost := Peer{ID: newID(t), Role: Storage}
	is(t, "admit", l.Admit(t.Context(), lost), store.sync)
	store.sync = nil
	admit(t, l, Storage, "")
	again := open(t, o)
	if len(again.Peers()) != 2 || again.Gate().Admits(lost.ID) {
		t.Errorf("peers\n%s", text(again.Peers()))
	}
}

func TestMarkOfAnotherIsRefused(t *testing.T) {
	o, _ := options(t)
	o.Mark = filepath.Join(t.TempDir(), "ledger.json")
	open(t, o)
	b, err := os.ReadFile(o.Mark)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := options(t)
	other.Mark = o.Mark
	_, err = OpenLedger(t.Context(), other)
	is(t, "another's mark", err, ErrDamaged)
	for _, bad := range [][]byte{nil, b[:len(b)/2], []byte("{}")} {
		if err := os.WriteFile(o.Mark, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = OpenLedger(t.Context(), o)
		is(t, fmt.Sprintf("the mark %q", bad), err, ErrDamaged)
	}
}

// A mark that cannot be written holds nothing up: it is made good later.
func TestMarkThatCannotBeWritten(t *testing.T) {
	var log bytes.Buffer
	o, clock := options(t)
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	dir := filepath.Join(t.TempDir(), "none")
	o.Mark = filepath.Join(dir, "ledger.json")
	l := open(t, o)
	if !strings.Contains(log.String(), "level=WARN") {
		t.Errorf("the log says %q", log.String())
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	clock.add(time.Second)
	admit(t, l, Replica, "")
	o.Store = memory()
	_, err := OpenLedger(t.Context(), o)
	is(t, "an empty store", err, ErrDamaged)
}

// backup copies a store.
func backup(t *testing.T, from datastore.Batching) datastore.Batching {
	t.Helper()
	to := memory()
	for e, err := range datastore.QueryIter(t.Context(), from, query.Query{}) {
		if err == nil {
			err = to.Put(t.Context(), datastore.NewKey(e.Key), e.Value)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// A ledger that was restored from a backup while the clock is behind, too,
// gives rosters that its peers refuse, until it hears of theirs.
func TestRestoredLedgerOutrunsItsPeers(t *testing.T) {
	for _, role := range []Role{Storage, Replica} {
		t.Run(string(role), func(t *testing.T) {
			var log bytes.Buffer
			o, clock := options(t)
			l := open(t, o)
			p, q := admit(t, l, role, "one"), admit(t, l, Storage, "two")
			older := backup(t, o.Store)
			clock.add(time.Hour)
			admit(t, l, Storage, "late")
			newest := member(t, l, p)
			book, err := OpenBook(saved(t, newest))
			if err != nil {
				t.Fatal(err)
			}
			other, err := OpenBook(saved(t, member(t, l, q)))
			if err != nil {
				t.Fatal(err)
			}
			clock.add(-48 * time.Hour)
			o.Store, o.Log = older, slog.New(slog.NewTextHandler(&log, nil))
			l = open(t, o)
			give := func(b *Book, p Peer) error {
				e, err := l.RosterFor(p.ID)
				if err != nil {
					t.Fatal(err)
				}
				return b.Accept(e)
			}
			is(t, "a roster of the restored ledger", give(book, p), ErrRoster)
			changed := l.Changed()
			if err := l.Outrun(t.Context(), p.ID, newest.Roster); err != nil {
				t.Fatal(err)
			}
			select {
			case <-changed:
			default:
				t.Error("nobody is told to send the rosters again")
			}
			for who, err := range map[string]error{"who told": give(book, p), "another": give(other, q)} {
				is(t, who, err, nil)
			}
			if !strings.Contains(log.String(), "older than a roster") {
				t.Errorf("the log says %q", log.String())
			}
			seq := roster(t, l, p.ID).Seq
			for _, e := range []wire.Envelope{newest.Roster, book.Membership().Roster} {
				if err := l.Outrun(t.Context(), p.ID, e); err != nil || roster(t, l, p.ID).Seq != seq {
					t.Errorf("a roster that is known: %d after %d, %v", roster(t, l, p.ID).Seq, seq, err)
				}
			}
			stranger, _ := options(t)
			false1, err := open(t, stranger).RosterFor(open(t, stranger).self)
			if err != nil {
				t.Fatal(err)
			}
			is(t, "another's roster", l.Outrun(t.Context(), p.ID, false1), ErrRoster)
			if again := open(t, o); roster(t, again, p.ID).Seq <= seq {
				t.Error("it was not durable")
			}
		})
	}
}

// Two rosters of one number are not taken for the same.
func TestOtherRosterOfTheSameNumber(t *testing.T) {
	o, _ := options(t)
	l := open(t, o)
	p := admit(t, l, Storage, "one")
	older := backup(t, o.Store)
	admit(t, l, Storage, "late")
	m := member(t, l, p)
	book, err := OpenBook(saved(t, m))
	if err != nil {
		t.Fatal(err)
	}
	o.Store = older
	l = open(t, o)
	mine, err := l.RosterFor(p.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := roster(t, l, p.ID).Seq, book.Roster().Seq; got != want {
		t.Fatalf("roster %d, not %d", got, want)
	}
	is(t, "another roster of that number", book.Accept(mine), ErrRoster)
	if err := l.Outrun(t.Context(), p.ID, m.Roster); err != nil {
		t.Fatal(err)
	}
	if mine, err = l.RosterFor(p.ID); err != nil {
		t.Fatal(err)
	}
	is(t, "the next one", book.Accept(mine), nil)
}
