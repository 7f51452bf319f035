package cmd_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A lan is a switch with machines on it: network namespaces that one test
// makes, and that go with it.
type lan struct {
	t        *testing.T
	prefix   string
	net      string // the first three numbers of its addresses
	machines int
}

// newLAN makes a switch. It takes the rights of root.
func newLAN(t *testing.T, net string) *lan {
	t.Helper()
	need(t, "ip")
	l := &lan{t: t, prefix: fmt.Sprintf("musen%d-%s", os.Getpid(), net), net: net}
	l.namespace("switch")
	l.ip("-n", l.name("switch"), "link", "add", "br0", "type", "bridge")
	l.ip("-n", l.name("switch"), "link", "set", "br0", "up")
	return l
}

func (l *lan) name(machine string) string { return l.prefix + "-" + machine }

func (l *lan) ip(args ...string) {
	l.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		l.t.Fatalf("this test makes network namespaces, as root: ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (l *lan) namespace(machine string) {
	l.t.Helper()
	l.ip("netns", "add", l.name(machine))
	l.t.Cleanup(func() { l.ip("netns", "del", l.name(machine)) })
	l.ip("-n", l.name(machine), "link", "set", "lo", "up")
}

// machine adds a machine and returns its address and what to put in front of a
// command line to run it there.
func (l *lan) machine(machine string) (address string, wrap []string) {
	l.t.Helper()
	l.machines++
	l.namespace(machine)
	port := "p-" + machine
	l.ip("-n", l.name("switch"), "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", l.name(machine))
	l.ip("-n", l.name("switch"), "link", "set", port, "master", "br0", "up")
	address = fmt.Sprintf("%s.%d", l.net, l.machines)
	l.ip("-n", l.name(machine), "addr", "add", address+"/24", "dev", "eth0")
	l.ip("-n", l.name(machine), "link", "set", "eth0", "up")
	return address, []string{"ip", "netns", "exec", l.name(machine)}
}

// cable plugs a machine in, or pulls its cable.
func (l *lan) cable(machine, state string) {
	l.t.Helper()
	l.ip("-n", l.name("switch"), "link", "set", "p-"+machine, state)
}

// fleet starts an origin on a machine of its own, with more settings if there
// are any.
func (l *lan) fleet(settings ...string) *fleet {
	l.t.Helper()
	address, wrap := l.machine("origin")
	s := &fleet{radio: &radio{t: l.t, home: filepath.Join(l.t.TempDir(), "home")}, peers: map[string]*peerNode{}}
	s.musen("init")
	p, err := serve(s.home, append(listening(address), settings...), wrap)
	if err != nil {
		l.t.Fatal(err)
	}
	s.node = p
	l.t.Cleanup(func() {
		if err := p.stop(); err != nil {
			l.t.Errorf("stop: %v\n%s", err, &p.log)
		}
	})
	return s
}

// listening is the environment of a node that listens on an address.
func listening(address string) []string {
	return append(os.Environ(), "MUSEN_NODE_LISTEN=/ip4/"+address+"/tcp/4001,/ip4/"+address+"/udp/4001/quic-v1")
}

// joinFrom makes a peer on a machine, a site of its own, and starts it.
func (s *fleet) joinFrom(wrap []string, address, role, name string, flags ...string) {
	s.t.Helper()
	p := &peerNode{t: s.t, name: name, home: filepath.Join(s.t.TempDir(), name), wrap: wrap, env: listening(address)}
	invite := s.musen("peer", "invite", "--role", role, "--name", name, "--site", name)
	run(s.t, "", wrap[0], slices.Concat(wrap[1:], []string{"musen", "--home", p.home, "join", invite}, flags)...)
	p.start()
	s.t.Cleanup(p.stop)
	s.peers[name] = p
}

// H63, P18: two machines of three are cut off from the third while segments are
// added and removed. When the cable is back they agree: what was acknowledged
// is held everywhere, what was removed is gone everywhere.
func TestSwarmPartition(t *testing.T) {
	t.Parallel()
	l := newLAN(t, "10.77.0")
	s := l.fleet()
	s.musen("station", "create", "jazz", "--replicas", "3..3")
	for _, name := range []string{"a", "b"} {
		address, wrap := l.machine(name)
		s.joinFrom(wrap, address, "storage", name)
	}
	files := bundled(t)
	old := s.airDurable(files[0])
	l.cable("b", "down")
	fresh := s.add(files[1])
	s.musen("remove", old.CID)
	if s.peers["b"].holds(fresh.CID) || !s.peers["b"].holds(old.CID) {
		t.Error("the cable was not pulled")
	}
	gone := blockFile(t, s.peers["b"].home, old.CID)
	awaitIn(t, filepath.Dir(gone), func() { l.cable("b", "up") }, func() bool { return !s.peers["b"].holds(old.CID) })
	s.wait(fresh.CID, "durable")
	if h := s.health(fresh.CID); len(h.proved()) != 3 {
		t.Errorf("after the partition: %+v", h)
	}
}
