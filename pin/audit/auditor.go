package audit

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	defaultDeadline = 10 * time.Second
	defaultPerLeaf  = 25 * time.Millisecond // a seek of a slow disk, and what it reads
)

// AuditorOptions are what an auditor needs. Host and Store must be set.
type AuditorOptions struct {
	Host     host.Host
	Source   Source             // the auditor's own copies; nil: it has none
	Store    datastore.Batching // spare answers, under /audit
	Deadline time.Duration      // for a whole batch; 0: 10 s
	PerLeaf  time.Duration      // added for each leaf that is asked about; 0: 25 ms
	Spares   int                // spare answers to keep of each root that is read anyway; 0: none
	Rand     io.Reader          // nil: the system's
	Now      func() time.Time   // nil: time.Now
	Log      *slog.Logger       // nil: silent
}

// An Auditor challenges peers and judges what they say. Its methods may be
// called at once; a peer gets one batch after the other.
type Auditor struct {
	o      AuditorOptions
	spares *spares
	lines  *lines
}

// NewAuditor makes an Auditor. There is nothing to close: an audit ends with
// its context.
func NewAuditor(o AuditorOptions) *Auditor {
	if o.Deadline <= 0 {
		o.Deadline = defaultDeadline
	}
	if o.PerLeaf <= 0 {
		o.PerLeaf = defaultPerLeaf
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Auditor{o: o, spares: &spares{store: o.Store}, lines: newLines()}
}

// A Result is what came of a challenge about one root.
type Result struct {
	Root    cid.Cid
	Outcome Outcome       // empty: there is none, for Err says why, and nothing is held against the peer
	Err     error         // more about an outcome that is not proved; ErrNoSpare
	Took    time.Duration // from sending the batch to the answer
}

// challenge is a question in the making and what became of it.
type challenge struct {
	Challenge
	want   answer
	known  bool // want is set
	spare  bool // want came from a spare
	result *Result
}

// Audit challenges p about up to MaxBatch roots and says what came of each, in
// the order of roots. The error is about the audit itself: then nothing is held
// against the peer. A peer that is not connected is not dialled.
func (a *Auditor) Audit(ctx context.Context, p peer.ID, roots []cid.Cid) ([]Result, error) {
	if len(roots) > MaxBatch {
		return nil, fmt.Errorf("audit %s: %d segments at once, at most %d", p, len(roots), MaxBatch)
	}
	results := make([]Result, len(roots))
	for i, root := range roots {
		results[i].Root = root
	}
	if len(roots) == 0 {
		return results, nil
	}
	leave, err := a.lines.enter(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("audit %s: %w", p, err)
	}
	defer leave()
	if err := a.audit(ctx, p, results); err != nil {
		return nil, fmt.Errorf("audit %s: %w", p, err)
	}
	return results, nil
}

func (a *Auditor) audit(ctx context.Context, p peer.ID, results []Result) error {
	if !connected(a.o.Host, p) {
		return away(results, network.ErrNoConn)
	}
	chs, err := a.prepare(ctx, results)
	if err != nil {
		return err
	}
	s, err := a.stream(ctx, p)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		if !connected(a.o.Host, p) {
			return away(results, err)
		}
		for i := range results {
			results[i].Outcome, results[i].Err = Late, fmt.Errorf("no stream for an audit: %w", err)
		}
		return nil
	}
	defer s.Reset()
	if chs, err = a.useSpares(ctx, chs); err != nil {
		return err
	}
	if len(chs) > 0 {
		if err := a.ask(ctx, s, chs); err != nil {
			return err
		}
	}
	return a.review(ctx, chs)
}

// away is what is said of a peer that is not there.
func away(results []Result, err error) error {
	for i := range results {
		results[i].Outcome, results[i].Err = Offline, err
	}
	return nil
}

// stream opens one to a peer that is connected, within the deadline.
func (a *Auditor) stream(ctx context.Context, p peer.ID) (network.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, a.o.Deadline)
	defer cancel()
	ctx = network.WithNoDial(network.WithAllowLimitedConn(ctx, "audit"), "audit")
	return a.o.Host.NewStream(ctx, p, Protocol)
}

