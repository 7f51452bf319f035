package media

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestAnySplit shows that how the stream is cut into writes, whatever stands
// in it, makes no difference, and that a probe keeps little meanwhile.
func TestAnySplit(t *testing.T) {
	all := samples(t)
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	rapid.Check(t, func(t *rapid.T) {
		b := slices.Clone(all[rapid.SampledFrom(names).Draw(t, "name")])
		b = b[:rapid.IntRange(0, len(b)).Draw(t, "length")]
		for range rapid.IntRange(0, 4).Draw(t, "damages") {
			if at := rapid.IntRange(0, len(b)).Draw(t, "at"); at < len(b) {
				b[at] = rapid.Byte().Draw(t, "byte")
			}
		}
		want := probe(b)
		most := rapid.SampledFrom([]int{1, 7, 200, 5000, 100_000}).Draw(t, "most")
		p := NewProbe()
		for rest := b; len(rest) > 0; {
			n := min(len(rest), rapid.IntRange(1, most).Draw(t, "n"))
			if len(b)/most > 5000 {
				n = min(len(rest), most)
			}
			p.Write(slices.Clone(rest[:n]))
			rest = rest[n:]
			if c := cap(p.walk.held); c > maxHeld {
				t.Fatalf("%d bytes held", c)
			}
		}
		if got := p.Info(); got != want {
			t.Fatalf("in pieces %+v, in one %+v", got, want)
		}
		if got := p.Info(); got != want {
			t.Fatalf("asked again %+v", got)
		}
	})
}
