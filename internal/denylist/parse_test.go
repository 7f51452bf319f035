package denylist

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/mr-tron/base58"
	"github.com/multiformats/go-multibase"
	"github.com/multiformats/go-multihash"
)

func block(text string) cid.Cid {
	mh, err := multihash.Sum([]byte(text), multihash.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	return cid.NewCidV1(cid.Raw, mh)
}

func parsed(t testing.TB, text string) *parser {
	t.Helper()
	p, err := parse(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *parser) denies(c cid.Cid) bool {
	e, found := p.table.find(c.Hash())
	return found && !e.allows()
}

// H25, H52: every spelling of a block, and every way to name it, denies it under
// all of its CIDs.
func TestRules(t *testing.T) {
	c := block("bad")
	mh := c.Hash()
	hashed := func(code uint64) string {
		sum, err := multihash.Sum([]byte(base58.Encode(mh)), code, -1)
		if err != nil {
			t.Fatal(err)
		}
		return base58.Encode(sum)
	}
	old := func(c cid.Cid) string {
		sum := sha256.Sum256([]byte(c.String() + "/"))
		return hex.EncodeToString(sum[:])
	}
	rules := []string{
		"/ipfs/" + cid.NewCidV0(mh).String(), "/ipfs/" + cid.NewCidV1(cid.DagCBOR, mh).String(), "/ipfs/" + c.String() + "/*", "/ipfs/" + c.String() + "/",
		"/ipfs/" + c.String() + " reason:dmca status:410", "/ipfs/" + c.String() + "\r",
		"//" + hashed(multihash.SHA2_256), "//" + hashed(multihash.BLAKE3), "//" + hashed(multihash.SHA3_256),
		"//" + old(c), "//" + strings.ToUpper(old(cid.NewCidV1(cid.DagProtobuf, mh))),
	}
	for _, base := range []multibase.Encoding{multibase.Base16, multibase.Base16Upper, multibase.Base32, multibase.Base32Upper, multibase.Base36, multibase.Base58BTC, multibase.Base64url} {
		spelled, err := c.StringOfBase(base)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, "/ipfs/"+spelled)
	}
	for _, rule := range rules {
		p := parsed(t, "# a comment\n\n"+rule+"\n/ipfs/"+block("worse").String())
		if p.faulted > 0 || !p.denies(cid.NewCidV0(mh)) || p.denies(block("good")) || !p.denies(block("worse")) {
			t.Errorf("%q: %v", rule, p.faults)
		}
		if e, _ := p.table.find(mh); e.line() != 3 {
			t.Errorf("%q: line %d", rule, e.line())
		}
	}
}

// The rules of the example in the specification.
func TestExampleOfTheFormat(t *testing.T) {
	p := parsed(t, `version: 1
name: Example IPFSCorp blocking list
author: abuse-ipfscorp@example.com
hints:
  hint: value
---
# Blocking by CID is codec-agnostic (blocks by multihash).
/ipfs/bafybeihvvulpp4evxj7x7armbqcyg6uezzuig6jp3lktpbovlqfkuqeuoq
/ipfs/Qmah2YDTfrox4watLCr3YgKyBwvjq8FJZEFdWY6WtJ3Xt2/test*
!/ipfs/QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK/blocked/not
/ipns/domain.example
/ipns/k51qzi5uqu5dhmzyv3zac033i7rl9hkgczxyl81lwoukda2htteop7d3x0y1mf
//QmX9dhRcQcKUw3Ws8485T5a9dtjrSCQaUAHnG4iK9i4ceM
//gW813G35CnLsy7gRYYHuf63hrz71U1xoLFDVeV7actx6oX
//d9d295bde21f422d471a90f2a37ec53049fdf3e5fa3ee2e8f20e10003da429e7
//c555c4de78827ba42527dd3dc5398db38d6c0a8c345a88e0158b2d100f317e50
`)
	if p.faulted > 0 || p.table.passed != 4 {
		t.Errorf("%d passed over, faults %v", p.table.passed, p.faults)
	}
	for spelled, denied := range map[string]bool{
		"bafybeihvvulpp4evxj7x7armbqcyg6uezzuig6jp3lktpbovlqfkuqeuoq": true,
		"QmVTF1yEejXd9iMgoRTFDxBv7HAz9kuZcQNBzHrceuK9HR":              true,
		"bafybeidjwik6im54nrpfg7osdvmx7zojl5oaxqel5cmsz46iuelwf5acja": true,
		"bafybeiefwqslmf6zyyrxodaxx4vwqircuxpza5ri45ws3y5a62ypxti42e": true,
		"Qmah2YDTfrox4watLCr3YgKyBwvjq8FJZEFdWY6WtJ3Xt2":              false,
		"QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK":              false,
	} {
		c, err := cid.Decode(spelled)
		if err != nil {
			t.Fatal(err)
		}
		if p.denies(c) != denied {
			t.Errorf("%s: denied %v", spelled, !denied)
		}
	}
}

// H52: the last rule about a block decides, whichever way it is named.
func TestNegativeRules(t *testing.T) {
	c := block("bad")
	sum := sha256.Sum256([]byte(base58.Encode(c.Hash())))
	mh, _ := multihash.Encode(sum[:], multihash.SHA2_256)
	deny, doubled := "/ipfs/"+c.String()+"\n", "//"+base58.Encode(mh)+"\n"
	for text, denied := range map[string]bool{
		deny + "!" + deny: false, "!" + deny + deny: true, doubled + "!" + deny: false, "!" + doubled + deny: true,
		deny + "!" + doubled: false, deny + "!" + deny + doubled: true,
	} {
		if p := parsed(t, text); p.denies(c) != denied {
			t.Errorf("%q: denied %v", text, !denied)
		}
	}
}

// H52: a line that cannot be read is told of, and takes nothing with it.
func TestFaults(t *testing.T) {
	c := block("bad")
	long := "/ipfs/" + strings.Repeat("x", maxLine+10)
	for _, line := range []string{
		"bafk", "/ipfs/", "/ipfs/nonsense", "/ipfs", "/ipns/", "//", "//xyz", "!", "!!/ipfs/" + c.String(), "/ipfs/" + c.String() + "*",
		"/ipld/" + c.String(), "http://example.com", "//" + strings.Repeat("ab", 31), "\x00", "\xff\xfe", "//" + base58.Encode([]byte{0, 0}), "---", long,
	} {
		p := parsed(t, "# one\n"+line+"\n/ipfs/"+c.String()+"\n")
		if p.faulted != 1 || p.faults[0].Line != 2 || p.faults[0].What == "" || len(p.faults[0].Text) > 80 {
			if line != "---" { // then what is before it is the header
				t.Errorf("%.40q: %d, %+v", line, p.faulted, p.faults)
			}
		}
		if !p.denies(c) {
			t.Errorf("%.40q: what follows is not denied", line)
		}
	}
	many := parsed(t, strings.Repeat("nonsense\n", 1000))
	if many.faulted != 1000 || len(many.faults) != maxFaults {
		t.Errorf("%d, %d", many.faulted, len(many.faults))
	}
	functions := ""
	for i, code := range []uint64{multihash.SHA1, multihash.SHA2_512, multihash.SHA3_256, multihash.BLAKE3, multihash.SHA3_512} {
		sum, _ := multihash.Sum([]byte{byte(i)}, code, -1)
		functions += "//" + base58.Encode(sum) + "\n"
	}
	if p := parsed(t, functions); p.faulted != 1 || len(p.table.sums) != maxSums {
		t.Errorf("%v", p.faults)
	}
	if p := parsed(t, long); p.faulted != 1 {
		t.Errorf("a long line at the end: %v", p.faults)
	}
}

// H52: a line or a header that is made to take long to read does not.
func TestBombs(t *testing.T) {
	c := block("bad")
	for _, line := range []string{"//", "/ipfs/", "/ipfs/z", "/ipfs/k"} {
		p := parsed(t, line+strings.Repeat("z", maxLine-len(line)-2)+"\n"+rules(c))
		if p.faulted != 1 || !p.denies(c) {
			t.Errorf("%s: %v", line, p.faults)
		}
	}
	for _, field := range []string{"a:\n", "? - ", "a: &a [*a]\n", "<<: [{version: 1}]\n"} {
		text := strings.Repeat(field, (maxHeader-1000)/len(field)) + "\n---\n" + rules(c)
		if p, err := parse(strings.NewReader(text), int64(len(text))); err == nil && !p.denies(c) {
			t.Errorf("%q: what follows is not denied", field)
		}
	}
}

// A byte order mark and either end of a line are no part of a rule or a header.
func TestMarksAndEnds(t *testing.T) {
	c := block("bad")
	for _, head := range []string{"", "name: x\n---\n", "version: 1\n---\n", "---\n", "# x\n---\n"} {
		for _, end := range []string{"\n", "\r\n"} {
			for _, mark := range []string{"", "\xef\xbb\xbf"} {
				text := mark + strings.ReplaceAll(head+"# x\n/ipfs/"+c.String()+"\n", "\n", end)
				if p := parsed(t, text); p.faulted > 0 || !p.denies(c) {
					t.Errorf("%q: %v", text, p.faults)
				}
			}
		}
	}
}

func TestHeaders(t *testing.T) {
	for _, head := range []string{"version: 2", "version: x", "a: b: c", "\tx", "version: 1\nversion: 1", "version: [1]", "x", "- version: 1"} {
		if _, err := parse(strings.NewReader(head+"\n---\n/ipfs/"+block("x").String()), 100); err == nil {
			t.Errorf("%q is taken", head)
		}
	}
	far := strings.Repeat("# comment\n", maxHeader/10+1) + "---\n"
	if p := parsed(t, far); p.faulted != 1 {
		t.Errorf("dashes after a MiB: %d faults", p.faulted)
	}
}

// H52: whatever the text, reading it ends without a panic, every rule that was
// taken decides, and a line more at the end is as good as alone.
func FuzzParse(f *testing.F) {
	c := block("bad")
	f.Add([]byte("version: 1\n---\n/ipfs/" + c.String() + "\n!//QmX9dhRcQcKUw3Ws8485T5a9dtjrSCQaUAHnG4iK9i4ceM x:y\n"))
	f.Add([]byte("//d9d295bde21f422d471a90f2a37ec53049fdf3e5fa3ee2e8f20e10003da429e7\r\n/ipns/x\n"))
	f.Add([]byte("\xef\xbb\xbf/ipfs/" + cid.NewCidV0(c.Hash()).String() + "/*\n---"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := parse(bytes.NewReader(text), int64(len(text)))
		if err != nil {
			return
		}
		if len(p.faults) > maxFaults || len(p.table.sums) > maxSums {
			t.Errorf("%d faults, %d functions", len(p.faults), len(p.table.sums))
		}
		for i, e := range p.table.entries {
			if got, ok := p.table.get(e.key); !ok || got != e {
				t.Errorf("entry %d is not found", i)
			}
			if e.line() < 1 || e.line() > p.line {
				t.Errorf("line %d of %d", e.line(), p.line)
			}
		}
		more, err := parse(strings.NewReader(fmt.Sprintf("%s\n/ipfs/%s\n", text, c)), 0)
		if err == nil && !more.denies(c) {
			t.Error("a line more denies nothing")
		}
	})
}
