package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// What holds the copies besides the origin.
const (
	modeStorage   = "storage"   // the operator's own nodes, which share a pinset
	modeCommunity = "community" // replicas, which are told what to hold
)

// A swarm is an origin and the peers that joined it, each a process with a home
// of its own.
type swarm struct {
	origin   *musenNode
	station  string
	peers    []*swarmPeer
	segments int // that were added
}

// A swarmPeer is a storage node or a replica.
type swarmPeer struct {
	name string
	proc *process
}

// startSwarm starts an origin with n peers, and makes a station of which each
// segment is to have swarmCopies copies. What it returns must be stopped, also
// after an error.
func (b *bench) startSwarm(ctx context.Context, mode string, n int) (*swarm, error) {
	s := &swarm{station: "swarm"}
	dir, err := os.MkdirTemp(b.disk, "swarm-")
	if err != nil {
		return s, err
	}
	if s.origin, err = b.initMusen(ctx, dir); err != nil {
		return s, err
	}
	role, flags := "storage", []string(nil)
	want := map[string]any{"min": swarmCopies, "max": swarmCopies}
	if mode == modeCommunity {
		role, flags = "replica", []string{"--disk", "50GB", "--up", "unlimited", "--hours", "always", "--stations", "all"}
		want = map[string]any{"min": 1, "max": 1, "community": swarmCopies - 1}
	}
	for _, name := range []string{warmStation, s.station} {
		if err := s.origin.call(ctx, "/stations", map[string]any{"name": name, "replication": want}, nil); err != nil {
			return s, err
		}
	}
	for i := range n {
		p, err := s.join(ctx, dir, role, fmt.Sprintf("%s-%d", role, i), flags)
		if err != nil {
			return s, err
		}
		s.peers = append(s.peers, p)
	}
	if err := s.gathered(ctx); err != nil {
		return s, err
	}
	return s, s.warm(ctx)
}

// warm adds a few segments to a station of their own and waits for their
// copies: peers that have just met still get to know each other.
func (s *swarm) warm(ctx context.Context) error {
	w := swarm{origin: s.origin, peers: s.peers, station: warmStation}
	_, err := w.addUp(ctx, 2*swarmConns, warmKiB)
	return err
}

const (
	warmStation = "warm"
	warmKiB     = 16
)

// join makes a peer and starts it.
func (s *swarm) join(ctx context.Context, dir, role, name string, flags []string) (*swarmPeer, error) {
	var invite struct{ Invite string }
	if err := s.origin.call(ctx, "/peers/invites", map[string]any{"role": role, "name": name, "site": "site-" + name}, &invite); err != nil {
		return nil, err
	}
	home := filepath.Join(dir, name)
	join := exec.CommandContext(ctx, s.origin.program, append([]string{"join", "--home", home, "-"}, flags...)...)
	join.Env, join.Stdin = cleanEnv(), strings.NewReader(invite.Invite+"\n")
	if out, err := join.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("musen join: %w: %s", err, out)
	}
	ready := filepath.Join(home, "ready.json")
	proc, err := start(ctx, dir, name, []string{"MUSEN_LOG_LEVEL=warn"}, s.origin.program, "serve", "--home", home, "--ready-file", ready)
	if err != nil {
		return nil, err
	}
	return &swarmPeer{name, proc}, proc.ready(ctx, func() bool {
		_, err := os.Stat(ready)
		return err == nil
	})
}

// gathered waits until the origin has a line with every peer, and has been told
// of its room.
func (s *swarm) gathered(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	for {
		up := 0
		for p, err := range s.known(ctx) {
			if err != nil {
				return err
			}
			if p.Role != "origin" && p.Up && p.Free > 0 {
				up++
			}
		}
		if up == len(s.peers) {
			return nil
		}
		if err := pause(ctx, swarmPoll); err != nil {
			return fmt.Errorf("%d of %d peers came: %w", up, len(s.peers), err)
		}
	}
}

// A knownPeer is a peer as the origin knows it.
type knownPeer struct {
	Role, Name   string
	Up           bool
	Free, Proved int64
}

