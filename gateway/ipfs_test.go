package gateway

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/ipld/go-car/v2"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen"
)

// anybody gets the sealed blocks of a segment, by any spelling, and can keep
// them for ever.
func TestRawBlocks(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(400_000))
	s := r.serve(nil)
	for _, c := range append(seg.Leaves, seg.CID) {
		b, err := r.store.Get(context.Background(), c)
		check(t, err)
		for name, spelled := range spellings(t, c) {
			a := s.ask("GET", "/ipfs/"+spelled+"?format=raw")
			if a.StatusCode != 200 || !bytes.Equal(a.body, b.RawData()) {
				t.Errorf("%s: status %d, %d bytes", name, a.StatusCode, len(a.body))
			}
		}
		a := s.ask("GET", "/ipfs/"+c.String(), "Accept", "application/vnd.ipld.raw")
		head := s.ask("HEAD", "/ipfs/"+c.String(), "Accept", "application/vnd.ipld.raw")
		if a.StatusCode != 200 || head.StatusCode != 200 || head.ContentLength != int64(len(b.RawData())) || len(head.body) != 0 {
			t.Errorf("GET %d, HEAD %d of %d bytes", a.StatusCode, head.StatusCode, head.ContentLength)
		}
		for name, want := range map[string]string{
			"Cache-Control": "public, max-age=29030400, immutable", "Content-Type": "application/vnd.ipld.raw",
			"X-Content-Type-Options": "nosniff", "Access-Control-Allow-Origin": "*", "Vary": "Accept",
			"X-Ipfs-Path": "", "X-Ipfs-Roots": "", "Content-Location": "", "Set-Cookie": "", "Server": "",
		} {
			if got := a.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if a := s.ask("GET", "/ipfs/"+c.String()+"?format=raw", "If-None-Match", a.Header.Get("ETag")); a.StatusCode != 304 {
			t.Errorf("If-None-Match: %d", a.StatusCode)
		}
	}
}

// H29: the suffix that is longer than the block is where boxo gives a 500.
func TestRawRanges(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(1000))
	s := r.serve(nil)
	b, err := r.store.Get(context.Background(), seg.CID)
	check(t, err)
	whole := b.RawData()
	for header, want := range map[string][]byte{
		"bytes=0-9": whole[:10], "bytes=-5": whole[len(whole)-5:], "bytes=-99999": whole, "bytes=10-": whole[10:],
		"bytes=0-4,5-9": whole[:10],
	} {
		a := s.ask("GET", "/ipfs/"+seg.CID.String()+"?format=raw", "Range", header)
		if a.StatusCode != 206 || !bytes.Equal(a.body, want) {
			t.Errorf("%s: status %d, %d bytes", header, a.StatusCode, len(a.body))
		}
	}
	for header, status := range map[string]int{"bytes=5000-": 416, "bytes=-0": 416, "bytes=x": 200, "bytes=0-0,9-9": 200} {
		if a := s.ask("GET", "/ipfs/"+seg.CID.String()+"?format=raw", "Range", header); a.StatusCode != status {
			t.Errorf("%s: status %d, want %d", header, a.StatusCode, status)
		}
	}
}

// carOf reads the blocks of a CAR, checking each against its CID.
func carOf(t *testing.T, body []byte) (root cid.Cid, found []blocks.Block) {
	t.Helper()
	r, err := car.NewBlockReader(bytes.NewReader(body))
	check(t, err)
	for {
		b, err := r.Next()
		if err == io.EOF {
			return r.Roots[0], found
		}
		check(t, err)
		found = append(found, b)
	}
}

