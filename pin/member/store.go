package member

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/wire"
)

// head is what a ledger is of, and the numbers of its newest rosters.
type head struct {
	Realm   string  `cbor:"1,keyasint"`
	Origin  peer.ID `cbor:"2,keyasint"`
	Seq     uint64  `cbor:"3,keyasint"` // of the roster with everybody
	Trusted uint64  `cbor:"4,keyasint"` // of the roster with the trusted peers alone
	Sum     sum     `cbor:"5,keyasint"` // of the peers and invitations that are there; zero: was not noted
	Changes uint64  `cbor:"6,keyasint"` // how many there were
}

// invitation is what the ledger knows of an invite: not its seed.
type invitation struct {
	ID      peer.ID   `cbor:"1,keyasint"` // the one-time identity
	Role    Role      `cbor:"2,keyasint"`
	Name    string    `cbor:"3,keyasint,omitempty"`
	Site    string    `cbor:"4,keyasint,omitempty"`
	Expires time.Time `cbor:"5,keyasint"`
	Used    peer.ID   `cbor:"6,keyasint,omitempty"` // who came in by it
	UsedAt  time.Time `cbor:"7,keyasint,omitzero"`
}

// usedGrace is how long at least the one who used an invitation may ask for the
// answer again.
const usedGrace = time.Hour

// until is when the one-time identity is no longer let in.
func (i invitation) until() time.Time {
	if again := i.UsedAt.Add(usedGrace); i.Used != "" && again.After(i.Expires) {
		return again
	}
	return i.Expires
}

func root() datastore.Key              { return datastore.NewKey("/member") }
func headKey() datastore.Key           { return root().ChildString("head") }
func peersKey() datastore.Key          { return root().ChildString("peer") }
func invitesKey() datastore.Key        { return root().ChildString("invite") }
func peerKey(id peer.ID) datastore.Key { return peersKey().ChildString(id.String()) }
func goneKey(id peer.ID) datastore.Key { return root().ChildString("gone").ChildString(id.String()) }
func inviteKey(id peer.ID) datastore.Key {
	return invitesKey().ChildString(id.String())
}

// change is what happens to a ledger at once.
type change struct {
	head   head        // as it becomes, but for sum and count; zero: only its numbers change, if they must
	peer   Peer        // put, or removed; none: no ID
	remove bool        // peer
	invite *invitation // put; nil: none
	shut   []peer.ID   // invitations that are removed
}

// load reads everything that is in the store.
func (l *Ledger) load(ctx context.Context) error {
	noted, was, err := l.readMark()
	if err != nil {
		return err
	}
	b, err := l.opts.Store.Get(ctx, headKey())
	switch {
	case errors.Is(err, datastore.ErrNotFound) && was:
		return fmt.Errorf("%w: it is empty, and there was one with roster %d", ErrDamaged, noted.Roster)
	case errors.Is(err, datastore.ErrNotFound):
		return l.begin(ctx)
	case err != nil:
		return err
	}
	if err := wire.Unmarshal(b, &l.head); err != nil {
		return fmt.Errorf("%w: read its head: %w", ErrDamaged, err)
	}
	if l.head.Realm != l.opts.Realm || l.head.Origin != l.self {
		return fmt.Errorf("%w: the store has the ledger of realm %q and origin %s", ErrInvalid, l.head.Realm, l.head.Origin)
	}
	var p Peer
	if err := l.each(ctx, peersKey(), &p, func() { l.put(p) }); err != nil {
		return err
	}
	var i invitation
	if err := l.each(ctx, invitesKey(), &i, func() { l.keep(i) }); err != nil {
		return err
	}
	if err := l.checkWhole(noted); err != nil {
		return err
	}
	if err := l.loadGone(ctx); err != nil {
		return err
	}
	return l.begin(ctx)
}

// each decodes all records under a key into v, one after the other.
func (l *Ledger) each(ctx context.Context, under datastore.Key, v any, do func()) error {
	found, err := l.opts.Store.Query(ctx, query.Query{Prefix: under.String()})
	if err != nil {
		return fmt.Errorf("list %s: %w", under, err)
	}
	defer found.Close()
	for r := range found.Next() {
		if r.Error != nil {
			return fmt.Errorf("list %s: %w", under, r.Error)
		}
		if err := wire.Unmarshal(r.Value, v); err != nil {
			return fmt.Errorf("%w: read %s: %w", ErrDamaged, r.Key, err)
		}
		do()
	}
	return nil
}

