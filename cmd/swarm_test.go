package cmd_test

import (
	"encoding/base32"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
)

// A fleet is a radio, the origin, and the peers that joined it: every one a
// process with a home of its own.
type fleet struct {
	*radio
	peers map[string]*peerNode
}

// A peerNode is a storage node or a replica.
type peerNode struct {
	t    *testing.T
	name string
	home string
	node *process // nil: not running
	env  []string // nil: the test's own
	wrap []string // in front of its command line
}

// startFleet starts an origin whose node others can join.
func startFleet(t *testing.T) *fleet {
	t.Helper()
	s := &fleet{radio: startRadio(t), peers: map[string]*peerNode{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the origin's log:\n%s", s.node.log.warnings())
		}
	})
	return s
}

// join makes a peer of a role on a site of its own, and starts it.
func (s *fleet) join(role, name string, flags ...string) *peerNode {
	s.t.Helper()
	p := &peerNode{t: s.t, name: name, home: filepath.Join(s.t.TempDir(), name)}
	invite := s.musen("peer", "invite", "--role", role, "--name", name, "--site", "site-"+name)
	p.musen(append([]string{"join", invite}, flags...)...)
	s.peers[name] = p
	p.start()
	s.t.Cleanup(p.stop)
	s.t.Cleanup(func() {
		if s.t.Failed() && p.node != nil {
			out, _, _ := try("", "musen", "--home", p.home, "--json", "replica", "status")
			s.t.Logf("%s: %s\n%s", name, out, p.node.log.warnings())
		}
	})
	return p
}

// warnings are the lines of a log that tell of trouble.
func (b *logBuffer) warnings() string {
	var found []string
	for line := range strings.Lines(b.String()) {
		if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") || strings.Contains(line, "status=5") {
			found = append(found, line)
		}
	}
	return strings.Join(found, "")
}

// storages joins n storage nodes, one on each site.
func (s *fleet) storages(n int) (all []*peerNode) {
	s.t.Helper()
	for i := range n {
		all = append(all, s.join("storage", "storage-"+string(rune('a'+i))))
	}
	return all
}

func (p *peerNode) musen(args ...string) string {
	p.t.Helper()
	return run(p.t, "", "musen", append([]string{"--home", p.home}, args...)...)
}

func (p *peerNode) start() {
	p.t.Helper()
	n, err := serve(p.home, p.env, p.wrap)
	if err != nil {
		p.t.Fatalf("start %s: %v", p.name, err)
	}
	p.node = n
}

func (p *peerNode) stop() {
	p.t.Helper()
	if p.node == nil {
		return
	}
	if err := p.node.stop(); err != nil {
		p.t.Errorf("stop %s: %v\n%s", p.name, err, &p.node.log)
	}
	p.node = nil
}

// kill ends the peer without a word.
func (p *peerNode) kill() {
	p.t.Helper()
	if err := p.node.kill(); err != nil {
		p.t.Fatalf("kill %s: %v", p.name, err)
	}
	p.node = nil
}

// A health is what the origin says of a segment's copies.
type health struct {
	CID    string
	Level  string
	Reason string
	Copies []struct {
		Name, Role, Site, State, Outcome string
		Counts                           bool
	}
}

// proved are the names of those who proved that they hold the segment, and are
// there.
func (h health) proved() (names []string) {
	for _, c := range h.Copies {
		if c.State == "proved" && c.Counts {
			names = append(names, c.Name)
		}
	}
	return names
}

// health asks the origin for the copies of a segment.
func (s *fleet) health(cid string) (h health) {
	s.t.Helper()
	out := s.musen("--json", "pin", "status", cid)
	if err := json.Unmarshal([]byte(out), &h); err != nil {
		s.t.Fatalf("pin status: %v: %s", err, out)
	}
	return h
}

// until asks again and again until something has happened in other processes,
// which tell nobody.
func (s *fleet) until(what string, happened func() bool) {
	s.t.Helper()
	for limit := time.Now().Add(2 * patience); !happened(); {
		if time.Now().After(limit) {
			s.t.Fatalf("it did not happen: %s", what)
		}
	}
}

// airDurable adds audio and returns once it is durable.
func (s *fleet) airDurable(file string) (a aired) {
	s.t.Helper()
	out := s.musen("--json", "add", "--station", "jazz", "--wait", "durable", "--wait-timeout", "2m", file)
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		s.t.Fatalf("musen add: %v: %s", err, out)
	}
	a.source = file
	return a
}

// holds reports whether a home has the root block of a segment.
func (p *peerNode) holds(cid string) bool {
	_, err := os.Stat(blockFile(p.t, p.home, cid))
	return err == nil
}

// blockFile is where a home keeps a block.
func blockFile(t *testing.T, home, block string) string {
	t.Helper()
	c, err := cid.Decode(block)
	if err != nil {
		t.Fatal(err)
	}
	name := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(c.Hash())
	return filepath.Join(home, "ipfs", "blocks", name[len(name)-3:len(name)-1], name+".data")
}

// scan fails the test if any file below a folder holds one of the words.
func scan(t *testing.T, dir string, words map[string][]byte) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		for what, word := range words {
			if strings.Contains(string(b), string(word)) {
				t.Errorf("%s holds %s", path, what)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// wait returns when a segment has reached a level.
func (s *fleet) wait(cid, level string) {
	s.t.Helper()
	s.musen("pin", "status", cid, "--wait", level, "--wait-timeout", "2m")
}
