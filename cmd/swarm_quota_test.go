package cmd_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire/swarm"
)

// diskUse is what a folder takes on the disk, as du counts it.
func diskUse(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				bytes += info.Sys().(*syscall.Stat_t).Blocks * 512
			}
		}
		return ignoreGone(err)
	})
	return bytes, err
}

// watchDisk looks again and again what a folder takes, and returns the most
// that was seen when it is asked.
func watchDisk(t *testing.T, dir string) (most func() int64) {
	t.Helper()
	var peak atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			n, err := diskUse(dir)
			if err != nil {
				t.Errorf("measure %s: %v", dir, err)
				return
			}
			peak.Store(max(peak.Load(), n))
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
	return peak.Load
}

// A hostStatus is what a host says about itself.
type hostStatus struct{ Held, Used, Free, Waiting int64 }

func (p *peerNode) status() (s hostStatus) {
	p.t.Helper()
	if out := p.musen("--json", "replica", "status"); json.Unmarshal([]byte(out), &s) != nil {
		p.t.Fatalf("replica status: %s", out)
	}
	return s
}

// refusals are the reasons that a host gave for having no room.
func (p *peerNode) refusals() map[string]string {
	p.t.Helper()
	full := map[string]string{}
	for line := range strings.Lines(p.musen("--json", "replica", "orders", "--limit", "1000")) {
		var o struct{ CID, Outcome, Reason string }
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			p.t.Fatalf("replica orders: %v: %s", err, line)
		}
		if o.Outcome == "full" {
			full[o.CID] = o.Reason
		}
	}
	return full
}

