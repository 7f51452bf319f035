package member

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/wire"
)

// LedgerOptions are what a Ledger is opened with.
type LedgerOptions struct {
	Store datastore.Batching // the ledger keeps itself under /member
	Key   crypto.PrivKey     // the origin's own, Ed25519: it signs rosters and invitations
	Realm string             // the name of the swarm
	// Mark is a file outside of the store that notes how far the ledger is, so
	// that a store which lost something is seen to have; "": none.
	Mark string

	Now          func() time.Time // nil: time.Now
	Rand         io.Reader        // for the seeds of invitations; nil: crypto/rand
	EnrolTimeout time.Duration    // how long one enrolment may take; 0: 30 s
	Log          *slog.Logger     // nil: none
}

// A Ledger is the origin's record of who belongs to its swarm and who was
// invited. What its methods did is durable when they return without an error.
// It is safe for concurrent use.
type Ledger struct {
	opts LedgerOptions
	self peer.ID
	gate *Gate

	mu      sync.Mutex
	head    head
	peers   map[peer.ID]Peer
	names   map[string]peer.ID
	invited map[peer.ID]invitation // by one-time identity
	bytes   int                    // of the roster, about
	sum     sum                    // of what is in peers and invited
	unsure  map[peer.ID]bool       // whose records a change that failed may have touched

	sorted   []Peer         // of peers; nil: to be made again
	forPeers *wire.Envelope // the roster of trusted peers; nil: to be made again
	forHosts *wire.Envelope // the roster of replicas
	signal   chan struct{}  // closed at the next change; nil: nobody waits
}

// Bounds of a roster, so that it fits in one frame of 16 MiB and in what
// package wire decodes.
const (
	maxRoster = 15 << 20 // bytes
	maxPeers  = 60_000
)

// OpenLedger reads the ledger of a swarm from its store, or begins one. A store
// with the ledger of another realm or of another key is refused, and one that
// lost what it had, with ErrDamaged.
func OpenLedger(ctx context.Context, o LedgerOptions) (*Ledger, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.EnrolTimeout == 0 {
		o.EnrolTimeout = 30 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := checkWord("realm", o.Realm); err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	self, err := peer.IDFromPrivateKey(o.Key)
	if err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	l := &Ledger{opts: o, self: self, gate: NewGate(self), peers: map[peer.ID]Peer{}, names: map[string]peer.ID{}, invited: map[peer.ID]invitation{}}
	l.gate.now, l.gate.roles, l.gate.once, l.gate.gone = o.Now, map[peer.ID]Role{}, map[peer.ID]time.Time{}, map[peer.ID]time.Time{}
	l.gate.log = o.Log
	if err := l.load(ctx); err != nil {
		return nil, fmt.Errorf("open the ledger of realm %q: %w", o.Realm, err)
	}
	return l, nil
}

// begin writes the first state of a ledger, or marks that it was opened: the
// rosters of a ledger that was restored from a copy are newer than those that
// were sent before.
func (l *Ledger) begin(ctx context.Context) error {
	own, ok := l.peers[l.self]
	if !ok {
		own = Peer{ID: l.self, Role: Origin, Name: string(Origin), Enrolled: l.now()}
	}
	head := l.head
	head.Realm, head.Origin = l.opts.Realm, l.self
	head.Seq = l.nextSeq()
	head.Trusted = head.Seq
	c := change{head: head, peer: own}
	for id, i := range l.invited {
		if !l.now().Before(i.until()) {
			c.shut = append(c.shut, id)
		}
	}
	return l.commit(ctx, c)
}

// nextSeq is the Seq of the next roster. It follows the clock so that a ledger
// that was restored from a copy does not fall behind what its peers know.
func (l *Ledger) nextSeq() uint64 {
	return max(l.head.Seq+1, uint64(max(0, l.opts.Now().UnixMilli())))
}

// now is the time as it is stored.
func (l *Ledger) now() time.Time { return l.opts.Now().UTC().Truncate(time.Second) }

// Gate returns the gate that admits who is in the ledger. It follows the ledger
// by itself.
func (l *Ledger) Gate() *Gate { return l.gate }

// Changed returns a channel that is closed at the next change of what Peers
// returns. To miss none, take the channel first and look at the peers then.
func (l *Ledger) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.signal == nil {
		l.signal = make(chan struct{})
	}
	return l.signal
}

// Peers returns all peers, the origin itself first among them, by role and then
// by name. The slices within them must not be changed.
func (l *Ledger) Peers() []Peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.list())
}

// list is Peers without the copy.
func (l *Ledger) list() []Peer {
	if l.sorted == nil {
		l.sorted = slices.SortedFunc(maps.Values(l.peers), func(a, b Peer) int {
			return cmp.Or(cmp.Compare(rank(a.Role), rank(b.Role)), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
		})
	}
	return l.sorted
}

// rank orders the roles.
func rank(r Role) int { return slices.Index([]Role{Origin, Storage, Replica, Guest}, r) }

// Find returns the peer of a name or of an ID. It returns ErrUnknown if there is
// none.
func (l *Ledger) Find(nameOrID string) (Peer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	id, ok := l.names[nameOrID]
	if !ok {
		id, _ = peer.Decode(nameOrID) // of nobody, if it is no ID
	}
	if p, ok := l.peers[id]; ok {
		return p, nil
	}
	return Peer{}, fmt.Errorf("find peer %.80q: %w", nameOrID, ErrUnknown)
}

// Admit puts a peer in the ledger that was not invited, such as a guest, by its
// ID. Without a name it gets one. One that is in the ledger already is changed.
func (l *Ledger) Admit(ctx context.Context, p Peer) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.admit(ctx, p); err != nil {
		return fmt.Errorf("admit peer %s: %w", p.ID, err)
	}
	return nil
}

