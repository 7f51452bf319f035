package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	golog "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"go.uber.org/goleak"
	"golang.org/x/time/rate"
)

// childDir names the folder that a child process, which is this test binary
// again, works in; childJob what it does there.
const (
	childDir = "NODE_TEST_DIR"
	childJob = "NODE_TEST_JOB"
)

func TestMain(m *testing.M) {
	if job := os.Getenv(childJob); job != "" {
		if err := child(job, os.Getenv(childDir)); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child opens the node and, for the job "add", adds twice and prints a line
// after each.
func child(job, dir string) error {
	n, err := Open(context.Background(), Options{Dir: dir})
	if err != nil {
		return err
	}
	if job == "add" {
		for i, size := range []int{160 << 10, 5*leafSize + 1} {
			_, leaves, _, err := n.Add(context.Background(), bytes.NewReader(sealedBytes(byte(i), size)))
			if err != nil {
				return err
			}
			fmt.Printf("added %d leaves\n", len(leaves))
		}
	}
	return n.Close()
}

func childCommand(t *testing.T, job, dir string, before ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := append(before, exe)
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), childJob+"="+job, childDir+"="+dir)
	return cmd
}

func TestOneProcessAtATime(t *testing.T) {
	n := start(t)
	out, err := childCommand(t, "open", n.opts.Dir).CombinedOutput()
	if err == nil || !strings.Contains(string(out), ErrLocked.Error()) {
		t.Errorf("second process: %v\n%s", err, out)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := childCommand(t, "open", n.opts.Dir).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("process after Close: %v\n%s", err, out)
	}
}

// syscalls runs the job "add" under strace and returns the calls in the order
// in which they ended, and what the job wrote to stderr.
func syscalls(t *testing.T, dir string) (calls []string, stderr string) {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	cmd := childCommand(t, "add", dir, "strace", "-f", "-y", "-s", "200", "-o", trace,
		"-e", "trace=fsync,fdatasync,rename,renameat,renameat2,mkdir,mkdirat,connect,bind,sendto,sendmsg,write")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if out, err := cmd.Output(); err != nil {
		t.Fatalf("trace an add (Debian: apt-get install strace): %v\n%s%s", err, out, &errs)
	}
	raw, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	begun := map[string]string{}
	resumed := regexp.MustCompile(`^<\.\.\. \w+ resumed>`)
	for line := range strings.Lines(string(raw)) {
		pid, call, _ := strings.Cut(strings.TrimSpace(line), " ")
		call = strings.TrimSpace(call)
		if head, ok := strings.CutSuffix(call, "<unfinished ...>"); ok {
			begun[pid] = head
			continue
		}
		if tail := resumed.FindString(call); tail != "" {
			call = begun[pid] + call[len(tail):]
		}
		calls = append(calls, call)
	}
	return calls, errs.String()
}

// What Add acknowledges is on the disk: each block file was synced before it
// got its name, then the folder that has the name, which Init made durable. No
// kill can show this, a trace can. The same trace shows that a node talks to
// nobody, and prints nothing.
func TestAddIsDurableAndQuiet(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "node")
	if _, err := Init(dir); err != nil {
		t.Fatal(err)
	}
	calls, stderr := syscalls(t, dir)
	if stderr != "" {
		t.Errorf("printed to stderr: %s", stderr)
	}
	blockNamed := regexp.MustCompile(`^rename\w*\(.*?"([^"]*)",.*?"([^"]*/blocks/[^"]*\.data)".*= 0$`)
	madeFolder := regexp.MustCompile(`^mkdir\w*\(.*/blocks/[^."]*".*= 0$`)
	acked, blocks := 0, 0
	for i, call := range calls {
		if strings.HasPrefix(call, "write(1<") && strings.Contains(call, "added") {
			acked++
		}
		m := blockNamed.FindStringSubmatch(call)
		if m == nil {
			continue
		}
		blocks++
		shard := filepath.Dir(m[2])
		if !slices.ContainsFunc(calls[:i], synced(m[1])) {
			t.Errorf("%s was named before it was synced", m[2])
		}
		ack := slices.IndexFunc(calls[i:], func(c string) bool { return strings.HasPrefix(c, "write(1<") })
		if ack < 0 && acked < 2 {
			t.Fatal("no acknowledgement in the trace")
		}
		if ack >= 0 && !slices.ContainsFunc(calls[i:i+ack], synced(shard)) {
			t.Errorf("the folder of %s was not synced before the acknowledgement", m[2])
		}
	}
	for _, call := range calls {
		if madeFolder.MatchString(call) {
			t.Errorf("a folder is made while the node runs, and another add may count on it before it is synced: %s", call)
		}
	}
	if acked != 2 || blocks < 8 {
		t.Errorf("%d acknowledgements, %d blocks in the trace", acked, blocks)
	}
	checkNobodyIsCalled(t, calls)
}

