package cmd_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// P5, P6, P26, H83: a community replica carries ciphertext, serves it by CID,
// proves that it has it, and has no byte of audio, key, title or name anywhere
// below its home; a removal reaches it, and it signs that it was done.
func TestSwarmReplica(t *testing.T) {
	t.Parallel()
	s := startFleet(t)
	const lounge = "midnight-harbour-lounge" // long enough not to stand in noise by chance
	s.musen("station", "create", lounge, "--description", "songs of the quay", "--community", "2")
	s.musen("station", "set", "jazz", "--replicas", "1..1", "--community", "2")
	one := s.join("replica", "one", "--disk", "200MB", "--http", "127.0.0.1:0")
	two := s.join("replica", "two", "--disk", "200MB", "--http", "127.0.0.1:0")
	var songs []aired
	for _, file := range bundled(t) {
		songs = append(songs, s.add(file))
	}
	for _, song := range songs {
		s.waitCopies(song.CID, 3)
		for _, p := range []*peerNode{one, two} {
			if !p.holds(song.CID) {
				t.Errorf("%s proved %s and has no such block", p.name, song.CID)
			}
			mine, kind := stranger(t, p.node.ready.Public+"/ipfs/"+song.CID+"?format=car")
			theirs, _ := stranger(t, s.node.ready.Public+"/ipfs/"+song.CID+"?format=car")
			if !bytes.Equal(mine, theirs) || kind == "" {
				t.Errorf("%s serves %d bytes of %s, the origin %d", p.name, len(mine), kind, len(theirs))
			}
		}
	}
	var quiet aired
	if err := json.Unmarshal([]byte(s.musen("--json", "add", "--station", lounge, "--title", "Planted Title 4711", bundled(t)[0])), &quiet); err != nil {
		t.Fatal(err)
	}
	s.waitCopies(quiet.CID, 3)
	words := map[string][]byte{
		"a station's name": []byte(lounge), "its description": []byte("songs of the quay"),
		"a title": []byte("Planted Title 4711"), "another title": []byte("Harbour Light"),
	}
	for _, song := range songs {
		b, err := os.ReadFile(song.source)
		if err != nil {
			t.Fatal(err)
		}
		words["audio of "+filepath.Base(song.source)] = b[len(b)/2 : len(b)/2+32]
	}
	scan(t, one.home, words)

	gone := songs[0]
	two.stop() // away when it is removed
	file := blockFile(t, one.home, gone.CID)
	awaitIn(t, filepath.Dir(file), func() { s.musen("remove", gone.CID) }, func() bool { return !one.holds(gone.CID) })
	two.start()
	resp, err := http.Get(two.node.ready.Public + "/ipfs/" + gone.CID + "?format=raw")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode == http.StatusOK {
		t.Errorf("a replica that was away serves a removed segment: %s, %d bytes, %v", resp.Status, len(body), err)
	}
	var status struct{ Held int }
	if err := json.Unmarshal([]byte(one.musen("--json", "replica", "status")), &status); err != nil || status.Held != len(songs) {
		t.Errorf("replica status: %+v, %v", status, err)
	}
}

// waitCopies returns when so many peers proved that they hold a segment.
func (s *fleet) waitCopies(cid string, n int) {
	s.t.Helper()
	s.until("copies of "+cid, func() bool { return len(s.health(cid).proved()) >= n })
}
