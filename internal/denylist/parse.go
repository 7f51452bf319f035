package denylist

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/ipfs/go-cid"
	"github.com/mr-tron/base58"
	"github.com/multiformats/go-multihash"
	"go.yaml.in/yaml/v3"
)

const (
	maxHeader = 1 << 20 // bytes, by the format
	maxLine   = 2 << 20 // bytes, by the format
	// maxName is far more than the bytes of any CID or hash. To read one takes
	// time that grows with the square of its length: hours for a whole line.
	maxName = 1 << 10
	// maxRules bounds the memory of a list, at 20 bytes each.
	maxRules = 50_000_000
	// maxSums bounds how many hash functions a look-up may cost.
	maxSums = 4
	// maxFaults is how many lines that cannot be read are told of.
	maxFaults = 10
)

// errVersion refuses what may mean something else than it seems to.
var errVersion = errors.New("not version 1 of the format")

// A parser reads one list.
type parser struct {
	table   *table
	line    int
	faults  []Fault
	faulted int // lines, those in faults among them
}

// parse reads a list of about size bytes. An error says that it cannot be read
// as a whole; lines that cannot be read by themselves are faults.
func parse(r io.Reader, size int64) (*parser, error) {
	in := bufio.NewReaderSize(r, maxLine)
	p := &parser{table: &table{}}
	if err := p.header(in); err != nil {
		return nil, err
	}
	p.table.entries = make([]entry, 0, lines(in, size))
	for {
		text, err := p.next(in)
		if err == io.EOF {
			p.table.finish()
			return p, nil
		}
		if err != nil {
			return nil, err
		}
		p.item(text)
	}
}

// lines is about how many lines a list of size bytes has, a little more than
// less: to make room for one rule after the other takes twice the memory.
func lines(in *bufio.Reader, size int64) int64 {
	start, _ := in.Peek(maxHeader) // an error shows when it is read
	if len(start) == 0 {
		return 0
	}
	n := size * int64(bytes.Count(start, []byte("\n"))) / int64(len(start))
	return min(n+n/100, maxRules)
}

// header reads what comes before a line of three dashes in the first MiB. If
// there is no such line there is no header.
func (p *parser) header(in *bufio.Reader) error {
	if mark, _ := in.Peek(3); string(mark) == "\xef\xbb\xbf" {
		_, _ = in.Discard(3) // it was peeked at
	}
	start, err := in.Peek(maxHeader)
	if err != nil && err != io.EOF && err != bufio.ErrBufferFull {
		return err
	}
	length, lines := 0, 0
	for line := range bytes.Lines(start) {
		length, lines = length+len(line), lines+1
		if string(bytes.TrimRight(line, "\r\n")) != "---" {
			continue
		}
		if err := checkVersion(start[:length-len(line)]); err != nil {
			return err
		}
		p.line = lines
		_, err := in.Discard(length)
		return err
	}
	return nil
}

// checkVersion reads of a header what version it says, which may be none. The
// rest is not decoded: a MiB of keys that are alike would take hours and all of
// the memory.
func checkVersion(header []byte) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(header, &doc); err != nil {
		return fmt.Errorf("its header is not YAML: %w", err)
	}
	if len(doc.Content) == 0 { // it is empty
		return nil
	}
	fields := doc.Content[0]
	if fields.Kind != yaml.MappingNode && fields.Tag != "!!null" {
		return errors.New("its header is not YAML of names and values")
	}
	said := false
	for i := 0; i+1 < len(fields.Content); i += 2 {
		if fields.Content[i].Value != "version" {
			continue
		}
		if version := fields.Content[i+1]; said || version.Kind != yaml.ScalarNode || version.Value != "1" {
			return fmt.Errorf("its header says version %.40q: %w", version.Value, errVersion)
		}
		said = true
	}
	return nil
}

// next reads a line, without what ends it. One that is too long comes empty.
func (p *parser) next(in *bufio.Reader) ([]byte, error) {
	text, err := in.ReadSlice('\n')
	p.line++
	if err == bufio.ErrBufferFull {
		p.fault("the line is longer than 2 MiB", text)
		for err == bufio.ErrBufferFull {
			_, err = in.ReadSlice('\n')
		}
		if err == io.EOF {
			err = nil // the next line is the end
		}
		return nil, err
	}
	if err == io.EOF && len(text) > 0 {
		err = nil
	}
	return bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r")), err
}

func (p *parser) fault(what string, text []byte) {
	p.faulted++
	if len(p.faults) < maxFaults {
		p.faults = append(p.faults, Fault{Line: p.line, What: what, Text: string(text[:min(len(text), 80)])})
	}
}

