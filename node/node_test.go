package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ipfs/boxo/files"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/kubo/core/coreapi"
	"github.com/ipfs/kubo/core/coreiface/options"
	"github.com/libp2p/go-libp2p/core/peer"
)

// start makes and opens a node; change edits its Options.
func start(t testing.TB, change ...func(*Options)) *Node {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "node")
	if _, err := Init(dir); err != nil {
		t.Fatal(err)
	}
	return reopen(t, dir, change...)
}

func reopen(t testing.TB, dir string, change ...func(*Options)) *Node {
	t.Helper()
	opts := Options{Dir: dir}
	for _, c := range change {
		c(&opts)
	}
	n, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func connect(t testing.TB, a, b *Node) {
	t.Helper()
	info := peer.AddrInfo{ID: b.kubo.PeerHost.ID(), Addrs: b.kubo.PeerHost.Addrs()}
	if err := a.kubo.PeerHost.Connect(t.Context(), info); err != nil {
		t.Fatal(err)
	}
}

// sealedBytes are n bytes that differ by seed and look like ciphertext.
func sealedBytes(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

type added struct {
	data   []byte
	root   cid.Cid
	leaves []cid.Cid
	inner  []cid.Cid
}

func add(t testing.TB, n *Node, data []byte) added {
	t.Helper()
	root, leaves, inner, err := n.Add(context.Background(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return added{data, root, leaves, inner}
}

// readBack reads all leaves of a in pieces of size and compares.
func readBack(t testing.TB, n *Node, a added, size int) {
	t.Helper()
	var got []byte
	p := make([]byte, size)
	for _, c := range a.leaves {
		for off := int64(0); ; {
			m, err := n.ReadBlockAt(context.Background(), c, p, off)
			got = append(got, p[:m]...)
			off += int64(m)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if !bytes.Equal(got, a.data) {
		t.Fatalf("read %d bytes that are not the %d added", len(got), len(a.data))
	}
}

func TestAddGivesTheCIDsOfKubo(t *testing.T) {
	n := start(t)
	api, err := coreapi.NewCoreAPI(n.kubo)
	if err != nil {
		t.Fatal(err)
	}
	sizes := []int{0, 1, 100, leafSize - 1, leafSize, leafSize + 1, 5*leafSize + 7, 174 * leafSize, 175*leafSize + 1}
	for i, size := range sizes {
		data := sealedBytes(byte(i), size)
		a := add(t, n, data)
		want, err := api.Unixfs().Add(t.Context(), files.NewBytesFile(data), options.Unixfs.CidVersion(1), options.Unixfs.RawLeaves(true), options.Unixfs.Pin(false, ""))
		if err != nil {
			t.Fatal(err)
		}
		if a.root != want.RootCid() {
			t.Errorf("%d bytes: root %s, Kubo says %s", size, a.root, want.RootCid())
		}
		if wantLeaves := max(1, (size+leafSize-1)/leafSize); len(a.leaves) != wantLeaves {
			t.Errorf("%d bytes: %d leaves, want %d", size, len(a.leaves), wantLeaves)
		}
		if single := len(a.leaves) == 1; single != (a.leaves[0] == a.root) || single != (len(a.inner) == 0) {
			t.Errorf("%d bytes: %d leaves, inner %v, root %s", size, len(a.leaves), a.inner, a.root)
		}
		if len(a.inner) > 0 && !slices.Contains(a.inner, a.root) {
			t.Errorf("%d bytes: root is not among the inner blocks", size)
		}
		readBack(t, n, a, 100_000)
	}
}

func TestBlocksAndPinsSurviveARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "node")
	id, err := Init(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := reopen(t, dir)
	a := add(t, n, sealedBytes(1, 3*leafSize))
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = reopen(t, dir)
	if n.PeerID() != id {
		t.Errorf("peer ID changed from %s to %s", id, n.PeerID())
	}
	readBack(t, n, a, 64<<10)
	if pins := pinsOf(t, n); !slices.Equal(pins, []cid.Cid{a.root}) {
		t.Errorf("pins %v, want %v", pins, a.root)
	}
}

func pinsOf(t testing.TB, n *Node) (pins []cid.Cid) {
	t.Helper()
	for c, err := range n.Pins(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		pins = append(pins, c)
	}
	return pins
}

func TestInitKeepsAwayFromOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "node")
	if _, err := Init(dir); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("folder has mode %v, %v", st.Mode(), err)
	}
	if st, err := os.Stat(filepath.Join(dir, "config")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the file with the identity has mode %v, %v", st.Mode(), err)
	}
	if _, err := Init(dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second Init: %v", err)
	}
}

func TestOneNodeAtATime(t *testing.T) {
	n := start(t)
	if _, err := Open(t.Context(), Options{Dir: n.opts.Dir}); !errors.Is(err, ErrLocked) {
		t.Errorf("second Open: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	reopen(t, n.opts.Dir)
}

func TestReadBlockAtIsAReaderAt(t *testing.T) {
	n := start(t)
	a := add(t, n, sealedBytes(1, 1000))
	for _, tt := range []struct {
		off, n int64
		want   int
		err    error
	}{
		{0, 1000, 1000, nil}, {0, 1001, 1000, io.EOF}, {10, 20, 20, nil}, {999, 1, 1, nil},
		{999, 2, 1, io.EOF}, {1000, 1, 0, io.EOF}, {5000, 1, 0, io.EOF}, {0, 0, 0, nil},
	} {
		p := make([]byte, tt.n)
		m, err := n.ReadBlockAt(t.Context(), a.root, p, tt.off)
		if m != tt.want || err != tt.err {
			t.Errorf("read %d at %d: %d, %v; want %d, %v", tt.n, tt.off, m, err, tt.want, tt.err)
		}
		if m > 0 && !bytes.Equal(p[:m], a.data[tt.off:tt.off+int64(m)]) {
			t.Errorf("read %d at %d: wrong bytes", tt.n, tt.off)
		}
	}
	if _, err := n.ReadBlockAt(t.Context(), a.root, make([]byte, 1), -1); err == nil {
		t.Error("negative offset is accepted")
	}
}
