package host

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/musenai/musen/node"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/member"
)

func (o *origin) invite(role member.Role, name string) member.Invite {
	o.t.Helper()
	inv, err := o.ledger.Invite(o.t.Context(), member.InviteRequest{Role: role, Name: name, Addrs: o.addrs()})
	must(o.t, err)
	return inv
}

// Who joins twice with one home and invite, as after a crash, has one place; no
// other home gets it.
func TestJoinTwice(t *testing.T) {
	o := newOrigin(t)
	inv, home := o.invite(member.Replica, "one"), t.TempDir()
	offer := member.Offer{Contract: contract.Contract{Disk: room, Up: 1000}, Site: "attic"}
	first, err := Join(t.Context(), home, inv, offer)
	must(t, err)
	again, err := Join(t.Context(), home, inv, offer)
	if err != nil || again.Self != first.Self || again.Name != "one" || again.Site != "attic" || again.Role != member.Replica {
		t.Errorf("joined again as %+v, %v; first as %+v", again, err, first)
	}
	terms, err := contract.Load(filepath.Join(home, ContractFile))
	if err != nil || terms.Up != 1000 {
		t.Errorf("the contract is %+v, %v", terms, err)
	}
	if _, err := member.OpenBook(filepath.Join(home, MembershipFile)); err != nil {
		t.Error(err)
	}
	if p, err := o.ledger.Find("one"); err != nil || p.ID != first.Self || p.Contract.Disk != room {
		t.Errorf("the ledger has %+v, %v", p, err)
	}
	if _, err := Join(t.Context(), t.TempDir(), inv, offer); !errors.Is(err, member.ErrUsed) {
		t.Errorf("a second home: %v", err)
	}
	for what, bad := range map[string]contract.Contract{"no disk": {}, "too little": {Disk: 1}} {
		if _, err := Join(t.Context(), t.TempDir(), o.invite(member.Replica, ""), member.Offer{Contract: bad}); !errors.Is(err, contract.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A start that fails leaves nothing running: with what was missing in its place
// the same home starts.
func TestOpenFails(t *testing.T) {
	o := newOrigin(t)
	g := o.join(member.Replica, "one", contract.Contract{Disk: room})
	g.end()
	book, err := member.OpenBook(filepath.Join(g.home, MembershipFile))
	must(t, err)
	opts := g.opts
	opts.Book, opts.ContractFile = book, filepath.Join(g.home, "none")
	if _, err := Open(t.Context(), opts); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no contract: %v", err)
	}
	opts.ContractFile, opts.Node.Dir = g.opts.ContractFile, filepath.Join(g.home, "none")
	if _, err := Open(t.Context(), opts); err == nil {
		t.Error("no node: it opens")
	}
	g.start()
	if _, err := Open(t.Context(), Options{Book: book, ContractFile: g.opts.ContractFile, Node: g.opts.Node, Now: g.opts.Now, Log: g.opts.Log}); !errors.Is(err, node.ErrLocked) {
		t.Errorf("a second one: %v", err)
	}
}
