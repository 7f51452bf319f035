package gateway

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/problem"
)

// H29: every form of RFC 9110, over 1000 bytes.
func TestParseRange(t *testing.T) {
	for header, want := range map[string][]byteRange{
		"bytes=0-0":                     {{0, 1}},
		"bytes=0-999":                   {{0, 1000}},
		"bytes=0-":                      {{0, 1000}},
		"bytes=999-":                    {{999, 1}},
		"bytes=500-99999":               {{500, 500}},
		"bytes=0-99999999999999999999":  {{0, 1000}},
		"bytes=-1":                      {{999, 1}},
		"bytes=-1000":                   {{0, 1000}},
		"bytes=-1001":                   {{0, 1000}},
		"bytes=-99999999999999999999":   {{0, 1000}},
		"Bytes=00-01":                   {{0, 2}},
		"bytes= 0-0":                    {{0, 1}},
		"bytes=0-0 ,\t2-2":              {{0, 1}, {2, 1}},
		"bytes=,,0-0,,":                 {{0, 1}},
		"bytes=0-0,5000-":               {{0, 1}},
		"bytes=-0,0-0":                  {{0, 1}},
		"bytes=0-4,5-9":                 {{0, 10}},                     // they touch
		"bytes=0-9,5-20":                {{0, 21}},                     // they overlap
		"bytes=50-59,0-9,10-12,100-100": {{50, 10}, {0, 13}, {100, 1}}, // order is kept
		"bytes=0-9,20-29,5-25":          {{0, 30}},
		"bytes=0-9,20-29,90-99,8-22":    {{0, 30}, {90, 10}},
		"bytes=0-,0-,0-,0-":             {{0, 1000}},
		// to be ignored
		"": nil, "bytes": nil, "bytes=": nil, "bytes=,": nil, "bytes=-": nil, "bytes=a-b": nil, "bytes=1": nil,
		"bytes=5-4": nil, "bytes=1-2-3": nil, "bytes=--1": nil, "bytes=+1-2": nil, "bytes=0x1-2": nil,
		"bytes=1 -2": nil, "bytes =0-1": nil, " bytes=0-1": nil, "bytes:0-1": nil, "items=0-1": nil,
		"bytes=0-1;2-3": nil, "bytes=0-0,x": nil, "bytes=٣-٤": nil,
		"bytes=" + strings.Repeat("0-0,", 17): nil,
	} {
		got, err := parseRange(header, 1000)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v; want %v", header, got, err, want)
		}
	}
	for _, header := range []string{"bytes=1000-", "bytes=-0", "bytes=5000-6000", "bytes=99999999999999999999-", "bytes=-0,1000-"} {
		if got, err := parseRange(header, 1000); err != problem.BadRange {
			t.Errorf("%q: %v, %v; want it refused", header, got, err)
		}
	}
}

func TestRangesOnTheWire(t *testing.T) {
	r := newRealm(t)
	audio := audioOf(300_000)
	seg := r.add(musen.Segment{}, audio)
	s := r.serve(nil)
	for header, want := range map[string]byteRange{
		"bytes=0-0":         {0, 1},
		"bytes=65519-65521": {65519, 3},      // over the edge of a chunk
		"bytes=262000-":     {262000, 38000}, // over the edge of a leaf
		"bytes=-1":          {299999, 1},
		"bytes=-400000":     {0, 300_000},
		"bytes=0-9,5-19":    {0, 20},
	} {
		a := s.ask("GET", "/listen/"+seg.CID.String(), "Authorization", "Bearer "+r.token(), "Range", header)
		if a.StatusCode != 206 || !bytes.Equal(a.body, audio[want.off:want.end()]) ||
			a.Header.Get("Content-Range") != want.contentRange(300_000) || a.ContentLength != want.n {
			t.Errorf("%s: status %d, %d bytes, %s", header, a.StatusCode, len(a.body), a.Header.Get("Content-Range"))
		}
	}
	a := s.ask("GET", "/listen/"+seg.CID.String(), "Authorization", "Bearer "+r.token(), "Range", "bytes=300000-")
	if a.StatusCode != 416 || a.Header.Get("Content-Range") != "bytes */300000" ||
		!strings.Contains(string(a.body), "range_not_satisfiable") {
		t.Errorf("status %d, %v: %s", a.StatusCode, a.Header, a.body)
	}
}

func TestSeveralRanges(t *testing.T) {
	r := newRealm(t)
	audio := audioOf(200_000)
	seg := r.add(musen.Segment{}, audio)
	s := r.serve(nil)
	a := s.ask("GET", "/listen/"+seg.CID.String(), "Authorization", "Bearer "+r.token(),
		"Range", "bytes=150000-199999, 0-0, 500-70000, -1")
	kind, params, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if err != nil || a.StatusCode != 206 || kind != "multipart/byteranges" || a.Header.Get("Content-Range") != "" {
		t.Fatalf("status %d, %v", a.StatusCode, a.Header)
	}
	if a.ContentLength != int64(len(a.body)) {
		t.Errorf("Content-Length %d, body %d", a.ContentLength, len(a.body))
	}
	parts := multipart.NewReader(bytes.NewReader(a.body), params["boundary"])
	for _, want := range []byteRange{{150000, 50000}, {0, 1}, {500, 69501}} {
		p, err := parts.NextPart()
		check(t, err)
		got, err := io.ReadAll(p)
		check(t, err)
		if !bytes.Equal(got, audio[want.off:want.end()]) || p.Header.Get("Content-Range") != want.contentRange(200_000) ||
			p.Header.Get("Content-Type") != "audio/mpeg" {
			t.Errorf("part %v: %d bytes, %v", want, len(got), p.Header)
		}
	}
	if _, err := parts.NextPart(); err != io.EOF {
		t.Errorf("after the last part: %v", err)
	}
}

