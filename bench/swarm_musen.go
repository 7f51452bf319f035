package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A musenFleet is an origin and the peers that joined it.
type musenFleet struct {
	origin *musenNode
	role   string // of its peers
	flags  []string
}

// startMusens starts an origin with peers and makes its stations.
func (b *bench) startMusens(ctx context.Context, s *swarm, n int) error {
	f := &musenFleet{role: "storage"}
	s.fleet = f
	want := map[string]any{"min": swarmCopies, "max": swarmCopies}
	if s.mode == modeCommunity {
		f.role, f.flags = "replica", []string{"--disk", "50GB", "--up", "unlimited", "--hours", "always", "--stations", "all"}
		want = map[string]any{"min": 1, "max": 1, "community": swarmCopies - 1}
	}
	var err error
	if f.origin, err = b.initMusen(ctx, s.dir); f.origin != nil && f.origin.proc != nil {
		s.members = append(s.members, member{"origin", []*process{f.origin.proc}})
	}
	if err != nil {
		return err
	}
	for _, name := range []string{warmStation, swarmStation} {
		if err := f.origin.call(ctx, "/stations", map[string]any{"name": name, "replication": want}, nil); err != nil {
			return err
		}
	}
	for i := range n - 1 {
		name := fmt.Sprintf("%s-%d", f.role, i)
		proc, err := f.join(ctx, s.dir, name)
		if proc != nil {
			s.members = append(s.members, member{name, []*process{proc}})
		}
		if err != nil {
			return err
		}
	}
	return f.gathered(ctx, n-1)
}

// join makes a peer and starts it.
func (f *musenFleet) join(ctx context.Context, dir, name string) (*process, error) {
	var invite struct{ Invite string }
	if err := f.origin.call(ctx, "/peers/invites", map[string]any{"role": f.role, "name": name, "site": "site-" + name}, &invite); err != nil {
		return nil, err
	}
	home := filepath.Join(dir, name)
	join := exec.CommandContext(ctx, f.origin.program, append([]string{"join", "--home", home, "-"}, f.flags...)...)
	join.Env, join.Stdin = cleanEnv(), strings.NewReader(invite.Invite+"\n")
	if out, err := join.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("musen join: %w: %s", err, out)
	}
	ready := filepath.Join(home, "ready.json")
	proc, err := start(ctx, dir, name, []string{"MUSEN_LOG_LEVEL=warn"}, f.origin.program, "serve", "--home", home, "--ready-file", ready)
	if err != nil {
		return nil, err
	}
	return proc, proc.ready(ctx, func() bool {
		_, err := os.Stat(ready)
		return err == nil
	})
}

// gathered waits until the origin has a line with n peers, and has been told of
// their room.
func (f *musenFleet) gathered(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	for {
		up := 0
		for p, err := range f.known(ctx) {
			if err != nil {
				return err
			}
			if p.Role != "origin" && p.Up && p.Free > 0 {
				up++
			}
		}
		if up == n {
			return nil
		}
		if err := pause(ctx, swarmPoll); err != nil {
			return fmt.Errorf("%d of %d peers came: %w", up, n, err)
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
func (f *musenFleet) known(ctx context.Context) iter.Seq2[knownPeer, error] {
	return func(yield func(knownPeer, error) bool) {
		var all struct{ Peers []knownPeer }
		if err := f.origin.get(ctx, "/peers", &all); err != nil {
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

// add adds over the admin socket.
func (f *musenFleet) add(ctx context.Context, station string, audio io.Reader, size int64) error {
	_, err := uploader{f.origin.local, "http://musen", station, ""}.add(ctx, audio, size)
	return err
}

// copies is what the origin says.
func (f *musenFleet) copies(ctx context.Context, station string) (c copyCount, err error) {
	return c, f.origin.get(ctx, "/stations/"+station+"/replication?limit=1", &c)
}

// holdings is what each peer has proved to the origin.
func (f *musenFleet) holdings(ctx context.Context) (map[string]int, error) {
	by := map[string]int{}
	for p, err := range f.known(ctx) {
		if err != nil {
			return nil, err
		}
		if p.Role != "origin" {
			by[p.Name] = int(p.Proved)
		}
	}
	return by, nil
}

// get decodes an answer of the admin API into out.
func (m *musenNode) get(ctx context.Context, path string, out any) error {
	return fetch(ctx, m.local, "http://musen/api/v1"+path, func(body io.Reader) error {
		return json.NewDecoder(body).Decode(out)
	})
}

// fetch hands a good answer to read, unless it is empty.
func fetch(ctx context.Context, c *http.Client, url string, read func(io.Reader) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		err = read(resp.Body)
	case http.StatusNoContent:
	default:
		b, _ := io.ReadAll(resp.Body)
		err = fmt.Errorf("%s: %s", resp.Status, b)
	}
	if err != nil {
		return fmt.Errorf("GET %s: %w", req.URL.Path, err)
	}
	return nil
}
