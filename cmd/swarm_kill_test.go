package cmd_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/node"
)

// A massacre is a fleet of which something is killed while segments are added.
type massacre struct {
	*fleet
	api     *client.Client
	env     []string // of the origin
	token   string   // of a listener
	stopped bool

	mu    sync.Mutex
	acked map[string]string // title: CID; answered as replicated
}

// roundSize is how many segments are added in a round.
const roundSize = 30

// begin has several uploaders add segments, each waiting for its copies. Once
// half of them were acknowledged it calls enough and closes halfway. wait returns
// when all were added or refused.
func (m *massacre) begin(round int, halfway chan<- struct{}, enough func()) (wait func()) {
	titles := make(chan string, roundSize)
	for i := range roundSize {
		titles <- fmt.Sprintf("%d of round %d", i, round)
	}
	close(titles)
	var done sync.WaitGroup
	var half sync.Once
	before := len(m.acked)
	for range uploaders {
		done.Go(func() {
			for title := range titles {
				b := audioOf(title, sizeOf(title))
				added, err := m.api.Add(m.t.Context(), "jazz", client.Upload{
					Audio: bytes.NewReader(b), Size: int64(len(b)), Title: title, Wait: "replicated", WaitTimeout: patience,
				})
				m.mu.Lock()
				if err == nil && (added.Level == "replicated" || added.Level == "durable") {
					m.acked[title] = added.CID
				}
				many := len(m.acked)-before >= roundSize/2
				m.mu.Unlock()
				if many {
					half.Do(func() { enough(); close(halfway) })
				}
			}
		})
	}
	return done.Wait
}

// sizeOf is how long the audio of a title is: less than a leaf, or up to three.
func sizeOf(title string) int { return len(title) * int(title[0]%5) * 10_000 }

// newMassacre starts an origin that listens for peers at the same port after
// each start.
func newMassacre(t *testing.T) *massacre {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	r := &radio{t: t, home: filepath.Join(t.TempDir(), "home")}
	m := &massacre{
		fleet: &fleet{radio: r, peers: map[string]*peerNode{}}, acked: map[string]string{},
		env: append(os.Environ(), fmt.Sprintf("MUSEN_NODE_LISTEN=/ip4/127.0.0.1/tcp/%d", port)),
		api: client.New(filepath.Join(r.home, "admin.sock")),
	}
	t.Cleanup(m.api.Close)
	m.musen("init")
	m.startOrigin()
	t.Cleanup(m.stopOrigin)
	m.musen("station", "create", "jazz", "--replicas", "3..3", "--community", "1")
	m.token = m.radio.token("listener")
	return m
}

func (m *massacre) startOrigin() {
	m.t.Helper()
	p, err := serve(m.home, m.env, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	m.node = p
}

func (m *massacre) stopOrigin() {
	if m.t.Failed() {
		m.t.Logf("the origin's log:\n%s", m.node.log.warnings())
	}
	if m.stopped {
		return
	}
	m.stopped = true
	if err := m.node.stop(); err != nil {
		m.t.Errorf("stop: %v\n%s", err, &m.node.log)
	}
}

// plays fails the test unless a listener hears the audio of a title.
func (m *massacre) plays(title, id string) {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, m.node.ready.Public+"/listen/"+id, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+m.token)
	resp, err := oneShot().Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if want := audioOf(title, sizeOf(title)); err != nil || !bytes.Equal(body, want) {
		m.t.Errorf("%s plays as %d bytes of %d, status %s, %v", title, len(body), len(want), resp.Status, err)
	}
}

// settled returns all segments of the station once everybody holds each of
// them, by proof.
func (m *massacre) settled() map[string]wire.Segment {
	m.t.Helper()
	all := map[string]wire.Segment{}
	for s, err := range m.api.Segments(m.t.Context(), "jazz") {
		if err != nil {
			m.t.Fatal(err)
		}
		all[s.Title] = s
	}
	for title, id := range m.acked {
		if all[title].CID != id {
			m.t.Errorf("%s was acknowledged as %s and is gone: %+v", title, id, all[title])
		}
	}
	for title, s := range all {
		id, err := cid.Decode(s.CID)
		if err != nil {
			m.t.Fatal(err)
		}
		if h, err := m.api.Copies(m.t.Context(), id, "durable", awaitLimit); err != nil || h.Level != "durable" {
			m.t.Errorf("%s: %+v, %v", title, h, err)
		}
		await(m.t, "a segment is proved by all", func() bool { return len(proofs(copies(m.t, m.api, s.CID))) == 1+len(m.peers) })
	}
	return all
}

// pins are the roots that a home which is not running has pinned.
func pins(t *testing.T, home string) (roots []string) {
	t.Helper()
	n, err := node.Open(t.Context(), node.Options{Dir: filepath.Join(home, "ipfs")})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for root, err := range n.Pins(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, root.String())
	}
	slices.Sort(roots)
	return roots
}

// kill ends a process without a word, in the middle of what a round adds, and
// starts it again. It returns when all was added or refused.
func (m *massacre) kill(round int, victim *peerNode) {
	m.t.Helper()
	p := m.node
	if victim != nil {
		p = victim.node
	}
	killed := make(chan struct{})
	wait := m.begin(round, killed, func() { p.cmd.Process.Kill() })
	select {
	case <-killed:
		<-p.done
	case <-time.After(awaitLimit):
		m.t.Fatalf("round %d: not half of the segments were acknowledged", round)
	}
	if victim == nil {
		wait()
		m.startOrigin()
		return
	}
	victim.start()
	wait()
}

// H66: any peer, or the origin, is killed in the middle of adding segments that
// are acknowledged once they are replicated. After a restart all that was
// acknowledged is durable again by itself, and plays. In the end every home has
// pinned what it should hold, and nothing else.
func TestSwarmKills(t *testing.T) {
	t.Parallel()
	m := newMassacre(t)
	peers := append(m.storages(2), m.join("replica", "attic", "--disk", "1GB"))
	for round, victim := range []*peerNode{nil, peers[0], peers[2], peers[1], nil} { // nil: the origin
		m.kill(round, victim)
		all := m.settled()
		for title, segment := range all {
			m.plays(title, segment.CID)
		}
		t.Logf("round %d: %d acknowledged until now, %d are there", round, len(m.acked), len(all))
	}
	var want []string
	for _, segment := range m.settled() {
		want = append(want, segment.CID)
	}
	slices.Sort(want)
	for _, p := range peers {
		p.stop()
		m.holds(p.name, p.home, want)
	}
	m.stopOrigin()
	m.holds("the origin", m.home, want)
}

// holds fails the test unless a home that is not running has pinned the
// segments and nothing else.
func (m *massacre) holds(name, home string, want []string) {
	m.t.Helper()
	if got := pins(m.t, home); !slices.Equal(got, want) {
		m.t.Errorf("%s has pinned %d segments, %d are there", name, len(got), len(want))
	}
	if left := globOrNone(filepath.Join(home, "ipfs", "blocks", ".temp", "temp-*")); len(left) > 0 {
		m.t.Errorf("%s has %d blocks without a name", name, len(left))
	}
}
