package cmd_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/time/rate"

	"github.com/musenai/musen/internal/testpg"
)

// Gateways are an origin and the edges beside it, on one PostgreSQL: every one
// a process with a home of its own.
type gateways struct {
	*radio
	database *testpg.Server
	edges    []*radio
	env      []string
}

// startGateways starts an origin with the station jazz, and n edges, with that
// lease.
func startGateways(t *testing.T, n int, lease string) *gateways {
	t.Helper()
	dir := t.TempDir()
	g := &gateways{
		radio: &radio{t: t, home: filepath.Join(dir, "origin")}, database: testpg.Start(t),
		env: append(os.Environ(), "MUSEN_FLEET_LEASE="+lease, "MUSEN_FLEET_POLL=200ms", "MUSEN_RECHECK_INTERVAL=200ms"),
	}
	connection := filepath.Join(dir, "connection")
	if err := os.WriteFile(connection, []byte(g.database.Database("musen")), 0o600); err != nil {
		t.Fatal(err)
	}
	g.musen("init", "--catalogue-postgres-file", connection)
	g.start(g.radio, "origin")
	g.musen("station", "create", "jazz")
	keys := filepath.Join(g.home, "keys")
	for i := range n {
		name := string(rune('a' + i))
		e := &radio{t: t, home: filepath.Join(dir, name)}
		e.musen("init", "--edge", "--keys", keys, "--key-file", filepath.Join(keys, "identity.txt"), "--catalogue-postgres-file", connection)
		g.start(e, name)
		g.edges = append(g.edges, e)
	}
	return g
}

// start starts a gateway, which must stop with exit code 0 when the test ends.
func (g *gateways) start(r *radio, name string) {
	g.t.Helper()
	p, err := serve(r.home, append(g.env, "MUSEN_FLEET_NAME="+name), nil)
	if err != nil {
		g.t.Fatal(err)
	}
	r.node = p
	g.t.Cleanup(func() {
		if err := p.stop(); err != nil {
			g.t.Errorf("stop %s: %v\n%s", name, err, &p.log)
		}
		if g.t.Failed() {
			g.t.Logf("%s: %s", name, p.log.warnings())
		}
	})
}

// all are the origin and the edges.
func (g *gateways) all() []*radio { return append([]*radio{g.radio}, g.edges...) }

func (r *radio) url(a aired) string { return r.node.ready.Public + "/listen/" + a.CID }

