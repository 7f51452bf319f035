package cmd_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
)

// A stockNode is ipfs as its makers release it, of the version that is in our
// nodes, with nothing of ours in it.
type stockNode struct {
	t    *testing.T
	repo string
	id   string
	api  string // http://HOST:PORT/api/v0/
}

// startStock builds ipfs and starts it on a repository of its own that is shut
// off from any network but loopback. It is gone when the test ends.
func startStock(t *testing.T) *stockNode {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "ipfs")
	if ours, theirs := kuboIn(t, "../go.mod"), kuboIn(t, "../bench/kubo/go.mod"); ours != theirs {
		t.Fatalf("the nodes have %s, the stock node is %s", ours, theirs)
	}
	run(t, "../bench/kubo", "go", "build", "-o", program, "github.com/ipfs/kubo/cmd/ipfs")
	n := &stockNode{t: t, repo: filepath.Join(dir, "repo")}
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "IPFS_PATH=" + n.repo, "IPFS_TELEMETRY=off"}
	prepare := exec.Command(program, "init", "--profile=autoconf-off")
	prepare.Env = env
	if out, err := prepare.CombinedOutput(); err != nil {
		t.Fatalf("ipfs init: %v\n%s", err, out)
	}
	n.configure()
	daemon := exec.Command(program, "daemon")
	daemon.Env = env
	n.daemon(daemon)
	return n
}

// kuboIn is the version of Kubo that a module requires.
func kuboIn(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(regexp.MustCompile(`github\.com/ipfs/kubo v\S+`).Find(b))
}

