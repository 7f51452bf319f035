// Package remote keeps extra copies of segments at pinning services: whoever
// speaks the IPFS Pinning Service API and is paid to hold ciphertext. It asks
// each service to pin, follows what the service says, asks again when that was
// in vain, and takes the request back when the segment is removed.
//
// A service's word is all there is: nothing here proves that it holds a
// segment, and nothing is sent to it but CIDs, random labels and the addresses
// where the blocks can be fetched.
//
// The nodes by which a service fetches are let in for as long as it is about to
// pin something, to have those segments alone.
//
// A service is a stranger on the network. Connections go to public addresses
// only, whatever a name resolves to, over TLS, and to no other host; so are those
// to its nodes, unless its endpoint is written as a loopback or private address,
// which then may be theirs. Answers are bounded in size and time. The token is read from its file for each
// request and is in no record, error or log.
//
// It does not know what should be kept, or who else holds it.
package remote

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/internal/outbound"
)

var (
	// ErrService says that there is no service of that name.
	ErrService = errors.New("no such pinning service")
	// ErrExists says that there is a service of that name, or with that endpoint.
	ErrExists = errors.New("there is one already")
	// ErrInvalid says that a service cannot be as described.
	ErrInvalid = errors.New("not a pinning service")
	// ErrRefused says that a connection was not made, because of where it would
	// have gone.
	ErrRefused = outbound.ErrRefused
)

// A Service is where copies are kept.
type Service struct {
	Name      string    `cbor:"1,keyasint"` // at most 32 letters, digits, dots and dashes
	Endpoint  string    `cbor:"2,keyasint"` // https://host/path; http is for loopback alone
	TokenFile string    `cbor:"3,keyasint"` // absolute path of a file with the access token, mode 0600
	Added     time.Time `cbor:"4,keyasint"` // set by Add
	Leaving   bool      `cbor:"5,keyasint,omitempty"`
}

// A State is how far a service is with a segment.
type State string

// The states of a copy at a service.
const (
	Waiting  State = "waiting"  // to be asked for
	Queued   State = "queued"   // asked for; the service has not begun
	Pinning  State = "pinning"  // the service fetches it
	Pinned   State = "pinned"   // the service says that it holds it
	Failed   State = "failed"   // it could not be asked, or could not do it; tried again
	Removing State = "removing" // the segment was removed; the service has not confirmed
)

// A Copy is what is known of one segment at one service.
type Copy struct {
	Service string
	State   State
	Since   time.Time
	Reason  string
	Next    time.Time // when it is looked at again
}

// Pinned reports whether the service says that it holds the segment.
func (c Copy) Pinned() bool { return c.State == Pinned }

// A Status is how a service does.
type Status struct {
	Service
	Copies map[State]int
	Error  string    // of the last request; empty: it went well
	At     time.Time // of the last request
	Reason string    // Error, or why one of the copies failed; empty: none did
	Next   time.Time // when what failed, or was not confirmed, is tried again; zero: nothing is to be
}

// Timing is how long things take. Fields that are 0 have the default.
type Timing struct {
	Poll    time.Duration // before a service is first asked how far it is; doubles up to ten minutes: 5 seconds
	Check   time.Duration // after which a pinned segment is asked for again: 24 hours
	Retry   time.Duration // before the first new try; doubles up to an hour: 10 seconds
	Request time.Duration // that a request may take: 5 seconds
	Visit   time.Duration // that the nodes of a service may fetch for one request: 24 hours
}

func (t Timing) withDefaults() Timing {
	for _, f := range []struct {
		d *time.Duration
		v time.Duration
	}{{&t.Poll, 5 * time.Second}, {&t.Check, 24 * time.Hour}, {&t.Retry, 10 * time.Second}, {&t.Request, 5 * time.Second}, {&t.Visit, 24 * time.Hour}} {
		if *f.d <= 0 {
			*f.d = f.v
		}
	}
	return t
}

// Options are what Services work with.
type Options struct {
	Store    datastore.Batching // under /remote
	Origins  func() []string    // multiaddrs with peer ID where services can fetch blocks; nil: none
	Visitors Visitors           // nil: the nodes of services are not let in
	Allow    []netip.Prefix     // addresses that are not public and may be connected to all the same
	Roots    *x509.CertPool     // nil: the system's
	Resolver *net.Resolver      // of the names of services' nodes; nil: the system's
	Changed  func(root cid.Cid) // told when a copy's state changed, with no lock held; nil: nobody
	Timing   Timing
	Now      func() time.Time // nil: time.Now
	Log      *slog.Logger     // nil: silent
}