// commit makes a change durable, and then true. After an error nothing of it is
// true, though some of it may be in the store: whoever asks again overwrites it.
func (l *Ledger) commit(ctx context.Context, c change) error {
	old, was := l.peers[c.peer.ID]
	if c.peer.ID != "" && !c.remove && was && same(old, c.peer) {
		c.peer = Peer{}
	}
	if c.head == (head{}) {
		c.head = l.number(c, old, was)
	}
	if c.peer.ID != "" && !c.remove {
		if size := l.bytes + weight(c.peer) - weight(old); size > maxRoster || !was && len(l.peers) >= maxPeers {
			return fmt.Errorf("%w: %d peers", ErrFull, len(l.peers))
		}
	}
	if c.head == l.head && c.peer.ID == "" && c.invite == nil && len(c.shut) == 0 {
		return nil
	}
	c.head.Sum, c.head.Changes = l.sumAfter(c), l.head.Changes+1
	if err := l.write(ctx, c); err != nil {
		l.doubt(c)
		return fmt.Errorf("write the ledger: %w", err)
	}
	l.unsure = nil
	l.noteMark(c.head)
	l.apply(c)
	return nil
}

// number returns the head after a change: its numbers grow with the rosters
// that look different after it.
func (l *Ledger) number(c change, old Peer, was bool) head {
	h := l.head
	if c.peer.ID == "" || was && !c.remove && same(line(old), line(c.peer)) {
		return h
	}
	h.Seq = l.nextSeq()
	if c.peer.Role.Trusted() || was && old.Role.Trusted() {
		h.Trusted = h.Seq
	}
	return h
}

// write puts a change in the store, whole or not at all, and with it what an
// earlier one that failed may have left there.
func (l *Ledger) write(ctx context.Context, c change) error {
	b, err := l.opts.Store.Batch(ctx)
	if err != nil {
		return err
	}
	put := func(key datastore.Key, v any) error {
		value, err := wire.Marshal(v)
		if err != nil {
			return err
		}
		return b.Put(ctx, key, value)
	}
	err = errors.Join(l.mend(ctx, b), put(headKey(), c.head))
	switch {
	case c.peer.ID == "":
	case c.remove:
		err = errors.Join(err, b.Delete(ctx, peerKey(c.peer.ID)), put(goneKey(c.peer.ID), departed{c.peer.ID, l.now()}))
		if oldest, full := l.oldestGone(); full {
			err = errors.Join(err, b.Delete(ctx, goneKey(oldest)))
		}
	default:
		err = errors.Join(err, put(peerKey(c.peer.ID), c.peer))
		if _, was := l.gate.gone[c.peer.ID]; was {
			err = errors.Join(err, b.Delete(ctx, goneKey(c.peer.ID)))
		}
	}
	if c.invite != nil {
		err = errors.Join(err, put(inviteKey(c.invite.ID), c.invite))
	}
	for _, id := range c.shut {
		err = errors.Join(err, b.Delete(ctx, inviteKey(id)))
	}
	if err != nil {
		return err
	}
	if err := b.Commit(ctx); err != nil {
		return err
	}
	return l.opts.Store.Sync(ctx, root())
}

// apply makes a change true that is durable.
func (l *Ledger) apply(c change) {
	if c.head.Seq != l.head.Seq {
		l.forPeers = nil
	}
	if c.head.Trusted != l.head.Trusted {
		l.forHosts = nil
	}
	outrun := c.head.Trusted != l.head.Trusted
	l.head = c.head
	switch {
	case c.peer.ID == "":
	case c.remove:
		l.drop(c.peer.ID)
	default:
		l.put(c.peer)
	}
	if (c.peer.ID != "" || outrun) && l.signal != nil {
		close(l.signal)
		l.signal = nil
	}
	if c.invite != nil {
		l.keep(*c.invite)
	}
	for _, id := range c.shut {
		if _, was := l.invited[id]; was {
			l.sum.toggle(inviteKey(id))
		}
		delete(l.invited, id)
		l.gate.change(func() { delete(l.gate.once, id) })
	}
}

// put enters a peer in place of what was known of it. There is no moment at
// which the gate does not admit one that it admitted before.
func (l *Ledger) put(p Peer) {
	old, was := l.peers[p.ID]
	if was {
		delete(l.names, old.Name)
	} else {
		l.sum.toggle(peerKey(p.ID))
	}
	l.peers[p.ID], l.names[p.Name] = p, p.ID
	l.bytes += weight(p) - weight(old)
	l.sorted = nil
	if !was || old.Role != p.Role {
		l.gate.change(func() {
			l.gate.roles[p.ID] = p.Role
			delete(l.gate.gone, p.ID)
		})
	}
}

// drop forgets a peer.
func (l *Ledger) drop(id peer.ID) {
	old := l.peers[id]
	l.sum.toggle(peerKey(id))
	delete(l.peers, id)
	delete(l.names, old.Name)
	l.bytes -= weight(old)
	l.sorted = nil
	oldest, full := l.oldestGone()
	l.gate.change(func() {
		delete(l.gate.roles, id)
		if full {
			delete(l.gate.gone, oldest)
		}
		l.gate.gone[id] = l.now()
	})
}

// keep enters an invitation.
func (l *Ledger) keep(i invitation) {
	if _, was := l.invited[i.ID]; !was {
		l.sum.toggle(inviteKey(i.ID))
	}
	l.invited[i.ID] = i
	l.gate.change(func() { l.gate.once[i.ID] = i.until() })
}
