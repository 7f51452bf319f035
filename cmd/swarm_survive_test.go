package cmd_test

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// P14, P81, P82, H59: five nodes, three copies. In the middle of a stream the
// origin's own copy is destroyed and a holder is killed: the listener hears
// every byte from the third, and the swarm has three copies again by itself.
func TestSwarmSurvives(t *testing.T) {
	t.Parallel()
	s := startFleet(t)
	peers := s.storages(4)
	s.musen("station", "set", "jazz", "--replicas", "3..3", "--spread", "site")
	song := s.airDurable(longSong(t))
	before := s.health(song.CID).proved()
	if len(before) != 3 {
		t.Fatalf("proved by %v, want three", before)
	}

	stream := s.listen(song)
	s.loseBlocks(song)
	holders := slices.DeleteFunc(slices.Clone(peers), func(p *peerNode) bool { return !slices.Contains(before, p.name) })
	holders[0].kill()
	stream.rest(t, song.source)

	// The listener met the damage: what the origin says that it has is whole.
	s.until("the origin has its own copy again", func() bool {
		return slices.Contains(s.health(song.CID).proved(), "origin")
	})
	s.musen("verify")

	// The dead peer's copy comes back by itself.
	s.restored(song.CID, holders[0].name)
	holders[1].kill()
	s.restored(song.CID, holders[1].name)
	s.listen(song).rest(t, song.source)
}

// restored returns when a segment has three proved copies without one peer's.
func (s *fleet) restored(cid, without string) {
	s.t.Helper()
	s.until("three copies without "+without, func() bool {
		names := s.health(cid).proved()
		return len(names) == 3 && !slices.Contains(names, without)
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
func (s *fleet) loseBlocks(aired) {
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