// Services are all pinning services and the copies there. The methods are safe
// for concurrent use.
type Services struct {
	o      Options
	log    *slog.Logger
	timing Timing
	client *http.Client
	wake   chan struct{}
	free   chan struct{} // told when a request has ended
	visits visits

	mu       sync.Mutex
	services map[string]*service
	keeping  map[cid.Cid]string // what is wanted, and its label
}

// Open reads what services there are and how far they were. Nothing is asked of
// them before Run.
func Open(ctx context.Context, o Options) (*Services, error) {
	if o.Store == nil {
		return nil, errors.New("open pinning services: needs a store")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Services{
		o: o, log: o.Log, timing: o.Timing.withDefaults(),
		wake: make(chan struct{}, 1), free: make(chan struct{}, 1),
		services: map[string]*service{}, keeping: map[cid.Cid]string{},
		visits: visits{houses: map[string]*house{}, books: map[string]*book{}, inside: map[peer.ID]time.Time{}},
	}
	o.Timing = s.timing
	s.client = newClient(o)
	if err := s.load(ctx); err != nil {
		return nil, fmt.Errorf("open pinning services: %w", err)
	}
	return s, nil
}

// maxServices bounds how many services there are.
const maxServices = 16

// Add adds a service, which gets a copy of every segment that is kept. It is
// durable on return; nothing has been asked of the service then. A token file
// that cannot be used now is refused with ErrToken.
func (s *Services) Add(ctx context.Context, v Service) error {
	if err := s.check(v); err != nil {
		return fmt.Errorf("add a pinning service: %w", err)
	}
	if _, err := readToken(v.TokenFile); err != nil {
		return fmt.Errorf("add a pinning service: %w", err)
	}
	v.Endpoint = strings.TrimRight(v.Endpoint, "/")
	v.Added, v.Leaving = s.o.Now().UTC().Truncate(time.Second), false
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.services[v.Name] != nil {
		return fmt.Errorf("add pinning service %q: %w of that name", v.Name, ErrExists)
	}
	for _, other := range s.services {
		if other.Endpoint == v.Endpoint {
			return fmt.Errorf("add pinning service %q: %w with that endpoint, %q", v.Name, ErrExists, other.Name)
		}
	}
	if len(s.services) >= maxServices {
		return fmt.Errorf("add %q: %w: there are %d already", v.Name, ErrInvalid, maxServices)
	}
	if err := s.putService(ctx, v); err != nil {
		return fmt.Errorf("add %q: %w", v.Name, err)
	}
	n := &service{Service: v, pins: map[cid.Cid]*pin{}}
	s.services[v.Name] = n
	for root, label := range s.keeping {
		s.want(n, root, label)
	}
	s.stir()
	return nil
}

// Remove has a service delete all its copies and forgets it when that is done.
// Removing it once more forgets it at once, whatever it holds. It is durable on
// return.
func (s *Services) Remove(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.services[name]
	if n == nil {
		return fmt.Errorf("remove %q: %w", name, ErrService)
	}
	if n.Leaving {
		return s.forget(ctx, n)
	}
	v := n.Service
	v.Leaving = true
	if err := s.putService(ctx, v); err != nil {
		return fmt.Errorf("remove %q: %w", name, err)
	}
	n.Service = v
	for root := range n.pins {
		s.unwant(n, root)
	}
	if len(n.pins) == 0 {
		return s.forget(ctx, n)
	}
	s.stir()
	return nil
}

// List gives all services, by name.
func (s *Services) List() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Status, 0, len(s.services))
	for _, n := range s.services {
		out = append(out, n.status())
	}
	slices.SortFunc(out, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Keep has every service hold a segment, now and whenever one is added. It does
// not block, and it is cheap when it is kept already. The label goes into the
// name of the pin: it must say nothing.
func (s *Services) Keep(root cid.Cid, label string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keeping[root] = label
	for _, n := range s.services {
		if p := n.pins[root]; !n.Leaving && (p == nil || p.state == Removing) {
			s.want(n, root, label)
			s.stir()
		}
	}
}

// Drop has every service delete a segment. It does not block. Copies names the
// services that have not confirmed it.
func (s *Services) Drop(root cid.Cid) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keeping, root)
	for _, n := range s.services {
		if n.pins[root] != nil {
			s.unwant(n, root)
		}
	}
	s.stir()
}

// Copies is what is known of a segment, by the name of the service.
func (s *Services) Copies(root cid.Cid) []Copy {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Copy
	for _, n := range s.services {
		if p := n.pins[root]; p != nil {
			out = append(out, Copy{Service: n.Name, State: p.state, Since: p.since, Reason: p.reason, Next: p.next})
		}
	}
	slices.SortFunc(out, func(a, b Copy) int { return strings.Compare(a.Service, b.Service) })
	return out
}

// stir has Run look for what there is to do.
func (s *Services) stir() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
