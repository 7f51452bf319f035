// Package mutant spoils credentials and URLs for tests: out of a text that is
// right it makes tens of thousands that are not, the same ones at every run.
//
// It does not know what a text means, who reads it, or whether a mutant of it
// may be right as well.
package mutant

import (
	"encoding/base64"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
)

// A Mutant is a text that differs from the one that it was made of.
type Mutant struct {
	Way  string // how it was made
	Text string
}

// collector yields mutants, but for those that are the good text itself.
type collector struct {
	good  string
	yield func(Mutant) bool
	ended bool
}

// put yields one more, and reports whether the next is wanted.
func (c *collector) put(text, way string, args ...any) bool {
	if !c.ended && text != c.good {
		c.ended = !c.yield(Mutant{fmt.Sprintf(way, args...), text})
	}
	return !c.ended
}

// seq makes an iterator of what make puts.
func seq(good string, make func(*collector)) iter.Seq[Mutant] {
	return func(yield func(Mutant) bool) { make(&collector{good: good, yield: yield}) }
}

// stray is what has no place in a credential or has another one.
func stray() []string {
	return []string{
		"=", "==", " ", "\t", "\x00", "\u00a0", "\u200b", "\ufeff", "\xff", ".", "..", "A", "-", "_", "+", "/", "%", "%00", "%2e", "%3d", "\"", "'", ",", ";", "&", "#",
	}
}

// Edits yields every text that is one small edit away: each bit flipped, each
// byte dropped or doubled or of the other case, each two neighbours swapped,
// each place cut at, from either side, and each stray text put into each place.
func Edits(good string) iter.Seq[Mutant] {
	return seq(good, func(c *collector) {
		for i := range len(good) {
			before, after := good[:i], good[i+1:]
			for bit := range 8 {
				c.put(before+string([]byte{good[i] ^ 1<<bit})+after, "bit %d of byte %d flipped", bit, i)
			}
			c.put(before+after, "byte %d dropped", i)
			c.put(good[:i+1]+good[i:], "byte %d doubled", i)
			c.put(before+swapCase(good[i:i+1])+after, "byte %d of the other case", i)
			c.put(before, "cut before byte %d", i)
			c.put(after, "begins after byte %d", i)
			c.put(good[i:]+before, "turned by %d", i)
			if i > 0 {
				c.put(good[:i-1]+good[i:i+1]+good[i-1:i]+after, "bytes %d and %d swapped", i-1, i)
			}
			if c.ended {
				return
			}
		}
		for i := range len(good) + 1 {
			for _, s := range stray() {
				c.put(good[:i]+s+good[i:], "%q put before byte %d", s, i)
			}
			if c.ended {
				return
			}
		}
	})
}

func swapCase(s string) string {
	if up := strings.ToUpper(s); up != s {
		return up
	}
	return strings.ToLower(s)
}

// Bytes yields texts whose base64url, part by part between the dots, is right,
// and whose bytes are not: each set to every other value if the text has one
// part, each bit flipped if it has several, each byte dropped or doubled, and
// each part cut at each place.
func Bytes(good string) iter.Seq[Mutant] {
	parts := strings.Split(good, ".")
	return seq(good, func(c *collector) {
		for n, part := range parts {
			b, err := base64.RawURLEncoding.DecodeString(part)
			if err != nil {
				continue
			}
			put := func(changed []byte, way string, args ...any) {
				all := append([]string(nil), parts...)
				all[n] = base64.RawURLEncoding.EncodeToString(changed)
				c.put(strings.Join(all, "."), "part %d: "+way, append([]any{n}, args...)...)
			}
			for i := range b {
				for _, v := range others(b[i], len(parts) == 1) {
					put(splice(b[:i], []byte{v}, b[i+1:]), "byte %d is %#x", i, v)
				}
				put(splice(b[:i], b[i+1:]), "byte %d dropped", i)
				put(splice(b[:i+1], b[i:]), "byte %d doubled", i)
				put(b[:i], "cut before byte %d", i)
				put(b[i:], "begins with byte %d", i)
				if c.ended {
					return
				}
			}
		}
	})
}

// others are values that a byte can have instead of v: all, or those that
// differ in one bit.
func others(v byte, all bool) []byte {
	var o []byte
	for x := range 256 {
		if d := byte(x) ^ v; d != 0 && (all || d&(d-1) == 0) {
			o = append(o, byte(x))
		}
	}
	return o
}

func splice(pieces ...[]byte) []byte {
	var b []byte
	for _, p := range pieces {
		b = append(b, p...)
	}
	return b
}

// Mixes yields n texts, drawn by seed, with several edits each, or with pieces
// of another good text.
func Mixes(seed uint64, n int, good, other string) iter.Seq[Mutant] {
	return seq(good, func(c *collector) {
		r := rand.New(rand.NewPCG(seed, seed))
		for i := range n {
			text := good
			if r.IntN(3) == 0 {
				text = good[:r.IntN(len(good))] + other[r.IntN(len(other)):]
			}
			for range 1 + r.IntN(6) {
				text = edit(r, text)
			}
			if text == other {
				continue
			}
			if !c.put(text, "mix %d of seed %d", i, seed) {
				return
			}
		}
	})
}

// edit changes a text at one place.
func edit(r *rand.Rand, text string) string {
	if text == "" {
		return "A"
	}
	i := r.IntN(len(text))
	j := min(len(text), i+1+r.IntN(8))
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	switch r.IntN(6) {
	case 0:
		return text[:i] + alphabet[r.IntN(64):][:1] + text[i+1:]
	case 1:
		return text[:i] + string([]byte{byte(r.IntN(256))}) + text[i+1:]
	case 2:
		return text[:i] + text[j:]
	case 3:
		return text[:j] + text[i:]
	case 4:
		return text[:i] + stray()[r.IntN(len(stray()))] + text[i:]
	}
	return text[:i] + strings.ToUpper(text[i:j]) + text[j:]
}
