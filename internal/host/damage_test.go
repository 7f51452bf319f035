package host

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-datastore"

	"github.com/musenai/musen/internal/host/shelf"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/member"
)

// A home that lost something is not started, and says so; put back as it was it
// starts.
func TestDamagedHome(t *testing.T) {
	o := newOrigin(t)
	g := o.join(member.Replica, "one", contract.Contract{Disk: room})
	g.ready()
	root := o.add(1, 100_000)
	o.order(g.id, "hold", root, 100_000)
	o.receipt(g.id, "hold", root, "done")
	g.end()
	for what, damage := range map[string]func(home string) error{
		"no folder":              func(h string) error { return os.RemoveAll(filepath.Join(h, NodeDir)) },
		"an empty folder":        func(h string) error { return empty(filepath.Join(h, NodeDir)) },
		"no configuration":       func(h string) error { return os.Remove(filepath.Join(h, NodeDir, "config")) },
		"a cut configuration":    func(h string) error { return os.Truncate(filepath.Join(h, NodeDir, "config"), 50) },
		"an empty configuration": func(h string) error { return os.Truncate(filepath.Join(h, NodeDir, "config"), 0) },
		"no version":             func(h string) error { return os.Remove(filepath.Join(h, NodeDir, "version")) },
		"no records":             func(h string) error { return os.RemoveAll(filepath.Join(h, NodeDir, "datastore")) },
		"emptied records":        func(h string) error { return empty(filepath.Join(h, NodeDir, "datastore")) },
		"a file for the records": func(h string) error { return instead(filepath.Join(h, NodeDir, "datastore")) },
		"overwritten records":    func(h string) error { return scribble(filepath.Join(h, NodeDir, "datastore")) },
		"a cut contract":         func(h string) error { return os.Truncate(filepath.Join(h, ContractFile), 10) },
		"no contract":            func(h string) error { return os.Remove(filepath.Join(h, ContractFile)) },
		"a contract of no sense": func(h string) error {
			return os.WriteFile(filepath.Join(h, ContractFile), []byte(`{"disk":"1B"}`), 0o600)
		},
		"another's configuration": func(h string) error { return os.WriteFile(filepath.Join(h, NodeDir, "config"), []byte("{}"), 0o600) },
	} {
		t.Run(what, func(t *testing.T) {
			home := filepath.Join(t.TempDir(), "home")
			must(t, os.CopyFS(home, os.DirFS(g.home)))
			must(t, damage(home))
			book, err := member.OpenBook(filepath.Join(home, MembershipFile))
			must(t, err)
			opts := g.opts
			opts.Book, opts.ContractFile, opts.Node.Dir = book, filepath.Join(home, ContractFile), filepath.Join(home, NodeDir)
			h, err := Open(t.Context(), opts)
			if err == nil {
				must(t, h.Close())
			}
			if d := new(Damage); !errors.As(err, &d) || !strings.Contains(err.Error(), d.Part+" is damaged") {
				t.Errorf("it opens: %v", err)
			}
			small := what != "emptied records" && what != "overwritten records"
			if d, err := new(Damage), CheckHome(home); errors.As(err, &d) != small {
				t.Errorf("the check says %v", err)
			}
		})
	}
	g.start()
	g.ready()
	must(t, g.node.Store().Put(t.Context(), datastore.NewKey(stateKey), []byte("{")))
	g.end()
	book, err := member.OpenBook(filepath.Join(g.home, MembershipFile))
	must(t, err)
	opts := g.opts
	opts.Book = book
	if d, err := openFails(t, opts); d == nil || d.Part != "ipfs/datastore" {
		t.Errorf("a record that cannot be read: %v", err)
	}
}

func openFails(t *testing.T, opts Options) (d *Damage, err error) {
	t.Helper()
	h, err := Open(t.Context(), opts)
	if err == nil {
		must(t, h.Close())
	}
	if !errors.As(err, &d) {
		d = nil
	}
	return d, err
}

// Blocks that are gone with their folder are fetched again.
func TestBlocksAreFetchedAgain(t *testing.T) {
	o := newOrigin(t)
	g := o.join(member.Storage, "one", contract.Contract{})
	g.ready()
	root := o.add(1, 600_000)
	must(t, g.desk.Hold(t.Context(), shelf.Record{Root: root, Size: 600_000}))
	g.end()
	must(t, os.RemoveAll(filepath.Join(g.home, NodeDir, "blocks")))
	must(t, CheckHome(g.home))
	g.start()
	g.ready()
	for end := time.Now().Add(patience); ; {
		leaves, err := g.node.Leaves(t.Context(), root)
		for _, l := range leaves {
			err = errors.Join(err, g.node.Verify(t.Context(), l.CID))
		}
		if err == nil && len(leaves) > 2 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it is not here: ", err)
		}
	}
}

func empty(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Mkdir(dir, 0o700)
}

func instead(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.WriteFile(dir, []byte("?"), 0o600)
}

// scribble makes every file of a folder garbage.
func scribble(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, e.Name()), bytesOf(7, 5000), 0o600))
	}
	return err
}
