package cmd_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/gateway/admin/wire"
)

// sums is a line of name, mode and hash for every file of the home, but for
// those whose path begins with one of the given ones.
func (h *faultHome) sums(but ...string) string {
	h.t.Helper()
	var lines strings.Builder
	err := filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(h.dir, path)
		for _, prefix := range but {
			if strings.HasPrefix(name, prefix) {
				return err
			}
		}
		info, infoErr := d.Info()
		b, readErr := os.ReadFile(path)
		if infoErr != nil || readErr != nil {
			return fmt.Errorf("%w %w", infoErr, readErr)
		}
		fmt.Fprintf(&lines, "%s %s %x\n", name, info.Mode(), sha256.Sum256(b))
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return lines.String()
}

// H72: no add loses a block to the collections that run all the while.
func TestFaultCollectDuringAdds(t *testing.T) {
	t.Parallel()
	const adders, each = 8, 38
	h := newFaultHome(t)
	added := make([]map[string]string, adders)
	var wg sync.WaitGroup
	for a := range adders {
		added[a] = map[string]string{}
		wg.Go(func() {
			for i := range each {
				name := fmt.Sprintf("%d of %d", i, a)
				s, err := h.tryAdd(name, 2000)
				if err != nil {
					t.Errorf("add %s: %v", name, err)
					return
				}
				added[a][name] = s.CID
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	collections, removed := 0, 0
	for running := true; running; collections++ {
		select {
		case <-done:
			running = false
		default:
		}
		c, err := h.admin.GC(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		removed += c.Removed
	}
	if removed > 0 {
		t.Errorf("%d blocks were collected, and none was garbage", removed)
	}
	total := 0
	for _, some := range added {
		h.allPlay(some, 2000)
		total += len(some)
	}
	if there := len(h.segments()); total != adders*each || there != total {
		t.Errorf("%d adds, %d there", total, there)
	}
	t.Logf("%d collections during %d adds", collections, total)
	h.stop()
}

// stalled asks for a segment over a connection of its own, and reads nothing.
func (h *faultHome) stalled(cid string) net.Conn {
	h.t.Helper()
	u, err := url.Parse(h.node.ready.Public)
	if err != nil {
		h.t.Fatal(err)
	}
	c, err := net.Dial("tcp", u.Host)
	if err == nil {
		_, err = fmt.Fprintf(c, "GET /listen/%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", cid, u.Host, h.token)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	return c
}

// Listeners who take nothing are cut, and meanwhile keep nobody from hearing.
func TestFaultSlowListeners(t *testing.T) {
	t.Parallel()
	const slow = 50
	h := newFaultHome(t, "MUSEN_PUBLIC_WRITE_STALL=2s", "MUSEN_PUBLIC_MAX_STREAMS_PER_SUBJECT=64")
	song, other := h.add("song", long), h.add("other", leaves(4))
	var conns []net.Conn
	for range slow {
		conns = append(conns, h.stalled(song.CID))
	}
	for range 5 {
		h.plays(other.CID, "other", leaves(4))
	}
	h.plays(song.CID, "song", long)
	await(t, "all slow listeners are cut", func() bool { return strings.Count(h.node.log.String(), "cut=true") == slow })
	for _, c := range conns {
		if n, _ := io.Copy(io.Discard, c); n >= long {
			t.Errorf("%d bytes came after the cut", n)
		}
	}
	for range 20 { // their places are free again
		h.plays(other.CID, "other", leaves(4))
	}
	h.stop()
}

// An upload that stops arriving is refused, leaves nothing, and meanwhile keeps
// nobody from adding.
func TestFaultSlowUpload(t *testing.T) {
	t.Parallel()
	h := newFaultHome(t)
	c, err := net.Dial("unix", filepath.Join(h.dir, "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	head := "POST /api/v1/stations/jazz/segments?title=slow HTTP/1.1\r\nHost: node\r\nContent-Type: audio/flac\r\nContent-Length: 1000000\r\n\r\n"
	if _, err := io.WriteString(c, head+string(audioOf("slow", leaves(3)))); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		h.plays(h.add(fmt.Sprint(i), 20_000).CID, fmt.Sprint(i), 20_000)
	}
	answer, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") || !strings.Contains(string(answer), `"upload_stalled"`) {
		t.Errorf("the upload that stalled was answered %q, %v", answer, err)
	}
	if n := len(h.segments()); n != 20 {
		t.Errorf("%d segments, not 20", n)
	}
	if _, err := h.admin.GC(t.Context()); err != nil {
		t.Error(err)
	}
	h.stop()
	h.start()
	h.nothingRecovered()
	h.stop()
}

// H13, H24, P5: nothing that a node writes, on the disk or in its log, holds
// audio, a token, a link, or what opens the keyring; and all that it writes is
// for its owner alone.
func TestFaultNothingSecretIsWritten(t *testing.T) {
	t.Parallel()
	const phrase = "an-entirely-secret-passphrase"
	h := newFaultHomePhrase(t, phrase)
	song := h.add("song", leaves(3))
	h.plays(song.CID, "song", leaves(3))
	id, err := cid.Decode(song.CID)
	if err != nil {
		t.Fatal(err)
	}
	link, err := h.admin.Link(t.Context(), id, wire.LinkRequest{Subject: "bob"})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(link.URL)
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string]string{
		"plaintext": marker, "the passphrase": phrase, "a token": h.token, "a token's signature": h.token[strings.LastIndexByte(h.token, '.')+1:],
		"a link": u.RawQuery, "a link's token": u.Query().Get("CAT"), "a key file's key": "AGE-SECRET-KEY",
	}
	for what, secret := range secrets {
		if len(secret) < 12 {
			t.Fatalf("%s is %q", what, secret)
		}
	}
	h.misuse(link.URL)
	if looked := h.holdsNone(secrets); looked < leaves(3) {
		t.Errorf("only %d bytes were looked through", looked)
	}
	h.forOwnerAlone()
	h.run(0, "remove", song.CID)
	h.run(0, "gc")
	h.stop()
	h.holdsNone(secrets)
	h.forOwnerAlone()
}

// misuse uses a link and the token as one should not, and a few ways that fail.
func (h *faultHome) misuse(link string) {
	h.t.Helper()
	for _, try := range []string{
		link, link + "x", link + "&CAT=twice", strings.Replace(link, "/listen/", "/ipfs/", 1), strings.Replace(link, "/listen/", "/nowhere/", 1),
		h.node.ready.Public + "/listen/" + h.token, h.node.ready.Public + "/listen/x?token=" + h.token, h.node.ready.Public + "/" + h.token,
	} {
		for _, header := range []string{"", "Bearer " + h.token, "Basic " + h.token} {
			req, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, try, nil)
			if err != nil {
				h.t.Fatal(err)
			}
			if header != "" {
				req.Header.Set("Authorization", header)
			}
			req.Header.Set("Referer", link)
			req.Header.Set("User-Agent", h.token)
			resp, err := oneShot().Do(req)
			if err != nil {
				h.t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
	h.run(4, "link", "bafkreiabaoygjaow4wcsfc3jjvfjadcw2swgn6ag5jtovmm253ldz2cpwa")
	h.run(0, "--json", "token", "issue", "--station", "jazz")
	h.run(0, "config", "show")
}

// forOwnerAlone reports all in the home that others could read, were they let
// into it.
func (h *faultHome) forOwnerAlone() {
	h.t.Helper()
	err := filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return ignoreGone(err)
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			h.t.Errorf("others may read %s: %s", path, info.Mode())
		}
		return ignoreGone(err)
	})
	if err != nil {
		h.t.Fatal(err)
	}
}