func TestCARs(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(600_000)) // three leaves
	s := r.serve(nil)
	for query, want := range map[string]int{
		"format=car": 4, "format=car&dag-scope=block": 1, "format=car&dag-scope=entity&entity-bytes=0:10": 2,
		"format=car&car-version=1&car-order=dfs&car-dups=n": 4,
	} {
		a := s.ask("GET", "/ipfs/"+seg.CID.String()+"?"+query)
		if a.StatusCode != 200 || a.err != nil || !strings.HasPrefix(a.Header.Get("Content-Type"), "application/vnd.ipld.car") {
			t.Fatalf("%s: status %d, %v %s", query, a.StatusCode, a.err, a.body)
		}
		root, found := carOf(t, a.body)
		if !root.Equals(seg.CID) || len(found) != want {
			t.Errorf("%s: root %s, %d blocks, want %d", query, root, len(found), want)
		}
	}
	a := s.ask("HEAD", "/ipfs/"+seg.CID.String(), "Accept", "application/vnd.ipld.car", "Range", "bytes=0-1")
	if a.StatusCode != 200 || len(a.body) != 0 {
		t.Errorf("HEAD: status %d, %v", a.StatusCode, a.Header)
	}
	a = s.ask("GET", "/ipfs/"+seg.CID.String()+"?format=car&dag-scope=nonsense")
	if a.StatusCode != 400 || a.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("bad scope: status %d %s", a.StatusCode, a.body)
	}
}

// a CAR that cannot be finished is a broken connection.
func TestBrokenCARIsCut(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(600_000))
	s := r.serve(nil)
	check(t, r.store.DeleteBlock(context.Background(), seg.Leaves[2]))
	a := s.ask("GET", "/ipfs/"+seg.CID.String()+"?format=car")
	if a.err == nil {
		t.Errorf("status %d, %d bytes, and no error", a.StatusCode, len(a.body))
	}
}

// H25: a CID that takes a raw block for a node of a DAG names no DAG: it is not
// there as a CAR, rather than cut half way. The block itself is.
func TestNoCAROfWhatIsNoDAG(t *testing.T) {
	r := newRealm(t)
	raw := r.add(musen.Segment{}, audioOf(500))     // one raw block
	dag := r.add(musen.Segment{}, audioOf(600_000)) // three leaves
	s := r.serve(nil)
	want := s.ask("GET", "/ipfs/"+unknownCID(cid.Raw).String()+"?format=car")
	for _, c := range []string{
		cid.NewCidV0(raw.CID.Hash()).String(), cid.NewCidV1(cid.DagProtobuf, raw.CID.Hash()).String(),
		cid.NewCidV1(cid.DagProtobuf, dag.Leaves[0].Hash()).String(),
	} {
		for _, query := range []string{"format=car", "format=car&dag-scope=block", "format=car&dag-scope=entity&entity-bytes=0:10"} {
			got := s.ask("GET", "/ipfs/"+c+"?"+query)
			if got.StatusCode != 404 || got.err != nil || without(t, got) != without(t, want) {
				t.Errorf("%s %s: %v\n%s\nunknown:\n%s", c, query, got.err, without(t, got), without(t, want))
			}
		}
		if got := s.ask("GET", "/ipfs/"+c, "Accept", "application/vnd.ipld.car"); got.StatusCode != 404 {
			t.Errorf("%s: status %d", c, got.StatusCode)
		}
		if got := s.ask("HEAD", "/ipfs/"+c+"?format=car"); got.StatusCode != 404 {
			t.Errorf("HEAD %s: status %d", c, got.StatusCode)
		}
		if got := s.ask("GET", "/ipfs/"+c+"?format=raw"); got.StatusCode != 200 {
			t.Errorf("%s as a block: status %d", c, got.StatusCode)
		}
	}
	for _, c := range []string{
		raw.CID.String(), cid.NewCidV0(dag.CID.Hash()).String(), cid.NewCidV1(cid.Raw, dag.CID.Hash()).String(),
	} {
		got := s.ask("GET", "/ipfs/"+c+"?format=car")
		if got.StatusCode != 200 || got.err != nil {
			t.Fatalf("%s: status %d, %v", c, got.StatusCode, got.err)
		}
		if root, _ := carOf(t, got.body); root.String() != c {
			t.Errorf("%s: the root of its CAR is %s", c, root)
		}
	}
}

