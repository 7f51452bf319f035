package control

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	mh "github.com/multiformats/go-multihash"

	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/wire"
)

const (
	maxReason  = 200     // bytes
	maxAppeal  = 1000    // bytes
	maxVersion = 64      // bytes
	maxWord    = 32      // bytes of a standing or of the outcome of an audit
	maxLabel   = 64      // bytes
	maxRealm   = 256     // bytes
	maxAddrs   = 16      // of a report
	maxAddr    = 256     // bytes
	maxBytes   = 1 << 50 // of a segment or of a disk
	maxRoot    = 64      // bytes of a CID

	// maxPause is for how long a peer may announce to be away.
	maxPause = 30 * 24 * time.Hour
)

func kind(what, realm string) string { return what + "/" + realm }

// text refuses a string that is too long, or that does not print as it reads.
func text(what, s string, max int) error {
	if len(s) > max {
		return fmt.Errorf("%w: %s of %d bytes, at most %d", ErrInvalid, what, len(s), max)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("%w: %s does not print", ErrInvalid, what)
	}
	return nil
}

// plain makes a string fit for text.
func plain(s string, max int) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) > max {
		s = strings.ToValidUTF8(s[:max], "")
	}
	return s
}

func checkRoot(c cid.Cid) error {
	if !c.Defined() || c.ByteLen() > maxRoot {
		return fmt.Errorf("%w: root", ErrInvalid)
	}
	if c.Prefix().MhType == mh.IDENTITY {
		return fmt.Errorf("%w: root %s names no hash", ErrInvalid, c)
	}
	return nil
}

