package front

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/exchange/offline"
	"github.com/ipfs/boxo/ipld/merkledag"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/multiformats/go-multihash"
)

// A desk answers from memory.
type desk struct {
	t      *testing.T
	store  blockstore.Blockstore
	denied map[string]bool // by multihash
	*Trustless
	send func(w http.ResponseWriter) func([]byte) (int, error)
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	store := blockstore.NewBlockstore(dssync.MutexWrap(datastore.NewMapDatastore()))
	d := &desk{t: t, store: store, denied: map[string]bool{}}
	d.send = func(w http.ResponseWriter) func([]byte) (int, error) { return w.Write }
	var err error
	d.Trustless, err = NewTrustless(blockservice.New(store, offline.Exchange(store)), d, "X-Request-Id")
	check(t, err)
	return d
}

// Denied implements deny.Denier.
func (d *desk) Denied(mh multihash.Multihash) bool { return d.denied[string(mh)] }

// tree stores a node of a DAG with leaves below it.
func (d *desk) tree(leaves ...string) (root cid.Cid, leaf []cid.Cid) {
	d.t.Helper()
	n := &merkledag.ProtoNode{}
	check(d.t, n.SetCidBuilder(merkledag.V1CidPrefix()))
	for _, text := range leaves {
		raw := merkledag.NewRawNode([]byte(text))
		check(d.t, d.store.Put(context.Background(), raw))
		check(d.t, n.AddNodeLink("", raw))
		leaf = append(leaf, raw.Cid())
	}
	check(d.t, d.store.Put(context.Background(), n))
	return n.Cid(), leaf
}

