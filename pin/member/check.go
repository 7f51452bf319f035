package member

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Bounds of what is said about a peer.
const (
	maxWord  = 64  // bytes of a name, a site, a realm or a version
	maxAddrs = 16  // addresses of one peer
	maxAddr  = 256 // bytes of one address
)

// checkWord refuses a name that people could not read, type or tell from
// another: it is 1 to 64 bytes of printable characters without invisible ones
// and without any that change the direction of text, and has a letter or digit.
func checkWord(what, s string) error {
	var wrong string
	switch {
	case s == "":
		wrong = "is empty"
	case len(s) > maxWord:
		wrong = fmt.Sprintf("is longer than %d bytes", maxWord)
	case !utf8.ValidString(s):
		wrong = "is not UTF-8"
	case strings.ContainsFunc(s, invisible):
		wrong = "has a character that cannot be seen"
	case strings.TrimSpace(s) != s:
		wrong = "begins or ends with a space"
	case strings.ContainsAny(s, `/\`) || s[0] == '-':
		wrong = "has a slash, or begins with -"
	case !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }):
		wrong = "has no letter or digit"
	default:
		return nil
	}
	return fmt.Errorf("%w: %s %.80q %s", ErrInvalid, what, s, wrong)
}

// invisible reports whether r leaves no mark of its own where it is printed.
func invisible(r rune) bool {
	return !unicode.IsPrint(r) || unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) ||
		unicode.Is(unicode.Variation_Selector, r) || r == '\u2800'
}

// checkName refuses what checkWord does, and what could be taken for a peer ID.
func checkName(s string) error {
	if err := checkWord("name", s); err != nil {
		return err
	}
	if _, err := peer.Decode(s); err == nil {
		return fmt.Errorf("%w: name %q looks like a peer ID", ErrInvalid, s)
	}
	return nil
}

// optional passes an empty word.
func optional(what, s string) error {
	if s == "" {
		return nil
	}
	return checkWord(what, s)
}

// checkAddrs returns addrs as peers spell them, without the ID of the peer that
// they are of, and without repetition.
func checkAddrs(id peer.ID, addrs []string) ([]string, error) {
	if len(addrs) > maxAddrs {
		return nil, fmt.Errorf("%w: %d addresses, more than %d", ErrInvalid, len(addrs), maxAddrs)
	}
	var out []string
	seen := map[string]bool{}
	for _, s := range addrs {
		a, err := checkAddr(id, s)
		if err != nil {
			return nil, err
		}
		if !seen[a] {
			seen[a] = true
			out = append(out, a)
		}
	}
	return out, nil
}

// checkAddr is checkAddrs for one.
func checkAddr(id peer.ID, s string) (string, error) {
	if len(s) > maxAddr {
		return "", fmt.Errorf("%w: address %.80q is longer than %d bytes", ErrInvalid, s, maxAddr)
	}
	if strings.ContainsFunc(s, invisible) {
		return "", fmt.Errorf("%w: address %q has a character that cannot be seen", ErrInvalid, s)
	}
	a, err := ma.NewMultiaddr(s)
	if err != nil {
		return "", fmt.Errorf("%w: address %q: %w", ErrInvalid, s, err)
	}
	where, of := peer.SplitAddr(a)
	if of != "" && of != id {
		return "", fmt.Errorf("%w: address %q is another peer's", ErrInvalid, s)
	}
	if len(where) < 2 || !dialled(where[0].Code()) {
		return "", fmt.Errorf("%w: address %q is not like /ip4/192.0.2.1/tcp/4001 or /dns/example.org/udp/4001/quic-v1", ErrInvalid, s)
	}
	return where.String(), nil
}

// dialled reports whether addresses that begin so lead over the network.
func dialled(code int) bool {
	switch code {
	case ma.P_IP4, ma.P_IP6, ma.P_DNS, ma.P_DNS4, ma.P_DNS6:
		return true
	}
	return false
}

// check returns p as it is kept.
func (p Peer) check() (Peer, error) {
	if _, err := p.ID.ExtractPublicKey(); err != nil {
		return p, fmt.Errorf("%w: peer ID %q: %w", ErrInvalid, p.ID, err)
	}
	switch p.Role {
	case Origin, Storage, Replica, Guest:
	default:
		return p, fmt.Errorf("%w: role %.20q", ErrInvalid, p.Role)
	}
	if err := checkName(p.Name); err != nil {
		return p, err
	}
	if err := optional("site", p.Site); err != nil {
		return p, err
	}
	if err := p.Contract.Check(); err != nil {
		return p, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	addrs, err := checkAddrs(p.ID, p.Addrs)
	if err != nil {
		return p, err
	}
	p.Addrs = addrs
	return p, nil
}

// check refuses a roster that no ledger would give.
func (r Roster) check() error {
	if err := checkWord("realm", r.Realm); err != nil {
		return err
	}
	seen := make(map[peer.ID]bool, len(r.Peers))
	for _, p := range r.Peers {
		if _, err := p.check(); err != nil {
			return err
		}
		if seen[p.ID] {
			return fmt.Errorf("%w: peer %s is on the roster twice", ErrInvalid, p.ID)
		}
		seen[p.ID] = true
	}
	return nil
}
