package cmd_test

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"golang.org/x/time/rate"
)

// H50, P92: what is taken down at one gateway, which is an edge, is refused at
// all of them when the command returns, also on connections that were open and in
// the middle of a song; the origin acts on it; and so is the end of it.
func TestTakenDownAtAllGateways(t *testing.T) {
	t.Parallel()
	g := startGateways(t, 2, "1m")
	a, b := g.edges[0], g.edges[1]
	song := g.add(longSong(t))
	source, err := os.ReadFile(song.source)
	if err != nil {
		t.Fatal(err)
	}
	token := a.token("ann")
	kept := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(kept.CloseIdleConnections)
	plays := func(r *radio) bool {
		status, audio := hears(t, kept, r.url(song), token)
		return status == http.StatusOK && bytes.Equal(audio, source)
	}
	var cut []paced
	for _, r := range g.all() {
		await(t, "every gateway plays the song", func() bool { return plays(r) })
		p := paced{tuneIn(t, r.url(song), token).Body, rate.NewLimiter(songRate, 64<<10)}
		if _, err := io.ReadFull(p, make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		cut = append(cut, p)
	}
	said := b.musen("takedown", song.CID, "--category", "privacy", "--reason", "a voice that was not asked")
	if !strings.Contains(said, "in force on 3 of 3 gateways after ") {
		t.Errorf("it says %q", said)
	}
	for i, r := range g.all() { // no waiting: it is in force
		if status, code := hears(t, kept, r.url(song), token); status != 451 || string(code) != "taken_down" {
			t.Errorf("%s answers %d, %.80s", r.home, status, code)
		}
		if resp, err := kept.Get(r.node.ready.Public + "/ipfs/" + song.CID + "?format=raw"); err != nil || resp.StatusCode != 451 {
			t.Errorf("%s gives ciphertext: %v, %v", r.home, resp, err)
		} else {
			resp.Body.Close()
		}
		if rest, err := io.ReadAll(cut[i]); err == nil || len(rest)+1<<20 >= len(source) {
			t.Errorf("gateway %d plays on: %d bytes more, %v", i, len(rest), err)
		}
		if shown := r.musen("takedown", "show", song.CID); !strings.Contains(shown, "a voice that was not asked") {
			t.Errorf("%s shows %q", r.home, shown)
		}
	}
	if said := g.musen("takedown", "lift", song.CID, "--reason", "it was asked"); !strings.Contains(said, "in force on 3 of 3 gateways after ") {
		t.Errorf("it says %q", said)
	}
	for _, r := range g.all() {
		if !plays(r) {
			t.Errorf("%s does not play what was put back", r.home)
		}
	}
	a.musen("takedown", song.CID, "--shred", "--reason", "after all")
	for _, r := range g.all() {
		if status, code := hears(t, kept, r.url(song), token); status != 451 {
			t.Errorf("%s answers %d, %.80s", r.home, status, code)
		}
	}
	await(t, "the origin collects the blocks", func() bool {
		return !strings.Contains(g.musen("gc"), "removed 0 blocks")
	})
}
