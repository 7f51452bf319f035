package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/musenai/musen/node"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/member"
)

// Names in the home of a host.
const (
	NodeDir        = "ipfs"
	MembershipFile = "membership.cbor"
	ContractFile   = "contract.json"
)

// Join takes the place that an invitation offers and fills home, a folder that
// is there, with what a host of that role needs: a node with an identity of its
// own, the membership, the contract. All of it is durable on return.
//
// After an error or a crash it may be called again with the same home and
// invitation: the node that is there keeps its identity, and the origin gives
// it the same place.
func Join(ctx context.Context, home string, inv member.Invite, o member.Offer) (member.Membership, error) {
	m, err := join(ctx, home, inv, o)
	if err != nil {
		return member.Membership{}, fmt.Errorf("join: %w", err)
	}
	return m, nil
}

func join(ctx context.Context, home string, inv member.Invite, o member.Offer) (m member.Membership, err error) {
	if inv.Role != member.Storage && inv.Role != member.Replica {
		return m, fmt.Errorf("%w: it is for a %s", member.ErrInvite, inv.Role)
	}
	if inv.Role == member.Replica && o.Contract.Disk == 0 {
		return m, fmt.Errorf("%w: a replica offers some disk", contract.ErrInvalid)
	}
	if err := o.Contract.Check(); err != nil {
		return m, err
	}
	dir := filepath.Join(home, NodeDir)
	if _, err := node.Init(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return m, err
	}
	// The node is opened for its key alone, and admits nobody.
	n, err := node.Open(ctx, node.Options{Dir: dir, Gate: member.NewGate(), CacheBytes: -1})
	if err != nil {
		return m, err
	}
	h := n.Host()
	m, err = member.Enrol(ctx, inv, h.Peerstore().PrivKey(h.ID()), o)
	if err = errors.Join(err, n.Close()); err != nil {
		return m, err
	}
	return m, errors.Join(
		member.SaveMembership(filepath.Join(home, MembershipFile), m),
		contract.Save(filepath.Join(home, ContractFile), o.Contract))
}
