package swarm

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/keep"
	"github.com/musenai/musen/pin/member"
)

// A Member is a peer, and all that is known of it.
type Member struct {
	member.Peer
	Line    control.Line
	Conduct audit.Conduct
	Waiting int // orders without a receipt
	Copies  keep.Count
}

// Peers are all members, this origin first.
func (s *Swarm) Peers(ctx context.Context) ([]Member, error) {
	lines := map[peer.ID]control.Line{}
	for _, l := range s.lines.Lines() {
		lines[l.Peer] = l
	}
	census := s.keeper.Census()
	var all []Member
	for _, p := range s.ledger.Peers() {
		m, err := s.about(ctx, p, lines[p.ID], census[p.ID])
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// Peer finds the member of a name or an ID, or returns member.ErrUnknown.
func (s *Swarm) Peer(ctx context.Context, nameOrID string) (Member, error) {
	p, err := s.ledger.Find(nameOrID)
	if err != nil {
		return Member{}, err
	}
	line := control.Line{Peer: p.ID}
	for _, l := range s.lines.Lines() {
		if l.Peer == p.ID {
			line = l
		}
	}
	return s.about(ctx, p, line, s.keeper.Census()[p.ID])
}

func (s *Swarm) about(ctx context.Context, p member.Peer, l control.Line, c keep.Count) (Member, error) {
	m := Member{Peer: p, Line: l, Copies: c}
	if p.ID == s.node.Host().ID() {
		st, err := s.node.Stat()
		m.Site, m.Line.Up = s.o.Site, true
		m.Line.Report.Held, m.Line.Report.Used, m.Line.Report.Free = int64(c.Held+c.Proved), st.Used, st.Room()
		return m, err
	}
	if p.Role == member.Storage || p.Role == member.Replica {
		m.Conduct = s.standings.Get(p.ID)
		waiting, err := s.lines.Waiting(ctx, p.ID)
		if err != nil {
			return m, err
		}
		m.Waiting = len(waiting)
	}
	return m, nil
}

// Invite makes an invitation. Without addresses it has those that this node
// knows of itself.
func (s *Swarm) Invite(ctx context.Context, r member.InviteRequest) (member.Invite, error) {
	if len(r.Addrs) == 0 {
		r.Addrs = s.node.Addrs()
	}
	return s.ledger.Invite(ctx, r)
}

// Withdraw ends the open invitation of that ID.
func (s *Swarm) Withdraw(ctx context.Context, invite string) error {
	id, err := peer.Decode(invite)
	if err != nil {
		return fmt.Errorf("withdraw invite %.80q: %w", invite, member.ErrUnknown)
	}
	return s.ledger.Withdraw(ctx, id)
}

// Admit lets an IPFS node in as a guest, which may fetch ciphertext.
func (s *Swarm) Admit(ctx context.Context, id, name string) (Member, error) {
	p, err := peer.Decode(id)
	if err != nil {
		return Member{}, fmt.Errorf("admit %.80q: %w: it is no peer ID", id, member.ErrInvalid)
	}
	if known, err := s.ledger.Find(id); err == nil && known.Role != member.Guest {
		return Member{}, fmt.Errorf("admit %s: %w: it is a %s already", id, member.ErrInvalid, known.Role)
	}
	if err := s.ledger.Admit(ctx, member.Peer{ID: p, Role: member.Guest, Name: name}); err != nil {
		return Member{}, err
	}
	return s.Peer(ctx, id)
}

// AdmitGateway lets the node of an edge in as a guest, unless it is a peer
// already, or was one and was removed.
func (s *Swarm) AdmitGateway(ctx context.Context, id, name string) error {
	p, err := peer.Decode(id)
	if err != nil {
		return fmt.Errorf("admit gateway %.80q: %w", id, err)
	}
	_, known := s.ledger.Gate().Role(p)
	if known || s.ledger.Gate().Removed(p) {
		return nil
	}
	return s.ledger.Admit(ctx, member.Peer{ID: p, Role: member.Guest, Name: name})
}

// Remove ends the membership of a peer, which is told so: now, if its line is
// up, or when it comes back. What it holds stays noise.
func (s *Swarm) Remove(ctx context.Context, nameOrID string) error {
	p, err := s.ledger.Find(nameOrID)
	if err != nil {
		return err
	}
	if p.Role != member.Origin {
		s.lines.Farewell(ctx, p.ID)
	}
	if err := s.ledger.Remove(ctx, p.ID); err != nil {
		return err
	}
	s.node.Unpeer(p.ID)
	if err := s.node.Disconnect(p.ID); err != nil {
		s.o.Log.Warn("disconnect a removed peer", "peer", p.ID.String(), "err", err)
	}
	if err := s.standings.Forget(ctx, p.ID); err != nil {
		return err
	}
	return s.lines.Forget(ctx, p.ID)
}

// Drain has the copies of a peer moved elsewhere. It does not wait.
func (s *Swarm) Drain(ctx context.Context, nameOrID string) (Member, error) {
	p, err := s.ledger.Find(nameOrID)
	if err != nil {
		return Member{}, err
	}
	if err := s.ledger.Drain(ctx, p.ID); err != nil {
		return Member{}, err
	}
	return s.Peer(ctx, nameOrID)
}

// Appeal is what a member says against its standing and was not answered yet.
func (m Member) Appeal() string {
	if said := m.Line.Report.Appeal; said != m.Answered {
		return said
	}
	return ""
}

// appealed takes note of what a peer says against its standing: once it says
// nothing, or something else, the same words are an appeal again.
func (s *Swarm) appealed(ctx context.Context, p peer.ID, text string) error {
	known, err := s.ledger.Find(p.String())
	if err != nil || known.Answered == "" || known.Answered == text {
		return err
	}
	return s.ledger.Answer(ctx, p, "")
}

// Reinstate makes a peer as one that is new, for a reason that is kept. Its
// appeal is answered so, and taken back at the peer.
func (s *Swarm) Reinstate(ctx context.Context, nameOrID, reason string) (Member, error) {
	p, err := s.ledger.Find(nameOrID)
	if err != nil {
		return Member{}, err
	}
	if err := s.standings.Reinstate(ctx, p.ID, reason); err != nil {
		return Member{}, err
	}
	for _, l := range s.lines.Lines() {
		if l.Peer != p.ID {
			continue
		}
		if err := s.ledger.Answer(ctx, p.ID, l.Report.Appeal); err != nil {
			return Member{}, err
		}
	}
	s.keeper.Members()
	return s.Peer(ctx, nameOrID)
}

// Silent are the peers with orders that they did not answer for that long.
func (s *Swarm) Silent(than time.Duration) []control.Line { return s.lines.Silent(than) }

// A Purged is the receipt of a peer that has purged a segment.
type Purged struct {
	Peer peer.ID
	Name string
	At   time.Time // by its clock
}

// Purged are the members that have signed, since then, that they purged a
// segment, those who did so last first. Their clocks may be a minute wrong.
func (s *Swarm) Purged(ctx context.Context, root cid.Cid, since time.Time) ([]Purged, error) {
	var all []Purged
	for _, p := range s.ledger.Peers() {
		receipts, err := s.lines.Receipts(ctx, p.ID, 0)
		if err != nil {
			return nil, err
		}
		for _, r := range receipts { // the newest first
			if r.Verb == control.Purge && r.Outcome == control.Done && bytes.Equal(r.Root.Hash(), root.Hash()) && r.At.After(since.Add(-time.Minute)) {
				all = append(all, Purged{p.ID, p.Name, r.At})
				break
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Purged) int { return b.At.Compare(a.At) })
	return all, nil
}