// prepare draws nonces and works out the answers about the roots that this
// machine has. The order of the challenges is that of their nonces: no peer can
// know which root comes last.
func (a *Auditor) prepare(ctx context.Context, results []Result) ([]challenge, error) {
	nonces, err := newNonces(a.o.Rand, len(results))
	if err != nil {
		return nil, err
	}
	chs := make([]challenge, len(results))
	for i := range results {
		chs[i].Root, chs[i].Nonce, chs[i].result = results[i].Root, nonces[i], &results[i]
		if a.o.Source == nil {
			continue
		}
		want, err := answers(ctx, &reading{src: a.o.Source}, chs[i].Root, nonces[i:i+1])
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			a.o.Log.Debug("audit needs a spare answer", "root", chs[i].Root, "err", err)
			continue
		}
		chs[i].want, chs[i].known = want[0], true
	}
	return chs, nil
}

// useSpares gives each challenge without a known answer a spare, and leaves out
// those for which there is none.
func (a *Auditor) useSpares(ctx context.Context, chs []challenge) ([]challenge, error) {
	var roots []cid.Cid
	for i := range chs {
		if !chs[i].known {
			roots = append(roots, chs[i].Root)
		}
	}
	taken, err := a.spares.take(ctx, roots)
	if err != nil {
		return nil, err
	}
	out := chs[:0]
	for _, ch := range chs {
		if !ch.known {
			s := taken[0]
			taken = taken[1:]
			if s == nil {
				ch.result.Err = ErrNoSpare
				continue
			}
			ch.Nonce, ch.want, ch.known, ch.spare = s.nonce, s.answer, true, true
		}
		out = append(out, ch)
	}
	slices.SortFunc(out, func(a, b challenge) int { return bytes.Compare(a.Nonce[:], b.Nonce[:]) })
	return out, nil
}

// review gives honest peers their due: where this machine's own bytes made an
// answer wrong, they are checked against their CIDs first. Then it fills up the
// spares of what can be read here.
func (a *Auditor) review(ctx context.Context, chs []challenge) error {
	for i := range chs {
		ch := &chs[i]
		if ch.spare || !errors.Is(ch.result.Err, errMismatch) {
			continue
		}
		want, err := answers(ctx, &reading{src: a.o.Source, checked: true}, ch.Root, [][16]byte{ch.Nonce})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || want[0].mac != ch.want.mac {
			ch.result.Outcome, ch.result.Err = "", errors.Join(errors.New("own copy cannot judge"), err)
		}
	}
	for _, ch := range chs {
		if ch.spare || a.o.Spares <= 0 {
			continue
		}
		if err := a.Precompute(ctx, ch.Root, a.o.Spares); ctx.Err() != nil {
			return ctx.Err()
		} else if err != nil {
			a.o.Log.Warn("no spare answers made", "root", ch.Root, "err", err)
		}
	}
	return nil
}

// Precompute fills up the spare answers of root to n, at most MaxSpares, from
// bytes that it checks against their CIDs. They are durable on return as far as
// the store is.
func (a *Auditor) Precompute(ctx context.Context, root cid.Cid, n int) error {
	n = min(n, MaxSpares)
	have, err := a.spares.count(ctx, root)
	if err != nil || have >= n {
		return err
	}
	if a.o.Source == nil {
		return fmt.Errorf("make spare answers of %s: no copies here", root)
	}
	nonces, err := newNonces(a.o.Rand, n-have)
	if err != nil {
		return err
	}
	as, err := answers(ctx, &reading{src: a.o.Source, checked: true}, root, nonces)
	if err != nil {
		return fmt.Errorf("make spare answers: %w", err)
	}
	more := make([]spare, len(as))
	for i := range as {
		more[i] = spare{nonce: nonces[i], answer: as[i]}
	}
	return a.spares.add(ctx, root, more, n)
}

// Spares is how many spare answers there are of root.
func (a *Auditor) Spares(ctx context.Context, root cid.Cid) (int, error) {
	return a.spares.count(ctx, root)
}

// Forget deletes the spare answers of a root that is gone for good.
func (a *Auditor) Forget(ctx context.Context, root cid.Cid) error {
	return a.spares.forget(ctx, root)
}