func synced(path string) func(string) bool {
	return func(call string) bool {
		return (strings.HasPrefix(call, "fsync(") || strings.HasPrefix(call, "fdatasync(")) &&
			strings.Contains(call, "<"+path+">") && strings.HasSuffix(call, "= 0")
	}
}

func checkNobodyIsCalled(t *testing.T, calls []string) {
	t.Helper()
	loopback := regexp.MustCompile(`"(127\.0\.0\.1|::1|::ffff:127\.0\.0\.1)"`) // Go probes for IPv6
	for _, call := range calls {
		if strings.HasPrefix(call, "write(") || !strings.Contains(call, "AF_INET") {
			continue
		}
		if !strings.HasPrefix(call, "bind(") || !loopback.MatchString(call) {
			t.Errorf("a quiet node called %s", call)
		}
	}
}

// By default only loopback is listened on and nobody is connected.
func TestQuietByDefault(t *testing.T) {
	n := start(t)
	if conns := n.kubo.PeerHost.Network().Conns(); len(conns) != 0 {
		t.Errorf("connected to %v", conns)
	}
	for _, a := range n.kubo.PeerHost.Network().ListenAddresses() {
		if !manet.IsIPLoopback(a) {
			t.Errorf("listens on %s", a)
		}
	}
	addrs := n.Addrs()
	if len(addrs) != 1 {
		t.Fatalf("addresses %v, want one", addrs)
	}
	a, err := ma.NewMultiaddr(addrs[0])
	if err != nil || !strings.HasSuffix(addrs[0], "/p2p/"+n.PeerID()) {
		t.Fatalf("address %q: %v", addrs[0], err)
	}
	network, hostport, err := manet.DialArgs(a.Decapsulate(ma.StringCast("/p2p/" + n.PeerID())))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial(network, hostport)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// H54: what Kubo logs comes to the given logger, without addresses.
func TestLogsGoWhereTheyAreSent(t *testing.T) {
	var out bytes.Buffer
	start(t, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&out, nil)) })
	l := golog.Logger("node-test")
	l.Error("dial to /ip4/203.0.113.77/tcp/4001 and [2001:db8::77]:443 and 203.0.113.77 failed")
	l.Warn("quiet please")
	routeLogs(slog.New(slog.DiscardHandler))
	got := out.String()
	if !strings.Contains(got, "dial to <address>/tcp/4001 and <address>:443 and <address> failed") || strings.Contains(got, "quiet please") {
		t.Errorf("logged %q", got)
	}
}

func TestCloseEndsWhatRuns(t *testing.T) {
	n := start(t)
	g := newGate(sealedBytes(1, 3*leafSize), leafSize)
	failed := make(chan error)
	go func() {
		_, _, _, err := n.Add(context.Background(), g)
		failed <- err
	}()
	<-g.reached
	closed := make(chan error)
	go func() { closed <- n.Close() }()
	<-n.ctx.Done()
	close(g.open)
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("Add while closing: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := n.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, _, _, err := n.Add(context.Background(), bytes.NewReader(nil)); !errors.Is(err, ErrClosed) {
		t.Errorf("Add after Close: %v", err)
	}
	for _, err := range n.Pins(context.Background()) {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("Pins after Close: %v", err)
		}
	}
}

// Close leaves nothing running but what Kubo is known to: the manager of
// provider queries, of which there is one a node and which is idle, and a timer
// of LevelDB that ends within a minute.
func TestCloseLeavesNothingRunning(t *testing.T) {
	before := goleak.IgnoreCurrent()
	var guests guestList
	a := start(t, gated(&guests), func(o *Options) {
		o.Upload, o.Relay = rate.NewLimiter(rate.Inf, 1<<20), true
	})
	guests.set(a.Host().ID(), true)
	b := start(t, gated(&guests), func(o *Options) { o.Relays = via(t, a, "tcp").strings() })
	guests.set(b.Host().ID(), true)
	x, y := add(t, a, sealedBytes(1, 3*leafSize)), add(t, a, sealedBytes(2, 3*leafSize))
	b.Peer(via(t, a, "tcp").AddrInfo)
	a.Peer(peer.AddrInfo{ID: a.Host().ID() + "x"})
	await(t, b, a, true)
	readBack(t, b, x, leafSize)
	fetch(t, b, y)
	for _, n := range []*Node{a, b} {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	known := []goleak.Option{before,
		goleak.IgnoreAnyFunction("github.com/ipfs/boxo/routing/providerquerymanager.(*ProviderQueryManager).run"),
		goleak.IgnoreAnyFunction("github.com/ipfs/boxo/routing/providerquerymanager.(*ProviderQueryManager).findProviderWorker"),
		goleak.IgnoreAnyFunction("github.com/gammazero/chanqueue.(*ChanQueue[...]).bufferData"),
		goleak.IgnoreAnyFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"),
	}
	var leak error
	for range 10 { // each waits about a second
		if leak = goleak.Find(known...); leak == nil {
			return
		}
	}
	t.Error(leak)
}
