package cmd_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A replica and a storage node whose blocks are gone say so as soon as they are
// started, and have everything again, proved, soon after.
func TestSwarmLostBlocks(t *testing.T) {
	t.Parallel()
	s := startFleet(t)
	s.musen("station", "set", "jazz", "--replicas", "2..2", "--community", "1")
	attic := s.join("replica", "attic", "--disk", "200MB")
	cellar := s.join("storage", "cellar")
	var songs []aired
	for _, file := range bundled(t) {
		songs = append(songs, s.add(file))
	}
	for _, song := range songs {
		s.waitCopies(song.CID, 3)
	}
	for _, p := range []*peerNode{attic, cellar} {
		p.stop()
		if err := os.RemoveAll(filepath.Join(p.home, "ipfs", "blocks")); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		p.start()
		s.until("the copies of "+p.name, func() bool {
			for _, song := range songs {
				if !p.holds(song.CID) || len(s.health(song.CID).proved()) < 3 {
					return false
				}
			}
			return true
		})
		t.Logf("%s has its %d segments again after %s", p.name, len(songs), time.Since(began))
		var status struct{ Held int }
		if err := json.Unmarshal([]byte(p.musen("--json", "replica", "status")), &status); err != nil || status.Held != len(songs) {
			t.Errorf("%s: %+v, %v", p.name, status, err)
		}
		if log := p.node.log.warnings(); strings.Contains(log, "no peer has") || strings.Contains(log, "garbage collection") {
			t.Errorf("the log of %s:\n%s", p.name, log)
		}
	}
}