func (l *Ledger) admit(ctx context.Context, p Peer) error {
	if p.Role == Origin || p.ID == l.self {
		return fmt.Errorf("%w: the swarm has its origin", ErrInvalid)
	}
	p, err := l.complete(p, "")
	if err != nil {
		return err
	}
	return l.commit(ctx, change{peer: p})
}

// complete gives p what it lacks and checks it. The name may be one that is
// promised to the invitation of a one-time identity.
func (l *Ledger) complete(p Peer, once peer.ID) (Peer, error) {
	if p.Name == "" {
		p.Name = l.freeName(p)
	}
	p.Enrolled = l.now()
	if old, ok := l.peers[p.ID]; ok {
		p.Enrolled = old.Enrolled
	}
	p, err := p.check()
	if err != nil {
		return p, err
	}
	return p, l.checkFree(p.Name, p.ID, once)
}

// freeName makes a name for one that has none.
func (l *Ledger) freeName(p Peer) string {
	id := p.ID.String()
	for n := min(6, len(id)); n < len(id); n++ {
		name := string(p.Role) + "-" + id[len(id)-n:]
		if l.checkFree(name, p.ID, "") == nil {
			return name
		}
	}
	return string(p.Role)
}

// checkFree returns ErrTaken if a name belongs to another than id, or is
// promised to another invitation than that of once.
func (l *Ledger) checkFree(name string, id, once peer.ID) error {
	if owner, ok := l.names[name]; ok && owner != id {
		return fmt.Errorf("name %q: %w", name, ErrTaken)
	}
	for of, i := range l.invited {
		if i.Name == name && of != once && l.open(i) {
			return fmt.Errorf("name %q: %w by an open invite", name, ErrTaken)
		}
	}
	return nil
}

// Remove takes a peer out of the ledger. An invitation that it used lets nobody
// in again. Of the 1,000 that were removed last, whoever connects is told so.
func (l *Ledger) Remove(ctx context.Context, id peer.ID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.known(id); err != nil {
		return fmt.Errorf("remove peer %s: %w", id, err)
	}
	c := change{peer: l.peers[id], remove: true}
	for once, i := range l.invited {
		if i.Used == id {
			c.shut = append(c.shut, once)
		}
	}
	if err := l.commit(ctx, c); err != nil {
		return fmt.Errorf("remove peer %s: %w", id, err)
	}
	return nil
}

// known returns an error unless id is a peer that can be drained or removed.
func (l *Ledger) known(id peer.ID) error {
	if id == l.self {
		return fmt.Errorf("%w: it is the origin itself", ErrInvalid)
	}
	if _, ok := l.peers[id]; !ok {
		return ErrUnknown
	}
	return nil
}

// Drain marks a peer as one that gives away what it has. Admitting or inviting
// it anew takes the mark away.
func (l *Ledger) Drain(ctx context.Context, id peer.ID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.known(id)
	if err == nil {
		p := l.peers[id]
		p.Draining = true
		err = l.commit(ctx, change{peer: p})
	}
	if err != nil {
		return fmt.Errorf("drain peer %s: %w", id, err)
	}
	return nil
}

// Update records what a peer offers, and where it can be dialled. Nothing is
// written if that is known. The origin's own addresses are given so, too.
func (l *Ledger) Update(ctx context.Context, id peer.ID, c contract.Contract, addrs []string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, ok := l.peers[id]
	if !ok {
		return fmt.Errorf("update peer %s: %w", id, ErrUnknown)
	}
	p.Contract, p.Addrs = c, addrs
	p, err := p.check()
	if err == nil {
		err = l.commit(ctx, change{peer: p})
	}
	if err != nil {
		return fmt.Errorf("update peer %s: %w", id, err)
	}
	return nil
}

// Answer records that the appeal of a peer was answered, in the words of the
// appeal; "" when it appeals no more.
func (l *Ledger) Answer(ctx context.Context, id peer.ID, appeal string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, ok := l.peers[id]
	if !ok {
		return fmt.Errorf("answer peer %s: %w", id, ErrUnknown)
	}
	p.Answered = appeal
	if err := l.commit(ctx, change{peer: p}); err != nil {
		return fmt.Errorf("answer peer %s: %w", id, err)
	}
	return nil
}

// same reports whether two lines of the ledger say the same.
func same(a, b Peer) bool {
	if !a.Enrolled.Equal(b.Enrolled) || !slices.Equal(a.Addrs, b.Addrs) || !slices.Equal(a.Contract.Label, b.Contract.Label) {
		return false
	}
	b.Enrolled, b.Addrs, b.Contract.Label = a.Enrolled, a.Addrs, a.Contract.Label
	return reflect.DeepEqual(a, b)
}