// configure switches off everything that would look for others.
func (n *stockNode) configure() {
	n.t.Helper()
	file := filepath.Join(n.repo, "config")
	b, err := os.ReadFile(file)
	if err != nil {
		n.t.Fatal(err)
	}
	var cfg map[string]any
	if err := json.Unmarshal(b, &cfg); err != nil {
		n.t.Fatal(err)
	}
	n.id = cfg["Identity"].(map[string]any)["PeerID"].(string)
	for section, settings := range map[string]map[string]any{
		"Addresses": {"API": "/ip4/127.0.0.1/tcp/0", "Gateway": "/ip4/127.0.0.1/tcp/0", "Swarm": []string{"/ip4/127.0.0.1/tcp/0"}},
		"Routing":   {"Type": "none"},
		"Provide":   {"Enabled": false},
		"Discovery": {"MDNS": map[string]any{"Enabled": false}},
		"Swarm":     {"DisableNatPortMap": true, "RelayClient": map[string]any{"Enabled": false}, "RelayService": map[string]any{"Enabled": false}},
		"AutoNAT":   {"ServiceMode": "disabled"},
		"AutoTLS":   {"Enabled": false},
		"AutoConf":  {"Enabled": false},
	} {
		old, _ := cfg[section].(map[string]any)
		if old == nil {
			old = map[string]any{}
			cfg[section] = old
		}
		for name, value := range settings {
			old[name] = value
		}
	}
	cfg["Bootstrap"] = []string{}
	if b, err = json.Marshal(cfg); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// daemon runs ipfs until the test ends, and returns when it answers.
func (n *stockNode) daemon(c *exec.Cmd) {
	n.t.Helper()
	out, err := c.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	c.Stderr = c.Stdout
	if err := c.Start(); err != nil {
		n.t.Fatal(err)
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	var log logBuffer
	go func() {
		defer close(ended)
		for lines, told := bufio.NewScanner(out), false; lines.Scan(); {
			log.add(lines.Text())
			if !told && strings.Contains(lines.Text(), "Daemon is ready") {
				told = true
				close(ready)
			}
		}
	}()
	n.t.Cleanup(func() {
		c.Process.Signal(syscall.SIGTERM)
		<-ended
		c.Wait()
	})
	select {
	case <-ready:
	case <-ended:
		n.t.Fatalf("ipfs daemon ended:\n%s", &log)
	}
	b, err := os.ReadFile(filepath.Join(n.repo, "api"))
	if err != nil {
		n.t.Fatal(err)
	}
	var host, port string
	if _, err := fmt.Sscanf(strings.ReplaceAll(string(b), "/", " "), " ip4 %s tcp %s", &host, &port); err != nil {
		n.t.Fatalf("%q: %v", b, err)
	}
	n.api = "http://" + host + ":" + port + "/api/v0/"
}

// ask runs a command of ipfs, which gives up after limit; 0: after patience.
func (n *stockNode) ask(limit time.Duration, command string, args ...string) ([]byte, error) {
	if limit == 0 {
		limit = patience
	}
	q := url.Values{"arg": args, "timeout": {limit.String()}}
	resp, err := http.Post(n.api+command+"?"+q.Encode(), "", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ipfs %s %v: %s", command, args, bytes.TrimSpace(body))
	}
	return body, err
}

// get is ask for what must succeed.
func (n *stockNode) get(command string, args ...string) []byte {
	n.t.Helper()
	b, err := n.ask(0, command, args...)
	if err != nil {
		n.t.Fatal(err)
	}
	return b
}

// answer reads the answer to a command.
func (n *stockNode) answer(into any, command string, args ...string) {
	n.t.Helper()
	if b := n.get(command, args...); json.Unmarshal(b, into) != nil {
		n.t.Fatalf("ipfs %s: %s", command, b)
	}
}

// received is how many blocks and bytes of blocks ever came from others.
func (n *stockNode) received() (r struct{ BlocksReceived, DataReceived int64 }) {
	n.t.Helper()
	n.answer(&r, "stats/bitswap")
	return r
}

// connected reports whether a node has a connection to it.
func (n *stockNode) connected(peer string) bool {
	n.t.Helper()
	var all struct{ Peers []struct{ Peer string } }
	n.answer(&all, "swarm/peers")
	return slices.ContainsFunc(all.Peers, func(p struct{ Peer string }) bool { return strings.HasSuffix(peer, "/"+p.Peer) })
}

// shutOut fails the test if the node gets anything from an address that it
// knows and dials, while it asks for blocks by their CIDs.
func (n *stockNode) shutOut(address string, blocks ...string) {
	n.t.Helper()
	const limit = 2 * time.Second
	before := n.received()
	for _, b := range blocks {
		_, refused := n.ask(limit, "swarm/connect", address) // a dialler may think for a moment that it is connected
		for _, command := range []string{"block/get", "cat"} {
			if body, err := n.ask(limit, command, b); err == nil || len(body) > 0 {
				n.t.Errorf("%s %s: %d bytes, %v; connect: %v", command, b, len(body), err, refused)
			}
		}
	}
	await(n.t, "the connection is closed", func() bool { return !n.connected(address) })
	if after := n.received(); after != before {
		n.t.Errorf("received %+v, before %+v", after, before)
	}
}

// fetchAll has the node fetch segments from whom it is connected to.
func (n *stockNode) fetchAll(s *fleet, all []aired) {
	n.t.Helper()
	n.get("repo/gc") // so that nothing is here
	before, size := n.received(), int64(0)
	for _, a := range all {
		n.fetches(s, a)
		size += a.SealedSize
	}
	if came := n.received().DataReceived - before.DataReceived; came < size {
		n.t.Errorf("%d bytes came of the %d that were fetched", came, size)
	}
}

// fetches has the node fetch a segment in all ways, and checks that it is the
// stored ciphertext and tells nothing.
func (n *stockNode) fetches(s *fleet, a aired) {
	n.t.Helper()
	if root := n.get("block/get", a.CID); !bytes.Equal(root, s.stored(a.CID)) {
		n.t.Errorf("the root of %s comes as %d bytes that are not those stored", a.CID, len(root))
	}
	var sealed []byte
	for _, b := range unpack(n.t, n.get("dag/export", a.CID), a.CID) {
		opaque(n.t, b)
		if !bytes.Equal(b.RawData(), s.stored(b.Cid().String())) || !bytes.Equal(b.RawData(), n.get("block/get", b.Cid().String())) {
			n.t.Errorf("block %s is not as stored", b.Cid())
		}
		if b.Cid().Type() == cid.Raw {
			sealed = append(sealed, b.RawData()...)
		}
	}
	if file := n.get("cat", a.CID); !bytes.Equal(file, sealed) || int64(len(file)) != a.SealedSize {
		n.t.Errorf("the file of %s has %d bytes, its leaves %d, the catalogue says %d", a.CID, len(file), len(sealed), a.SealedSize)
	}
	if e := entropy(sealed); e <= 7.99 {
		n.t.Errorf("entropy of %.4f bits a byte", e)
	}
	source, err := os.ReadFile(a.source)
	if err != nil {
		n.t.Fatal(err)
	}
	if at := leak(sealed, source); at >= 0 {
		n.t.Errorf("bytes of the source are in the ciphertext at %d", at)
	}
}

// stored is a block as the origin has it on its disk.
func (s *fleet) stored(block string) []byte {
	s.t.Helper()
	b, err := os.ReadFile(blockFile(s.t, s.home, block))
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// H83: a stock IPFS node gets nothing from a closed swarm. Once it is admitted
// it fetches every segment, from the origin and from a storage node, as the
// ciphertext that is stored. Once it is removed it gets nothing again.
func TestSwarmStockNode(t *testing.T) {
	t.Parallel()
	stock := startStock(t)
	s := startFleet(t)
	store := s.storages(1)[0]
	s.musen("station", "set", "jazz", "--replicas", "2..2")
	files := bundled(t)
	var songs []aired
	for _, file := range files[:len(files)-1] {
		songs = append(songs, s.airDurable(file))
	}
	origin, storage := s.node.ready.Peer[0], store.node.ready.Peer[0]
	stock.shutOut(origin, songs[0].CID)
	stock.shutOut(storage, songs[0].CID)

	s.musen("peer", "admit", stock.id, "--name", "visitor")
	stock.get("swarm/connect", origin)
	stock.fetchAll(s, songs)
	stock.get("swarm/disconnect", origin)
	stock.get("repo/gc")
	await(t, "the storage node heard of the guest", func() bool {
		stock.ask(0, "swarm/connect", storage)
		_, err := stock.ask(time.Second, "block/get", songs[0].CID)
		return err == nil
	})
	stock.fetchAll(s, songs)

	stock.get("swarm/connect", origin)
	s.musen("peer", "remove", "visitor")
	await(t, "both have closed the connection", func() bool { return !stock.connected(origin) && !stock.connected(storage) })
	stock.get("repo/gc")
	fresh := s.airDurable(files[len(files)-1])
	stock.shutOut(origin, fresh.CID, songs[0].CID)
	stock.shutOut(storage, fresh.CID, songs[0].CID)
}

// H50, H52: a stock IPFS node that is admitted gets no block of what a denylist
// names, under any of its names, and what it had not got yet it gets once the
// line is gone, from the same processes.
func TestSwarmStockNodeIsDenied(t *testing.T) {
	t.Parallel()
	stock := startStock(t)
	list := filepath.Join(t.TempDir(), "bad.deny")
	deny := func(cids ...string) {
		t.Helper()
		text := "# denied\n"
		for _, c := range cids {
			text += "/ipfs/" + c + "/*\n"
		}
		if err := os.WriteFile(list+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(list+".new", list); err != nil {
			t.Fatal(err)
		}
	}
	deny()
	s := &fleet{radio: startRadio(t, "MUSEN_DENYLIST_FILES="+list), peers: map[string]*peerNode{}}
	files := bundled(t)
	bad, good := s.add(files[0]), s.add(files[1])
	denied := func(want string) func() bool {
		return func() bool { return strings.Contains(s.musen("denylist", "check", bad.CID), want) }
	}
	deny(bad.CID)
	await(t, "it is denied", denied("a denylist denies it"))
	s.musen("peer", "admit", stock.id, "--name", "visitor")
	await(t, "the guest is let in", func() bool {
		_, err := stock.ask(time.Second, "swarm/connect", s.node.ready.Peer[0])
		return err == nil
	})
	root, err := cid.Decode(bad.CID)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []cid.Cid{root, cid.NewCidV0(root.Hash()), cid.NewCidV1(cid.Raw, root.Hash())} {
		if body, err := stock.ask(2*time.Second, "block/get", c.String()); err == nil {
			t.Errorf("%s: %d bytes of what is denied", c, len(body))
		}
	}
	stock.fetchAll(s, []aired{good})
	deny()
	await(t, "it is denied no more", denied("nothing denies it"))
	stock.fetchAll(s, []aired{bad})
}