// H29: a thousand ranges cost no more than the whole.
func TestManyRangesAreTheWhole(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(5000))
	s := r.serve(nil)
	header := "bytes=0-0"
	for i := 2; i < 400; i += 2 {
		header += fmt.Sprintf(",%d-%d", i, i)
	}
	a := s.ask("GET", "/listen/"+seg.CID.String(), "Authorization", "Bearer "+r.token(), "Range", header)
	if a.StatusCode != 200 || len(a.body) != 5000 {
		t.Errorf("status %d, %d bytes", a.StatusCode, len(a.body))
	}
}

// whatever a stranger sends, the ranges are inside the audio, apart from each
// other and few; and where net/http would serve the same single range, so do we.
func FuzzParseRange(f *testing.F) {
	for _, seed := range []string{"bytes=0-0", "bytes=-5,3-4", "bytes=9-", "bytes=5-4", "bytes=,1-2 ,\t3-", "items=0-1",
		"bytes=9223372036854775807-9223372036854775808", "bytes=0-1,1-2,4-5,3-3", "bytes=-0"} {
		f.Add(seed, int64(10))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 || size > 1<<12 {
			size &= 1<<12 - 1
		}
		ranges, err := parseRange(header, size)
		checkRanges(t, ranges, size)
		if strings.ContainsAny(header, ",\r\n\x00") || !strings.HasPrefix(header, "bytes=") || size == 0 {
			return
		}
		req := httptest.NewRequest("GET", "/", nil)
		req.Header.Set("Range", header)
		w := httptest.NewRecorder()
		http.ServeContent(w, req, "x.mp3", time.Time{}, bytes.NewReader(make([]byte, size)))
		// net/http refuses more: malformed ranges, and numbers that overflow. It
		// takes -0 for a range, of no bytes.
		if w.Code != 206 || err == problem.BadRange && strings.Trim(header, "bytes=-0 \t") == "" {
			return
		}
		if err != nil || len(ranges) != 1 || ranges[0].contentRange(size) != w.Header().Get("Content-Range") {
			t.Errorf("%q of %d: %v, %v; net/http: %s", header, size, ranges, err, w.Header().Get("Content-Range"))
		}
	})
}

func checkRanges(t *testing.T, ranges []byteRange, size int64) {
	t.Helper()
	if len(ranges) > maxRanges {
		t.Fatalf("%d ranges", len(ranges))
	}
	for i, a := range ranges {
		if a.off < 0 || a.n <= 0 || a.end() > size {
			t.Fatalf("range %v of %d bytes", a, size)
		}
		for _, b := range ranges[i+1:] {
			if a.off <= b.end() && b.off <= a.end() {
				t.Fatalf("ranges %v and %v touch", a, b)
			}
		}
	}
}

// a CID that is accepted is spelled as it spells itself, and any spelling of it
// names the same multihash.
func FuzzParseCID(f *testing.F) {
	for _, c := range []cid.Cid{unknownCID(cid.Raw), unknownCID(cid.DagProtobuf)} {
		f.Add(c.String())
		f.Add(cid.NewCidV0(c.Hash()).String())
	}
	f.Add("bafkqaaa")
	f.Fuzz(func(t *testing.T, s string) {
		c, spelled, err := parseCID(s)
		if err != nil {
			if err != musen.ErrNotFound {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		decoded, err := cid.Decode(s)
		if err != nil || !decoded.Equals(c) || len(s) > 128 {
			t.Errorf("%q: accepted, but %v", s, err)
		}
		for _, other := range []string{spelled, alias(c)} {
			again, canonical, err := parseCID(other)
			if err != nil || !bytes.Equal(again.Hash(), c.Hash()) || canonical != other {
				t.Errorf("%q: canonical %q: %v", s, other, err)
			}
		}
	})
}

// a header that any client reads as one attachment with a harmless name.
func FuzzAttachment(f *testing.F) {
	f.Add("a\r\nb", `"x" \ /..`)
	f.Add("☂", ".")
	f.Add("", "%00\x00\xff")
	f.Fuzz(func(t *testing.T, artist, title string) {
		h := attachment(musen.Segment{Artist: artist, Title: title, MediaType: "audio/mpeg"})
		kind, params, err := mime.ParseMediaType(h)
		if err != nil || kind != "attachment" {
			t.Fatalf("%q: %v", h, err)
		}
		name := params["filename"]
		if !strings.HasSuffix(name, ".mp3") || strings.ContainsAny(name, "/\\\"\r\n\x00:;%") || strings.HasPrefix(name, ".") || len(name) > maxFileName+4 {
			t.Errorf("name %q", name)
		}
		for i := range len(h) {
			if h[i] < ' ' || h[i] > '~' {
				t.Fatalf("byte %x in %q", h[i], h)
			}
		}
	})
}
