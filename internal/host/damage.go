package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/node"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/member"
)

// A Damage says that a part of a host's home is missing or broken.
type Damage struct {
	Part string // path within the home
	Err  error
}

// Error says which part it is, and what is wrong with it.
func (d *Damage) Error() string { return fmt.Sprintf("%s is damaged: %v", d.Part, d.Err) }

// Unwrap returns what is wrong.
func (d *Damage) Unwrap() error { return d.Err }

// CheckHome returns a Damage if a home that a host has joined with cannot be
// opened as it is. It reads the small files alone, and changes nothing.
func CheckHome(home string) error {
	m, err := member.LoadMembership(filepath.Join(home, MembershipFile))
	if err != nil {
		return &Damage{MembershipFile, err}
	}
	if _, err := loadContract(filepath.Join(home, ContractFile)); err != nil {
		return err
	}
	return checkNode(filepath.Join(home, NodeDir), m.Self)
}

func loadContract(path string) (contract.Contract, error) {
	c, err := contract.Load(path)
	if err != nil {
		return c, &Damage{filepath.Base(path), err}
	}
	return c, nil
}

// checkNode looks for what a node cannot do without. A node whose folder is
// gone had the host's identity in it.
func checkNode(dir string, self peer.ID) error {
	broken := func(part string, err error) error {
		return &Damage{filepath.Join(filepath.Base(dir), part), err}
	}
	b, err := os.ReadFile(filepath.Join(dir, "config"))
	if err != nil {
		return broken("config", err)
	}
	var cfg struct {
		Identity  struct{ PeerID, PrivKey string }
		Datastore struct{ Spec map[string]any }
	}
	switch err := json.Unmarshal(b, &cfg); {
	case err != nil:
		return broken("config", err)
	case cfg.Identity.PeerID != self.String() || cfg.Identity.PrivKey == "":
		return broken("config", fmt.Errorf("it has the identity of %.80q, and this host is %s", cfg.Identity.PeerID, self))
	case cfg.Datastore.Spec == nil:
		return broken("config", errors.New("it does not say where things are"))
	}
	for _, name := range []string{"version", "datastore_spec"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return broken(name, err)
		} else if info.Size() == 0 {
			return broken(name, errors.New("it is empty"))
		}
	}
	if info, err := os.Stat(filepath.Join(dir, recordsDir)); err != nil {
		return broken(recordsDir, err)
	} else if !info.IsDir() {
		return broken(recordsDir, errors.New("it is no folder"))
	}
	return nil
}

const (
	recordsDir = "datastore" // of the node: what the host remembers is in there
	// begunFile is in the node's folder, and begunKey in its store, from the
	// first start on: a store without it has lost what was in it.
	begunFile = "begun"
	begunKey  = "/host/begun"
)

// checkRecords returns a Damage if the store lost what was in it, and otherwise
// sees to it that the next start will know.
func (h *Host) checkRecords(ctx context.Context) error {
	store, path := h.node.Store(), filepath.Join(h.o.Node.Dir, begunFile)
	known, err := store.Has(ctx, datastore.NewKey(begunKey))
	if err != nil {
		return err
	}
	_, err = os.Stat(path)
	switch noted := err == nil; {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case noted && !known:
		return errors.New("what it had is lost")
	case noted:
		return nil
	}
	at := []byte(h.o.Now().UTC().Format(time.RFC3339) + "\n")
	if err := errors.Join(store.Put(ctx, datastore.NewKey(begunKey), at), store.Sync(ctx, datastore.NewKey(begunKey))); err != nil {
		return err
	}
	return os.WriteFile(path, at, 0o600) // one that a power cut takes is written again
}

// records makes an error of the records a Damage, unless there is another
// reason for it.
func (h *Host) records(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || errors.Is(err, node.ErrNoSpace) || errors.Is(err, syscall.ENOSPC) {
		return err
	}
	return &Damage{filepath.Join(filepath.Base(h.o.Node.Dir), recordsDir), err}
}
