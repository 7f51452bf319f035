package cmd_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// P14, P81, P82, H59: five nodes, three copies. In the middle of a stream the
// origin's own copy is destroyed, and two peers are killed, a holder among them:
// the listener hears every byte from the third, and the swarm has three copies
// again by itself. Those are as good: with the second holder killed and the
// origin's copy destroyed once more, a listener hears every byte from a peer
// that had none at first.
func TestSwarmSurvives(t *testing.T) {
	t.Parallel()
	s := startFleet(t)
	peers := s.storages(4)
	s.musen("station", "set", "jazz", "--replicas", "3..3", "--spread", "site")
	song := s.airDurable(longSong(t))
	before := s.health(song.CID).proved()
	if len(before) != 3 {
		t.Fatalf("copies at %v, want three", before)
	}
	var holders, others []*peerNode
	for _, p := range peers {
		if slices.Contains(before, p.name) {
			holders = append(holders, p)
		} else {
			others = append(others, p)
		}
	}

	stream := s.listen(song)
	s.loseBlocks()
	holders[0].kill()
	others[0].kill()
	stream.rest(t, song.source)

	// The listener met the damage: what the origin says that it has is whole.
	left := []string{"origin", holders[1].name, others[1].name}
	slices.Sort(left)
	s.restored(song.CID, left...)
	s.musen("verify")

	stream = s.listen(song)
	s.loseBlocks()
	holders[1].kill()
	stream.rest(t, song.source)
	s.restored(song.CID, "origin", others[1].name)
	s.listen(song).rest(t, song.source)
}

// restored returns when the copies that are proved are those of names, which
// are in the order of the alphabet.
func (s *fleet) restored(cid string, names ...string) {
	s.t.Helper()
	s.until(fmt.Sprintf("copies at %v alone", names), func() bool {
		return slices.Equal(slices.Sorted(slices.Values(s.health(cid).proved())), names)
	})
}

// A stream is a listener in the middle of a song.
type stream struct {
	body  io.ReadCloser
	heard bytes.Buffer
}

// listen starts to listen and returns when the first bytes were heard.
func (s *fleet) listen(a aired) *stream {
	s.t.Helper()
	resp, err := http.Get(s.link(a, "listener"))
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("listen: %v, %v", resp, err)
	}
	l := &stream{body: resp.Body}
	if _, err := io.CopyN(&l.heard, l.body, 100<<10); err != nil {
		s.t.Fatal(err)
	}
	return l
}

// rest hears the song to its end, which must be the source's.
func (l *stream) rest(t *testing.T, source string) {
	t.Helper()
	defer l.body.Close()
	if _, err := io.Copy(&l.heard, l.body); err != nil {
		t.Fatalf("after %d bytes: %v", l.heard.Len(), err)
	}
	want, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(l.heard.Bytes(), want) {
		t.Errorf("heard %d bytes that are not the source's %d", l.heard.Len(), len(want))
	}
}

// loseBlocks removes the second half of the origin's own blocks of all
// segments.
func (s *fleet) loseBlocks() {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.home, "ipfs", "blocks", "*", "*.data"))
	if err != nil || len(files) < 8 {
		s.t.Fatalf("%d blocks, %v", len(files), err)
	}
	for _, file := range files[len(files)/2:] {
		if err := os.Remove(file); err != nil {
			s.t.Fatal(err)
		}
	}
}