// H26: what is not a block of a live segment is not there: another block that
// the node has, a block that it lost, one that nobody has, and no CID at all.
func TestOtherBlocksAreAbsent(t *testing.T) {
	r := newRealm(t)
	foreign := blocks.NewBlock([]byte("not of a segment"))
	check(t, r.store.Put(context.Background(), foreign))
	lost := r.add(musen.Segment{}, audioOf(500))
	check(t, r.store.DeleteBlock(context.Background(), lost.CID))
	s := r.serve(nil)
	for _, query := range []string{"format=raw", "format=car", "", "format=raw&download=true&filename=x"} {
		want := s.ask("GET", "/ipfs/"+unknownCID(cid.Raw).String()+"?"+query)
		for _, c := range []string{cid.NewCidV1(cid.Raw, foreign.Cid().Hash()).String(), lost.CID.String(), "no-cid", "bafkqaaa"} {
			got := s.ask("GET", "/ipfs/"+c+"?"+query)
			if got.StatusCode != 404 || without(t, got) != without(t, want) {
				t.Errorf("%s %s:\n%s\nunknown:\n%s", c, query, without(t, got), without(t, want))
			}
		}
	}
}

// H26: nothing but raw blocks and CARs, no redirect, no service worker, no
// other host's rules.
func TestOnlyTrustless(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(500))
	s := r.serve(nil)
	path := "/ipfs/" + seg.CID.String()
	for _, c := range []struct {
		status  int
		query   string
		headers []string
	}{
		{406, "", nil},
		{406, "", []string{"Accept", "text/html,*/*"}},
		{406, "?format=tar", nil},
		{406, "?format=dag-json", nil},
		{406, "?format=ipns-record", nil},
		{406, "", []string{"Accept", "application/vnd.ipld.dag-cbor"}},
		{406, "", []string{"X-Forwarded-Host", "localhost"}},
		{406, "?uri=ipfs://" + seg.CID.String(), nil},
		{406, "", []string{"Service-Worker", "script"}},
		{200, "?format=raw&uri=ipfs://x", nil},
		{200, "?format=raw", []string{"Cache-Control", "only-if-cached"}},
		{200, "?format=raw", []string{"Service-Worker", "script", "X-Ipns-Original-Path", "/ipns/x"}},
	} {
		a := s.ask("GET", path+c.query, c.headers...)
		if a.StatusCode != c.status || a.Header.Get("Location") != "" || c.status == 406 && a.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %v: status %d, %v", c.query, c.headers, a.StatusCode, a.Header)
		}
	}
}

func TestNoBlocksNoRoute(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(500))
	s := r.serve(func(o *Options) { o.Blocks = nil })
	if a := s.ask("GET", "/ipfs/"+seg.CID.String()+"?format=raw"); a.StatusCode != 404 {
		t.Errorf("status %d", a.StatusCode)
	}
}

// heldIndex is an index that keeps its callers waiting.
type heldIndex struct {
	BlockIndex
	asked, release chan struct{}
}

func (h heldIndex) HasBlock(ctx context.Context, mh multihash.Multihash) (bool, error) {
	h.asked <- struct{}{}
	<-h.release
	return h.BlockIndex.HasBlock(ctx, mh)
}

// H40: strangers who take all that there is for them keep no listener out.
func TestStrangersLeaveListenersTheirStreams(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(1000))
	h := heldIndex{r, make(chan struct{}), make(chan struct{})}
	s := r.serve(func(o *Options) {
		o.Index = h
		o.Limits = Limits{Streams: 4}
	})
	path := "/ipfs/" + seg.CID.String() + "?format=raw"
	done := make(chan int)
	go func() { done <- s.ask("GET", path).StatusCode }()
	<-h.asked
	if a := s.ask("GET", path); a.StatusCode != 503 || a.Header.Get("Retry-After") == "" {
		t.Errorf("a second stranger: status %d", a.StatusCode)
	}
	if a := s.ask("GET", "/listen/"+seg.CID.String(), "Authorization", "Bearer "+r.token()); a.StatusCode != 200 {
		t.Errorf("a listener: status %d", a.StatusCode)
	}
	close(h.release)
	if status := <-done; status != 200 {
		t.Errorf("the first stranger: status %d", status)
	}
}
