package mutant

import (
	"iter"
	"testing"
)

// The same mutants come at every run, none of them is the text itself, and
// whoever has seen enough gets no more.
func TestMutants(t *testing.T) {
	const good, other = "eyJhbGciOiJFZERTQSJ9.e30.AAAA", "eyJhbGciOiJub25lIn0.e30."
	for name, all := range map[string]iter.Seq[Mutant]{
		"edits": Edits(good), "bytes": Bytes(good), "bytes of one part": Bytes("QUJD"), "mixes": Mixes(1, 500, good, other),
	} {
		var first []Mutant
		seen := map[string]bool{}
		for m := range all {
			first = append(first, m)
			seen[m.Text] = true
		}
		if len(seen) < 200 || seen[good] || seen[other] {
			t.Errorf("%s: %d mutants, the good ones among them: %v", name, len(seen), seen[good] || seen[other])
		}
		i := 0
		for m := range all {
			if m != first[i] {
				t.Fatalf("%s: %+v the second time, %+v the first", name, m, first[i])
			}
			if i++; i == 20 {
				break
			}
		}
	}
}