// checkTime refuses times that cannot be printed.
func checkTime(what string, t time.Time) error {
	if t.IsZero() {
		return nil
	}
	if y := t.UTC().Year(); y < 1970 || y > 9000 {
		return fmt.Errorf("%w: %s in the year %d", ErrInvalid, what, y)
	}
	return nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func checkBytes(what string, n int64) error {
	if n < 0 || n > maxBytes {
		return fmt.Errorf("%w: %s %d", ErrInvalid, what, n)
	}
	return nil
}

func (v Verb) known() bool { return v == Hold || v == Drop || v == Purge }

// urgent reports whether the verb takes something away, which goes first.
func (v Verb) urgent() bool { return v == Drop || v == Purge }

func (o Outcome) known() bool {
	switch o {
	case Done, Full, Outside, Failed, Lost:
		return true
	}
	return false
}

// final reports whether an order with the outcome is over.
func (o Outcome) final() bool { return o == Done || o == Full || o == Outside }

func (i Instruction) check() error {
	if !i.Verb.known() {
		return fmt.Errorf("%w: verb %q", ErrInvalid, i.Verb)
	}
	if i.Lifted && i.Verb != Hold {
		return fmt.Errorf("%w: a lifted %s", ErrInvalid, i.Verb)
	}
	if err := checkBytes("size", i.Size); err != nil {
		return err
	}
	if err := text("label", i.Label, maxLabel); err != nil {
		return err
	}
	return checkRoot(i.Root)
}

func (o Order) instruction() Instruction {
	return Instruction{o.Verb, o.Root, o.Size, o.Label, o.Lifted}
}

func (o Order) check() error {
	if o.Seq == 0 || o.Seq > maxSeq {
		return fmt.Errorf("%w: order number %d", ErrInvalid, o.Seq)
	}
	if err := checkTime("issued", o.Issued); err != nil {
		return err
	}
	return o.instruction().check()
}

func (r Receipt) check() error {
	if r.Seq > maxSeq || !r.Verb.known() || !r.Outcome.known() {
		return fmt.Errorf("%w: verb or outcome of the receipt for order %d", ErrInvalid, r.Seq)
	}
	if r.Outcome == Lost && r.Seq != 0 {
		return fmt.Errorf("%w: no order is to lose a segment", ErrInvalid)
	}
	if err := text("reason", r.Reason, maxReason); err != nil {
		return err
	}
	if err := checkTime("time", r.At); err != nil {
		return err
	}
	return checkRoot(r.Root)
}

func (r Report) check() error {
	if err := r.Contract.Check(); err != nil {
		return fmt.Errorf("%w: contract: %w", ErrInvalid, err)
	}
	for what, n := range map[string]int64{"held": r.Held, "used": r.Used, "free": r.Free, "served": r.Served} {
		if err := checkBytes(what, n); err != nil {
			return err
		}
	}
	if len(r.Addrs) > maxAddrs {
		return fmt.Errorf("%w: %d addresses", ErrInvalid, len(r.Addrs))
	}
	for _, a := range r.Addrs {
		if err := checkAddr(a); err != nil {
			return err
		}
	}
	if err := text("appeal", r.Appeal, maxAppeal); err != nil {
		return err
	}
	if err := text("version", r.Version, maxVersion); err != nil {
		return err
	}
	return checkTime("pause", r.Paused)
}

func checkAddr(a string) error {
	if err := text("address", a, maxAddr); err != nil {
		return err
	}
	if _, err := multiaddr.NewMultiaddr(a); err != nil {
		return fmt.Errorf("%w: address: %w", ErrInvalid, err)
	}
	return nil
}

// fit makes a report one that an origin takes.
func (r Report) fit() Report {
	var addrs []string
	for _, a := range r.Addrs {
		if checkAddr(a) == nil && len(addrs) < maxAddrs {
			addrs = append(addrs, a)
		}
	}
	r.Addrs = addrs
	if r.Contract.Check() != nil {
		r.Contract = contract.Contract{}
	}
	r.Appeal, r.Version = plain(r.Appeal, maxAppeal), plain(r.Version, maxVersion)
	r.Held, r.Used, r.Free, r.Served = natural(r.Held), natural(r.Used), natural(r.Free), natural(r.Served)
	if checkTime("", r.Paused) != nil {
		r.Paused = time.Time{}
	}
	return r
}

func (r Regard) check() error {
	for _, err := range []error{
		text("standing", r.Standing, maxWord), text("outcome of an audit", r.Audit, maxWord), text("reason", r.Reason, maxReason), text("appeal", r.Answered, maxAppeal),
		checkTime("time of a standing", r.Since), checkTime("time of an audit", r.Audited),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// fit makes a regard one that a peer takes, and that equals itself when it
// comes back.
func (r Regard) fit() Regard {
	r.Standing, r.Audit, r.Reason = plain(r.Standing, maxWord), plain(r.Audit, maxWord), plain(r.Reason, maxReason)
	r.Answered = plain(r.Answered, maxAppeal)
	r.Since, r.Audited = second(r.Since), second(r.Audited)
	return r
}

// second is t as precise as the line, or zero if the line cannot carry it.
func second(t time.Time) time.Time {
	if t.IsZero() || checkTime("", t) != nil {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Second)
}

func natural(n int64) int64 { return max(0, min(n, maxBytes)) }

// openOrders are orders that origin signed for self in realm, and nothing else.
func openOrders(e wire.Envelope, origin, self peer.ID, realm string) ([]Order, error) {
	var list []Order
	if err := wire.Open(origin, kind(OrderKind, realm), e, &list); err != nil {
		return nil, err
	}
	return list, checkOrders(list, self)
}

func checkOrders(list []Order, self peer.ID) error {
	if len(list) == 0 || len(list) > maxBatch {
		return fmt.Errorf("%w: %d orders at once", ErrInvalid, len(list))
	}
	for _, o := range list {
		if o.Peer != self {
			return fmt.Errorf("%w: order %d is for peer %s", ErrInvalid, o.Seq, o.Peer)
		}
		if err := o.check(); err != nil {
			return err
		}
	}
	return nil
}

// readReceipts are receipts whose signature is still to be verified.
func readReceipts(e wire.Envelope) ([]Receipt, error) {
	var list []Receipt
	if err := wire.Unmarshal(e.Payload, &list); err != nil {
		return nil, err
	}
	if len(list) == 0 || len(list) > 1 && slices.ContainsFunc(list, func(r Receipt) bool { return r.Verb.urgent() }) {
		return nil, fmt.Errorf("%w: %d receipts under one signature", ErrInvalid, len(list))
	}
	for i := range list {
		if err := list[i].check(); err != nil {
			return nil, err
		}
		list[i].At = list[i].At.UTC()
	}
	return list, nil
}

// fit makes a receipt one that an origin takes.
func (r Receipt) fit() Receipt {
	r.Reason, r.At = plain(r.Reason, maxReason), r.At.UTC().Truncate(time.Second)
	return r
}

// sealReceipts signs receipts.
func sealReceipts(key crypto.PrivKey, realm string, list ...Receipt) (wire.Envelope, error) {
	return wire.Seal(key, kind(ReceiptKind, realm), list)
}
