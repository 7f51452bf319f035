package cmd_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
)

// H22, H23: with a keyring that is not as it must be the node does not start,
// says why, and changes nothing: with the files put back all plays again.
func TestFaultKeyringDamage(t *testing.T) {
	t.Parallel()
	h, other := newFaultHome(t), newFaultHome(t)
	song := h.add("song", leaves(2))
	h.stop()
	other.stop()
	key := func(name string) string { return filepath.Join(h.dir, "keys", name) }
	cut := func(path string, b []byte) error { return os.WriteFile(path, b[:len(b)/2], 0o600) }
	for _, c := range []struct {
		what, file string
		damage     func(path string, b []byte) error
	}{
		{"missing", "keyring.age", func(path string, _ []byte) error { return os.Remove(path) }},
		{"missing", "identity.txt", func(path string, _ []byte) error { return os.Remove(path) }},
		{"missing", "stations.json", func(path string, _ []byte) error { return os.Remove(path) }},
		{"cut", "keyring.age", cut},
		{"cut", "identity.txt", cut},
		{"cut", "stations.json", cut},
		{"empty", "keyring.age", func(path string, _ []byte) error { return os.Truncate(path, 0) }},
		{"for others to read", "keyring.age", func(path string, _ []byte) error { return os.Chmod(path, 0o644) }},
		{"for others to read", "identity.txt", func(path string, _ []byte) error { return os.Chmod(path, 0o644) }},
		{"flipped", "keyring.age", func(path string, b []byte) error { b[len(b)-20] ^= 1; return os.WriteFile(path, b, 0o600) }},
		{"another's", "keyring.age", otherFile(other, "keyring.age")},
		{"another's", "identity.txt", otherFile(other, "identity.txt")},
		{"another's", "stations.json", otherFile(other, "stations.json")},
	} {
		t.Run(c.what+" "+c.file, func(t *testing.T) {
			path := key(c.file)
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			before := h.sums("keys/"+c.file, "ipfs/datastore", "catalogue.db-", "ipfs/repo.lock", "ipfs/blocks")
			if err := c.damage(path, bytes.Clone(whole)); err != nil {
				t.Fatal(err)
			}
			_, stderr := h.run(7, "serve", "--public", "127.0.0.1:0")
			if !strings.Contains(stderr, "[keyring]") || strings.Contains(stderr, "panic") || ageKey.MatchString(stderr) {
				t.Errorf("it says %q", stderr)
			}
			if after := h.sums("keys/"+c.file, "ipfs/datastore", "catalogue.db-", "ipfs/repo.lock", "ipfs/blocks"); after != before {
				t.Errorf("the refused start changed the home:\n%s\n%s", before, after)
			}
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
	h.start()
	h.plays(song.CID, "song", leaves(2))
	h.stop()
}

// ageKey is a key of age that somebody printed.
var ageKey = regexp.MustCompile(`AGE-SECRET-KEY-1[0-9A-Z]`)

func otherFile(other *faultHome, name string) func(string, []byte) error {
	return func(path string, _ []byte) error {
		b, err := os.ReadFile(filepath.Join(other.dir, "keys", name))
		if err != nil {
			return err
		}
		return os.WriteFile(path, b, 0o600)
	}
}

// A block that is damaged: flipped, cut or gone.
func damages() map[string]func(path string, b []byte) error {
	return map[string]func(path string, b []byte) error{
		"a bit":     func(path string, b []byte) error { b[len(b)/2] ^= 1; return os.WriteFile(path, b, 0o600) },
		"first bit": func(path string, b []byte) error { b[0] ^= 0x80; return os.WriteFile(path, b, 0o600) },
		"the end":   func(path string, b []byte) error { return os.Truncate(path, int64(len(b)-1)) },
		"all":       func(path string, b []byte) error { return os.Truncate(path, 0) },
		"the file":  func(path string, _ []byte) error { return os.Remove(path) },
	}
}

// P5: a listener never gets a wrong byte, and never takes a part for the
// whole: from damaged blocks comes an error, or a stream that breaks. What does
// not need them plays on, and with the block put back all does.
func TestFaultDamagedBlocks(t *testing.T) {
	t.Parallel()
	h := newFaultHome(t, "MUSEN_NODE_FETCH_TIMEOUT=1s", "MUSEN_NODE_BLOCK_CACHE=0B")
	before := h.blocks()
	song := h.add("song", leaves(5))
	c, err := cid.Decode(song.CID)
	if err != nil {
		t.Fatal(err)
	}
	mine := newIn(h.blocks(), before)
	if len(mine) != 6 {
		t.Fatalf("%d blocks", len(mine))
	}
	other := h.add("other", leaves(2))
	broke := 0
	for what, damage := range damages() {
		for _, path := range mine {
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(path, bytes.Clone(whole)); err != nil {
				t.Fatal(err)
			}
			if len(whole) > 10_000 { // a leaf; the root is not needed to play
				if h.breaks(song.CID, "song", leaves(5)) {
					broke++
				}
			} else {
				h.plays(song.CID, "song", leaves(5))
			}
			for v, err := range h.admin.Verify(t.Context(), c) {
				if err != nil || v.OK {
					t.Errorf("verify did not see that %s was damaged: %+v, %v", what, v, err)
				}
			}
			h.plays(other.CID, "other", leaves(2))
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			h.plays(song.CID, "song", leaves(5))
		}
	}
	// The very first bit is not read again while the segment is open in memory.
	if want := len(damages())*5 - 1; broke < want {
		t.Errorf("%d damages broke a stream, not %d", broke, want)
	}
	h.stop()
}

// newIn is what is in b and not in a.
func newIn(b, a []string) (added []string) {
	known := map[string]bool{}
	for _, s := range a {
		known[s] = true
	}
	for _, s := range b {
		if !known[s] {
			added = append(added, s)
		}
	}
	return added
}

// breaks tells whether a segment is refused, or breaks off after right bytes,
// and reports an error for any wrong byte.
func (h *faultHome) breaks(cid, name string, size int) bool {
	h.t.Helper()
	want := audioOf(name, size)
	resp, err := h.listen(h.t.Context(), cid)
	if err != nil {
		h.t.Error(err)
		return false
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	h.ranges(cid, want)
	switch {
	case resp.StatusCode == http.StatusServiceUnavailable:
		if !bytes.Contains(got, []byte(`"code":`)) {
			h.t.Errorf("the refusal is no problem: %s", got)
		}
	case resp.StatusCode != http.StatusOK:
		h.t.Errorf("status %s", resp.Status)
	case err == nil && len(got) < len(want):
		h.t.Errorf("a part came as a success, %d bytes of %d", len(got), len(want))
	case !bytes.HasPrefix(want, got):
		h.t.Errorf("wrong bytes came, among %d", len(got))
	}
	return resp.StatusCode != http.StatusOK || err != nil
}

// ranges asks for parts, which come right or not at all.
func (h *faultHome) ranges(cid string, want []byte) {
	h.t.Helper()
	for off := 1000; off+5000 < len(want); off += 200_000 {
		req, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, h.node.ready.Public+"/listen/"+cid, nil)
		if err != nil {
			h.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+h.token)
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+4999))
		resp, err := oneShot().Do(req)
		if err != nil {
			h.t.Error(err)
			return
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode == http.StatusPartialContent && (!bytes.HasPrefix(want[off:], got) || err == nil && len(got) != 5000) {
			h.t.Errorf("range at %d: wrong bytes, %d of them, %v", off, len(got), err)
		}
	}
}
