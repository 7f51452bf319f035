package member

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/wire"
)

// A mark is what a ledger says of itself in a file outside of its store: a
// store that lost its last writes, or all of them, opens as if nothing were
// missing.
type mark struct {
	Realm   string `json:"realm"`
	Origin  string `json:"origin"`
	Roster  uint64 `json:"roster"`  // number of the newest
	Changes uint64 `json:"changes"` // that were made
}

// maxMark bounds the file, in bytes.
const maxMark = 4 << 10

func (l *Ledger) markOf(h head) mark {
	return mark{Realm: h.Realm, Origin: h.Origin.String(), Roster: h.Seq, Changes: h.Changes}
}

// readMark returns what was noted of the ledger before, if it was.
func (l *Ledger) readMark() (m mark, was bool, err error) {
	if l.opts.Mark == "" {
		return m, false, nil
	}
	f, err := os.Open(l.opts.Mark)
	if errors.Is(err, fs.ErrNotExist) {
		return m, false, nil
	}
	if err != nil {
		return m, false, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxMark))
	if err != nil {
		return m, false, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, false, fmt.Errorf("%w: read %s: %w", ErrDamaged, l.opts.Mark, err)
	}
	if m.Realm != l.opts.Realm || m.Origin != l.self.String() {
		return m, false, fmt.Errorf("%w: %s is of realm %.80q and origin %.80q", ErrDamaged, l.opts.Mark, m.Realm, m.Origin)
	}
	return m, true, nil
}

// noteMark notes how far the ledger is. Without the note a loss may go unseen,
// so a failure is no reason to undo what is durable already: it is logged, and
// made good at the next change.
func (l *Ledger) noteMark(h head) {
	if l.opts.Mark == "" {
		return
	}
	b, err := json.Marshal(l.markOf(h))
	if err == nil {
		err = replace(l.opts.Mark, append(b, '\n'))
	}
	if err != nil {
		l.opts.Log.Warn("note how far the ledger is: a loss of it might not be seen", "file", l.opts.Mark, "error", err)
	}
}

// checkWhole returns ErrDamaged if what was read is less than what was there.
func (l *Ledger) checkWhole(noted mark) error {
	switch h := l.head; {
	case h.Seq < noted.Roster || h.Changes < noted.Changes:
		return fmt.Errorf("%w: it ends with roster %d and change %d, and there were roster %d and change %d", ErrDamaged, h.Seq, h.Changes, noted.Roster, noted.Changes)
	case h.Sum != (sum{}) && h.Sum != l.sum:
		return fmt.Errorf("%w: %d peers and %d invites were read, which are not those that were written", ErrDamaged, len(l.peers), len(l.invited))
	}
	return nil
}

// A sum stands for a set of keys in the store: those of the peers and of the
// invitations.
type sum [sha256.Size]byte

// toggle puts a key in, or takes it out.
func (s *sum) toggle(k datastore.Key) {
	for i, b := range sha256.Sum256([]byte(k.String())) {
		s[i] ^= b
	}
}

// sumAfter is that of the keys which are there after a change.
func (l *Ledger) sumAfter(c change) sum {
	s := l.sum
	_, was := l.peers[c.peer.ID]
	if c.peer.ID != "" && was == c.remove {
		s.toggle(peerKey(c.peer.ID))
	}
	if c.invite != nil {
		if _, was := l.invited[c.invite.ID]; !was {
			s.toggle(inviteKey(c.invite.ID))
		}
	}
	for _, id := range c.shut {
		if _, was := l.invited[id]; was {
			s.toggle(inviteKey(id))
		}
	}
	return s
}

// mend writes again, as it is true, what a change that failed may have left in
// the store.
func (l *Ledger) mend(ctx context.Context, b datastore.Batch) (err error) {
	put := func(key datastore.Key, there bool, v any) {
		if !there {
			err = errors.Join(err, b.Delete(ctx, key))
			return
		}
		value, e := wire.Marshal(v)
		if e == nil {
			e = b.Put(ctx, key, value)
		}
		err = errors.Join(err, e)
	}
	for id := range l.unsure {
		p, isPeer := l.peers[id]
		put(peerKey(id), isPeer, p)
		i, isInvite := l.invited[id]
		put(inviteKey(id), isInvite, i)
	}
	return err
}

// doubt notes whom a change that failed was about.
func (l *Ledger) doubt(c change) {
	if l.unsure == nil {
		l.unsure = map[peer.ID]bool{}
	}
	if c.peer.ID != "" {
		l.unsure[c.peer.ID] = true
	}
	if c.invite != nil {
		l.unsure[c.invite.ID] = true
	}
	for _, id := range c.shut {
		l.unsure[id] = true
	}
}

// Outrun takes a roster that p has in place of a newer one, which it refuses:
// the ledger was restored from an older copy, and gave higher numbers once.
// All rosters get one above it, durably, and are followed again. One that this
// origin did not sign is refused with ErrRoster; nothing happens for one that
// is no higher than what p is given.
func (l *Ledger) Outrun(ctx context.Context, p peer.ID, e wire.Envelope) error {
	r, err := openRoster(l.self, l.opts.Realm, e)
	if err != nil {
		return fmt.Errorf("look at the roster of peer %s: %w", p, err)
	}
	mine, err := l.RosterFor(p)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	given := l.head.Trusted
	if l.peers[p].Role.Trusted() {
		given = l.head.Seq
	}
	if r.Seq < given || r.Seq == given && string(e.Payload) == string(mine.Payload) {
		return nil
	}
	head := l.head
	head.Seq = max(l.nextSeq(), r.Seq+1)
	head.Trusted = head.Seq
	if err := l.commit(ctx, change{head: head}); err != nil {
		return fmt.Errorf("outrun roster %d of peer %s: %w", r.Seq, p, err)
	}
	l.opts.Log.Warn("the ledger is older than a roster that a peer has, as after a restore from a backup: its rosters are numbered above that; peers that joined since the backup are strangers, and those that were removed since are members again",
		"peer", p, "roster", r.Seq, "was", given, "now", head.Seq)
	return nil
}