// hears asks with a client that keeps its connections, and returns the status
// and the audio or the code of the problem.
func hears(t *testing.T, c *http.Client, url, token string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := c.Do(req)
	if err != nil {
		return 0, []byte(err.Error())
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil { // it was cut
		return 0, []byte(err.Error())
	}
	if resp.StatusCode == http.StatusOK {
		return resp.StatusCode, b
	}
	var problem struct{ Code string }
	if err := json.Unmarshal(b, &problem); err != nil {
		t.Fatalf("status %d with %s", resp.StatusCode, b)
	}
	return resp.StatusCode, []byte(problem.Code)
}

// P17, P18, H11: what is revoked at one gateway is refused at all of them, also
// on connections that were open, and in the middle of a song.
func TestRevokedAtAllGateways(t *testing.T) {
	t.Parallel()
	g := startGateways(t, 2, "1m")
	a, b := g.edges[0], g.edges[1]
	song := g.add(longSong(t))
	source, err := os.ReadFile(song.source)
	if err != nil {
		t.Fatal(err)
	}
	token := a.token("ann") // also an edge issues
	kept := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(kept.CloseIdleConnections)
	for _, r := range g.all() {
		await(t, "every gateway plays the song", func() bool { // an edge is let in within seconds
			status, audio := hears(t, kept, r.url(song), token)
			return status == http.StatusOK && bytes.Equal(audio, source)
		})
	}
	var plays []paced
	for _, r := range g.all() {
		resp := tuneIn(t, r.url(song), token)
		p := paced{resp.Body, rate.NewLimiter(songRate, 64<<10)}
		if _, err := io.ReadFull(p, make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		plays = append(plays, p)
	}
	if said := b.musen("token", "revoke", "--subject", "ann"); !strings.HasPrefix(said, "revoked every token and link of ann; in force on 3 of 3 gateways after ") {
		t.Errorf("it says %q", said)
	}
	for _, r := range g.all() { // no waiting: it is in force
		if status, code := hears(t, kept, r.url(song), token); status != 401 || string(code) != "credential_revoked" {
			t.Errorf("%s answers %d, %.80s", r.home, status, code)
		}
	}
	for i, p := range plays {
		if rest, err := io.ReadAll(p); err == nil || len(rest)+1<<20 >= len(source) {
			t.Errorf("gateway %d plays on: %d bytes more, %v", i, len(rest), err)
		}
	}
}

// An edge plays what the origin adds, also to stations that are made while it
// runs; it adds nothing itself, and says where that is done. Gateways are shown
// by status.
func TestEdgeBesideOrigin(t *testing.T) {
	t.Parallel()
	g := startGateways(t, 1, "1m")
	edge := g.edges[0]
	file := bundled(t)[0]
	for _, line := range [][]string{{"station", "create", "blues"}, {"add", "--station", "jazz", file}, {"station", "remove", "jazz"}} {
		_, stderr, err := try("", "musen", append([]string{"--home", edge.home}, line...)...)
		if err == nil || !strings.Contains(stderr, "[not_origin]") || !strings.Contains(stderr, "at the origin, origin") {
			t.Errorf("%q: %v, %s", line, err, stderr)
		}
	}
	g.musen("station", "create", "later")
	var late aired
	if err := json.Unmarshal([]byte(g.musen("--json", "add", "--station", "later", file)), &late); err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	token := edge.musen("token", "issue", "--station", "later", "--subject", "ann")
	await(t, "the edge plays a segment of a new station", func() bool {
		status, audio := hears(t, http.DefaultClient, edge.url(late), token)
		return status == http.StatusOK && bytes.Equal(audio, source)
	})
	link := edge.musen("link", late.CID)
	if resp := tuneIn(t, link, ""); resp.StatusCode != http.StatusOK {
		t.Errorf("a link of an edge: %s", resp.Status)
	}
	_, told, err := try("", "musen", "--home", edge.home, "share", "regenerate", "later")
	if err != nil || !strings.Contains(told, "in force on 2 of 2 gateways after ") {
		t.Errorf("regenerate says %q, %v", told, err)
	}
	for _, r := range g.all() {
		at := strings.Replace(link, edge.node.ready.Public, r.node.ready.Public, 1)
		if resp := tuneIn(t, at, ""); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("a link of the epoch before, at %s: %s", r.home, resp.Status)
		}
	}
	for _, step := range []struct {
		on   *radio
		line []string
	}{{edge, []string{"role", "grant", "ann", "support"}}, {edge, []string{"role", "revoke", "ann", "support"}}, {g.radio, []string{"remove", late.CID}}} {
		if said := step.on.musen(step.line...); !strings.Contains(said, "in force on 2 of 2 gateways after ") {
			t.Errorf("%q says %q", step.line, said)
		}
	}
	await(t, "the edge knows that it was removed", func() bool {
		status, _ := hears(t, http.DefaultClient, edge.url(late), token)
		return status == http.StatusGone
	})
	for _, r := range g.all() {
		status := r.musen("status")
		for _, line := range []string{"origin (origin)", "a (edge)", ", this one"} {
			if !strings.Contains(status, line) {
				t.Errorf("status of %s does not say %q:\n%s", r.home, line, status)
			}
		}
	}
	_, stderr, err := try("", "musen", "--home", filepath.Join(t.TempDir(), "second"), "init", "--catalogue-postgres-file", filepath.Join(filepath.Dir(g.home), "connection"))
	if err == nil || !strings.Contains(stderr, "[catalogue_exists]") || !strings.Contains(stderr, "--edge") {
		t.Errorf("a second origin on that catalogue: %v, %s", err, stderr)
	}
}

// P75: keys that are rotated at the origin are those of every gateway, before
// anything is signed with them and without a restart; what was signed before
// stays good.
func TestKeysRotateAtAllGateways(t *testing.T) {
	t.Parallel()
	g := startGateways(t, 1, "1m")
	edge := g.edges[0]
	song := g.add(bundled(t)[0])
	plays := func(token string) func() bool {
		return func() bool {
			status, _ := hears(t, http.DefaultClient, edge.url(song), token)
			return status == http.StatusOK
		}
	}
	before := g.token("ann")
	await(t, "the edge plays the song", plays(before))
	g.musen("token", "rotate-key")
	if !plays(g.token("bob"))() {
		t.Error("the edge does not know the new key when the rotation is done")
	}
	if !plays(before)() {
		t.Error("a token of the old key is refused")
	}
	after := edge.token("eve") // which the edge signs with the new key as well
	if status, code := hears(t, http.DefaultClient, g.radio.url(song), after); status != http.StatusOK {
		t.Errorf("the origin answers %d, %.80s to a token of the edge", status, code)
	}
	_, stderr, err := try("", "musen", "--home", edge.home, "token", "rotate-key", "--links")
	if err == nil || !strings.Contains(stderr, "[not_origin]") {
		t.Errorf("an edge rotates: %v, %s", err, stderr)
	}
}

// P17, P84: without its catalogue a gateway lets nobody in when its lease is
// over, also in the middle of a song, and goes on by itself when it is back.
func TestGatewayWithoutCatalogue(t *testing.T) {
	t.Parallel()
	g := startGateways(t, 1, "2s") // it waits for the end
	edge := g.edges[0]
	song := g.add(longSong(t))
	token := g.token("ann")
	await(t, "the edge plays the song", func() bool {
		status, _ := hears(t, http.DefaultClient, edge.url(song), token)
		return status == http.StatusOK
	})
	resp := tuneIn(t, edge.url(song), token)
	g.database.Kill()
	rest, err := io.ReadAll(paced{resp.Body, rate.NewLimiter(songRate, 64<<10)})
	if err == nil {
		t.Errorf("it plays on to the end: %d bytes", len(rest))
	}
	for _, r := range g.all() {
		await(t, "the lease is over", func() bool {
			status, code := hears(t, http.DefaultClient, r.url(song), token)
			return status == http.StatusServiceUnavailable && string(code) == "revocations_unknown"
		})
	}
	if resp := tuneIn(t, edge.node.ready.Public+"/readyz", ""); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("readyz says %s", resp.Status)
	}
	g.database.Restart()
	for _, r := range g.all() {
		await(t, "it goes on", func() bool {
			status, _ := hears(t, http.DefaultClient, r.url(song), token)
			return status == http.StatusOK
		})
	}
}

// A copy of the origin's home, from a backup, does not start beside it, and
// leaves what the origin is adding alone.
func TestCopyOfOrigin(t *testing.T) {
	t.Parallel()
	g := startGateways(t, 0, "1m")
	twin := filepath.Join(t.TempDir(), "copy")
	run(t, "", "cp", "-a", g.home, twin)
	_, stderr, err := try("", "musen", "--home", twin, "serve", "--public", "127.0.0.1:0")
	if err == nil || !strings.Contains(stderr, "[another_origin]") {
		t.Errorf("it starts, or says something else: %v, %s", err, stderr)
	}
	g.add(bundled(t)[0])
}