// noise writes audio of a size that is nobody else's.
func noise(t *testing.T, name string, size int) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), name+".flac")
	if err := os.WriteFile(file, audioOf(name, size), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// copies is health for a caller that asks often.
func copies(t *testing.T, api *client.Client, id string) swarm.Health {
	t.Helper()
	c, err := cid.Decode(id)
	if err != nil {
		t.Fatal(err)
	}
	h, err := api.Copies(t.Context(), c, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// copyOf is the copy of a peer.
func copyOf(h swarm.Health, name string) (c swarm.Copy) {
	if i := slices.IndexFunc(h.Copies, func(c swarm.Copy) bool { return c.Name == name }); i >= 0 {
		return h.Copies[i]
	}
	return c
}

// P6: a full replica stops at its quota within one segment. What it takes on
// the disk never passes what is offered; it refuses in words that the origin
// shows; another replica takes what it did not. Offered more, it takes more.
func TestSwarmQuota(t *testing.T) {
	t.Parallel()
	const disk, song = 32 << 20, 1 << 20
	s := startFleet(t)
	api := client.New(filepath.Join(s.home, "admin.sock"))
	t.Cleanup(api.Close)
	s.musen("station", "set", "jazz", "--replicas", "1..1", "--community", "2")
	small := s.join("replica", "small", "--disk", strconv.Itoa(disk)+"B")
	most := watchDisk(t, small.home)

	// It takes until the next would not fit: the origin knows how much room
	// there is, and gives it no more.
	var songs []aired
	full := false
	for i := 0; !full; i++ {
		if i > disk/song {
			t.Fatalf("a replica of %d bytes took %d segments of %d", disk, i, song)
		}
		songs = append(songs, s.add(noise(t, fmt.Sprintf("song %d", i), song)))
		id := songs[i].CID
		await(t, "a segment is proved, or there is no room", func() bool {
			h := copies(t, api, id)
			c := copyOf(h, small.name)
			full = (c.State == "" || c.State == "failed") && strings.Contains(h.Reason, "no room")
			return full || c.State == "proved"
		})
	}
	if st := small.status(); st.Free > song*11/10 {
		t.Errorf("it refused a segment of %d bytes with %d free: %+v", song, st.Free, st)
	}

	// A segment that fits by its bytes, but not with what it takes besides: the
	// replica itself refuses.
	tight := s.add(noise(t, "tight", int(small.status().Free)*995/1000-8<<10))
	songs = append(songs, tight)
	await(t, "the replica refused", func() bool { return copyOf(copies(t, api, tight.CID), small.name).State == "failed" })
	h := copies(t, api, tight.CID)
	if c := copyOf(h, small.name); !strings.Contains(c.Reason, "no room") || !strings.Contains(h.Reason, "no room") {
		t.Errorf("the origin says %+v", h)
	}
	if why := small.refusals()[tight.CID]; !strings.Contains(why, strconv.Itoa(disk)) {
		t.Errorf("the replica says %q", why)
	}
	if small.holds(tight.CID) {
		t.Error("it has what it refused")
	}

	big := s.join("replica", "big", "--disk", "1GB")
	for _, a := range songs {
		await(t, "the other replica proved it", func() bool { return copyOf(copies(t, api, a.CID), big.name).State == "proved" })
	}
	if n := most(); n > disk || n < disk-4*song-6<<20 {
		t.Errorf("its home took up to %d bytes of %d", n, disk)
	}

	small.musen("replica", "set", "--disk", "128MiB")
	for _, a := range songs {
		await(t, "it takes all", func() bool { return len(proofs(copies(t, api, a.CID))) == 3 })
	}
	if st := small.status(); st.Held != int64(len(songs)) {
		t.Errorf("it holds %d of %d", st.Held, len(songs))
	}
}

// proofs are the names of those who proved that they hold a segment.
func proofs(h swarm.Health) (names []string) {
	for _, c := range h.Copies {
		if c.State == "proved" {
			names = append(names, c.Name)
		}
	}
	return names
}

// The least audio that a node takes is one small block: it is copied, proved,
// removed and played like any other.
func TestSwarmSmallestSegments(t *testing.T) {
	t.Parallel()
	s := startFleet(t)
	s.musen("station", "set", "jazz", "--replicas", "2..2", "--community", "1")
	peers := []*peerNode{s.join("storage", "store"), s.join("replica", "attic", "--disk", "64MiB")}
	dir := t.TempDir()
	var songs []aired
	for i := range 5 { // from the head of a stream alone on
		file := filepath.Join(dir, fmt.Sprintf("%d.flac", i))
		if err := os.WriteFile(file, audioOf("least", 0)[:len(flacHead)+i], 0o600); err != nil {
			t.Fatal(err)
		}
		songs = append(songs, s.airDurable(file))
	}
	for i, a := range songs {
		c, err := cid.Decode(a.CID)
		if err != nil || c.Type() != cid.Raw || a.Size != int64(len(flacHead)+i) {
			t.Errorf("%s of %d bytes is not one block: %v", a.CID, a.Size, err)
		}
		s.waitCopies(a.CID, 3)
		want, err := os.ReadFile(blockFile(t, s.home, a.CID))
		if err != nil || int64(len(want)) != a.SealedSize {
			t.Errorf("stored as %d bytes, sealed %d, %v", len(want), a.SealedSize, err)
		}
		for _, p := range peers {
			if got, err := os.ReadFile(blockFile(t, p.home, a.CID)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s has %d bytes of %d, %v", p.name, len(got), len(want), err)
			}
		}
		s.listenWhole(a)
	}
	for _, p := range peers {
		gone := blockFile(t, p.home, songs[0].CID)
		if p == peers[0] {
			awaitIn(t, filepath.Dir(gone), func() { s.musen("remove", songs[0].CID) }, func() bool { return !p.holds(songs[0].CID) })
		}
		await(t, "a removed segment is gone", func() bool { _, err := os.Stat(gone); return errors.Is(err, fs.ErrNotExist) })
	}
}

// listenWhole fails the test unless a listener hears the source.
func (s *fleet) listenWhole(a aired) {
	s.t.Helper()
	body, _ := stranger(s.t, s.link(a, "listener"))
	if want, err := os.ReadFile(a.source); err != nil || !bytes.Equal(body, want) {
		s.t.Errorf("a listener hears %d bytes of %d, %v", len(body), len(want), err)
	}
}