func (d *desk) ask(method string, id cid.Cid, query, ranged string, header ...string) (refused int, got *httptest.ResponseRecorder) {
	d.t.Helper()
	r := httptest.NewRequest(method, "/ipfs/x?"+query, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	got = httptest.NewRecorder()
	return d.Serve(got, r, id, ranged, d.send(got)), got
}

func TestBlocksAndCARs(t *testing.T) {
	d := newDesk(t)
	root, leaf := d.tree("first leaf", "second")
	refused, got := d.ask("GET", leaf[0], "format=raw", "", "X-Forwarded-Host", "evil.example", "Origin", "https://evil.example")
	if refused != 0 || got.Code != 200 || got.Body.String() != "first leaf" {
		t.Errorf("raw: %d, %d, %q", refused, got.Code, got.Body)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/vnd.ipld.raw", "Access-Control-Allow-Origin": "*", "X-Content-Type-Options": "nosniff",
		"Access-Control-Expose-Headers": "Accept-Ranges, Content-Length, Content-Range, ETag, X-Request-Id", "X-Ipfs-Path": "", "Server": "",
	} {
		if v := got.Header().Get(name); v != want {
			t.Errorf("%s: %q", name, v)
		}
	}
	etag := got.Header().Get("Etag")
	if refused, got = d.ask("GET", leaf[0], "format=raw", "", "If-None-Match", etag); refused != 0 || got.Code != 304 {
		t.Errorf("known: %d, %d", refused, got.Code)
	}
	if refused, got = d.ask("GET", leaf[0], "format=raw", "bytes=0-4"); refused != 0 || got.Code != 206 || got.Body.String() != "first" {
		t.Errorf("range: %d, %d, %q", refused, got.Code, got.Body)
	}
	if refused, got = d.ask("HEAD", leaf[0], "format=raw", "bytes=0-4"); refused != 0 || got.Code != 200 || got.Body.Len() != 0 || got.Header().Get("Content-Length") != "10" {
		t.Errorf("HEAD: %d, %d, %v", refused, got.Code, got.Header())
	}
	if refused, got = d.ask("GET", root, "format=car", ""); refused != 0 || !bytes.Contains(got.Body.Bytes(), []byte("second")) {
		t.Errorf("CAR: %d, %d bytes", refused, got.Body.Len())
	}
	if refused, got = d.ask("HEAD", root, "format=car", ""); refused != 0 || got.Code != 200 || got.Body.Len() != 0 {
		t.Errorf("HEAD of a CAR: %d, %d", refused, got.Code)
	}
}

// What is refused is the caller's to say: nothing was sent.
func TestRefusals(t *testing.T) {
	d := newDesk(t)
	root, leaf := d.tree("a leaf")
	for what, c := range map[string]struct {
		id    cid.Cid
		query string
		want  int
	}{
		"deserialised":      {root, "", 406},
		"a folder":          {root, "format=tar", 406},
		"unknown":           {merkledag.NewRawNode([]byte("nowhere")).Cid(), "format=raw", 404},
		"no DAG":            {cid.NewCidV1(cid.DagProtobuf, leaf[0].Hash()), "format=car", 404},
		"a malformed scope": {root, "format=car&dag-scope=nonsense", 400},
	} {
		refused, got := d.ask("GET", c.id, c.query, "")
		if refused != c.want || got.Body.Len() != 0 || len(got.Header()) != 0 {
			t.Errorf("%s: %d, %q, %v", what, refused, got.Body, got.Header())
		}
	}
}

// cut reports whether the connection was cut.
func cut(do func()) (cut bool) {
	defer func() { cut = recover() == http.ErrAbortHandler }()
	do()
	return false
}

// H50, H25: a block that is denied is a 451 by every CID, method and condition,
// is in no CAR, and is not sent to its end when it is denied meanwhile.
func TestDenied(t *testing.T) {
	d := newDesk(t)
	root, leaf := d.tree("first leaf", "second leaf")
	_, known := d.ask("GET", leaf[1], "format=raw", "")
	deny := func(c cid.Cid, denied bool) { d.denied[string(c.Hash())] = denied }
	deny(leaf[1], true)
	for _, c := range []cid.Cid{cid.NewCidV0(leaf[1].Hash()), leaf[1], cid.NewCidV1(cid.DagProtobuf, leaf[1].Hash())} {
		for _, method := range []string{"GET", "HEAD"} {
			for _, query := range []string{"format=raw", "format=car", ""} {
				refused, got := d.ask(method, c, query, "", "If-None-Match", known.Header().Get("Etag"))
				if refused != 451 || got.Body.Len() != 0 || len(got.Header()) != 0 {
					t.Errorf("%s %s?%s: %d, %q, %v", method, c, query, refused, got.Body, got.Header())
				}
			}
		}
	}
	var body *bytes.Buffer
	d.send = func(w http.ResponseWriter) func([]byte) (int, error) {
		body = w.(*httptest.ResponseRecorder).Body
		return w.Write
	}
	if !cut(func() { d.ask("GET", root, "format=car", "") }) || !bytes.Contains(body.Bytes(), []byte("first leaf")) || bytes.Contains(body.Bytes(), []byte("second leaf")) {
		t.Errorf("CAR with a denied leaf: %q", body)
	}
	deny(leaf[1], false)
	deny(root, true)
	if refused, got := d.ask("GET", leaf[1], "format=raw", ""); refused != 0 || got.Body.String() != "second leaf" {
		t.Errorf("a leaf of what is denied: %d, %q", refused, got.Body)
	}
	deny(root, false)
	sent := 0
	d.send = func(http.ResponseWriter) func([]byte) (int, error) {
		return func(p []byte) (int, error) { sent++; deny(root, true); return len(p), nil }
	}
	if !cut(func() { d.ask("GET", root, "format=car", "") }) || sent != 1 {
		t.Errorf("denied meanwhile: %d pieces were sent", sent)
	}
}

// A body that cannot be whole is cut.
func TestBrokenBodies(t *testing.T) {
	d := newDesk(t)
	root, leaf := d.tree("first leaf", "second")
	check(t, d.store.DeleteBlock(context.Background(), leaf[1]))
	if !cut(func() { d.ask("GET", root, "format=car", "") }) {
		t.Error("a CAR without its last block ends as if it were whole")
	}
	big := blocks.NewBlock([]byte(strings.Repeat("x", 1<<20)))
	check(t, d.store.Put(context.Background(), big))
	sent := 0
	d.send = func(http.ResponseWriter) func([]byte) (int, error) {
		return func([]byte) (int, error) { sent++; return 0, errors.New("gone") }
	}
	if !cut(func() { d.ask("GET", cid.NewCidV1(cid.Raw, big.Cid().Hash()), "format=raw", "") }) || sent != 1 {
		t.Errorf("a client that is gone was sent %d pieces", sent)
	}
}