// known asks the origin for its peers.
func (s *swarm) known(ctx context.Context) iter.Seq2[knownPeer, error] {
	return func(yield func(knownPeer, error) bool) {
		var all struct{ Peers []knownPeer }
		if err := s.origin.get(ctx, "/peers", &all); err != nil {
			yield(knownPeer{}, err)
			return
		}
		for _, p := range all.Peers {
			if !yield(p, nil) {
				return
			}
		}
	}
}

// proved says how many segments each peer, by name, has proved to hold.
func (s *swarm) proved(ctx context.Context) (map[string]int, error) {
	by := map[string]int{}
	for p, err := range s.known(ctx) {
		if err != nil {
			return nil, err
		}
		if p.Role != "origin" {
			by[p.Name] = int(p.Proved)
		}
	}
	return by, nil
}

// copyCount is what the origin says of the copies of the station's segments.
type copyCount struct{ Copies, Proved, Durable int }

func (s *swarm) copies(ctx context.Context) (c copyCount, err error) {
	return c, s.origin.get(ctx, "/stations/"+s.station+"/replication?limit=1", &c)
}

// get decodes an answer of the admin API into out.
func (m *musenNode) get(ctx context.Context, path string, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://musen/api/v1"+path, nil)
	if err != nil {
		return err
	}
	resp, err := m.local.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("GET %s: %s: %s", path, resp.Status, b)
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

func (s *swarm) procs() []*process {
	all := []*process{s.origin.proc}
	for _, p := range s.peers {
		all = append(all, p.proc)
	}
	return all
}

// cpu is what each process used so far, in seconds.
func (s *swarm) cpu() (all []float64) {
	for _, p := range s.procs() {
		all = append(all, cpuSeconds(p.pids()))
	}
	return all
}

// rss is the memory that each process has, in MiB.
func (s *swarm) rss() (all []float64) {
	for _, p := range s.procs() {
		all = append(all, mib(p.pids(), "VmRSS:"))
	}
	return all
}

func (s *swarm) stop() {
	if s.origin != nil {
		s.origin.stop()
	}
	for _, p := range s.peers {
		p.proc.stop()
	}
}

// kill ends the process without a word, and waits for its end.
func (p *process) kill() error {
	err := p.cmd.Process.Kill()
	<-p.done
	return err
}

func printSwarmHead(w io.Writer) {
	fmt.Fprintf(w, "Segments that are added over %d connections, %d copies of each. CPU and RSS: origin, peers. %s.\n",
		swarmConns, swarmCopies, machine())
	table(w, "Swarm", "copies on", "KiB", "segments", "added", "stored s", "replicated s", "durable s", "durable/s",
		"CPU ms/segment", "of it origin", "RSS MiB", "idle CPU %", "other CPU s")
}

func (r swarmRow) print(w io.Writer) {
	if r.Lost > 0 {
		fmt.Fprintf(w, "\n%s, %d segments of %d KiB: it held %d. The first was proved elsewhere after %s s, all after %s s; CPU s %s.\n",
			r.Mode, r.Total, r.KiB, r.Lost, number(r.FirstNew), number(r.AllNew), numbers(r.CPU))
		return
	}
	n := float64(r.Added)
	row(w, r.Mode, fmt.Sprint(r.KiB), fmt.Sprint(r.Total), fmt.Sprint(r.Added), number(r.Stored), number(r.Replicated),
		number(r.Durable), number(n/r.Durable), number(sum(r.CPU)/n*1e3), number(r.CPU[0]/n*1e3), numbers(r.RSS),
		numbers(r.Idle), number(r.Other))
}

func numbers(v []float64) string {
	var all []string
	for _, x := range v {
		all = append(all, number(x))
	}
	return strings.Join(all, ", ")
}

func sum(v []float64) (total float64) {
	for _, x := range v {
		total += x
	}
	return total
}

func total(by map[string]int) (n int) {
	for v := range maps.Values(by) {
		n += v
	}
	return n
}