// item reads one line. Hints, which come after a space, change nothing here.
func (p *parser) item(text []byte) {
	if end := bytes.IndexAny(text, " \t"); end >= 0 {
		text = text[:end]
	}
	if len(text) == 0 || text[0] == '#' {
		return
	}
	rule, allow := bytes.CutPrefix(text, []byte("!"))
	var keys []key
	var what string
	switch {
	case bytes.HasPrefix(rule, []byte("/ipfs/")):
		keys, what = p.content(rule[len("/ipfs/"):])
	case bytes.HasPrefix(rule, []byte("/ipns/")) && len(rule) > len("/ipns/"):
		p.table.passed++ // no name is resolved here
		return
	case bytes.HasPrefix(rule, []byte("//")):
		keys, what = p.doubled(rule[len("//"):])
	default:
		what = "it begins with none of /ipfs/, /ipns/ and //"
	}
	if what == "" && len(p.table.entries)+len(keys) > maxRules {
		what = fmt.Sprintf("a list has at most %d rules", maxRules)
	}
	if what != "" {
		p.fault(what, text)
		return
	}
	for _, k := range keys {
		p.table.add(k, p.line, allow)
	}
}

// content reads what follows /ipfs/. The path of a rule is that of something
// below a CID, and no path is resolved here, but for the one that has the CID
// in it too.
func (p *parser) content(rule []byte) (keys []key, what string) {
	id, path, _ := bytes.Cut(rule, []byte("/"))
	mh, ok := multihashOf(id)
	switch {
	case !ok:
		return nil, "there is no CID after /ipfs/"
	case len(path) > 0 && string(path) != "*":
		p.table.passed++
		return nil, ""
	}
	return []key{keyOf(mh)}, ""
}

// doubled reads what follows //: the hash of a name of the block in base58, with
// its function, or the SHA-256 of a name of old in hexadecimal. What can be read
// either way is both.
func (p *parser) doubled(rule []byte) (keys []key, what string) {
	var sum [sha256.Size]byte
	if n, err := hex.Decode(sum[:], rule[:min(len(rule), 2*len(sum))]); err == nil && 2*n == len(rule) && n == len(sum) {
		p.table.old = true
		keys = append(keys, key(sum[:keySize]))
	}
	mh, what := p.hashed(rule)
	if what == "" {
		keys = append(keys, keyOf(mh))
	}
	if len(keys) > 0 {
		what = ""
	}
	return keys, what
}

// hashed reads the hash of a name, and notes its function.
func (p *parser) hashed(text []byte) (mh multihash.Multihash, what string) {
	if len(text) > maxName {
		return nil, "what follows // is no hash"
	}
	mh, err := base58.FastBase58Decoding(string(text))
	if err != nil {
		return nil, "what follows // is no hash"
	}
	d, err := multihash.Decode(mh)
	if err != nil {
		return nil, "what follows // is no hash"
	}
	if sum, err := multihash.Sum(nil, d.Code, -1); err != nil || len(sum) != len(mh) || d.Code == multihash.IDENTITY {
		return nil, "its hash function is not known here"
	}
	if slices.Contains(p.table.sums, d.Code) {
		return mh, ""
	}
	if len(p.table.sums) == maxSums {
		return nil, fmt.Sprintf("a list has // rules with at most %d hash functions", maxSums)
	}
	p.table.sums = append(p.table.sums, d.Code)
	return mh, ""
}

var lower32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// multihashOf is the multihash of a CID in any spelling, or in base58 by itself.
func multihashOf(text []byte) (multihash.Multihash, bool) {
	if len(text) > maxName {
		return nil, false
	}
	if mh, ok := commonCID(text); ok {
		return mh, true
	}
	if c, err := cid.Decode(string(text)); err == nil {
		return c.Hash(), true
	}
	b, err := base58.FastBase58Decoding(string(text))
	if err != nil {
		return nil, false
	}
	mh, err := multihash.Cast(b)
	return mh, err == nil
}

// commonCID reads what nearly all CIDs are, a SHA-256 in base32, without much
// ado. What it does not read may be one all the same.
func commonCID(text []byte) (multihash.Multihash, bool) {
	const size = 2 + 2 + sha256.Size // version, codec, and the multihash
	if len(text) != 1+(8*size+4)/5 || text[0] != 'b' {
		return nil, false
	}
	b := make([]byte, size+1)
	n, err := lower32.Decode(b, text[1:])
	if err != nil || n != size || b[0] != 1 || b[1] >= 0x80 || b[2] != multihash.SHA2_256 || b[3] != sha256.Size {
		return nil, false
	}
	return b[2:size], true
}

// oldNames are the names that a block had in the lists before the format: as a
// CIDv1 in base32, with the slash of an empty path.
func oldNames(mh multihash.Multihash) []string {
	return []string{cid.NewCidV1(cid.DagProtobuf, mh).String() + "/", cid.NewCidV1(cid.Raw, mh).String() + "/"}
}
