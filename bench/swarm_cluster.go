package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// When Cluster writes a batch of pins to its log.
const (
	batchSize = 100
	batchAge  = "1s"
)

// A clusterPeer is a peer of IPFS Cluster and the Kubo that it has pin.
type clusterPeer struct {
	ID     string // in its identity.json
	name   string
	home   string
	listen string // its address for other peers
	api    string // http://HOST:PORT
	kubo   *kuboNode
}

// A clusterFleet are peers of IPFS Cluster that trust each other and nobody
// else. It is talked to over the REST API of the first.
type clusterFleet struct {
	program string
	client  *http.Client
	peers   []*clusterPeer
}

// startCluster starts n peers.
func (b *bench) startCluster(ctx context.Context, s *swarm, n int) error {
	f := &clusterFleet{program: b.path("ipfs-cluster-service")}
	f.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	s.fleet = f
	for i := range n {
		p, err := b.newClusterPeer(ctx, s, fmt.Sprintf("peer-%d", i))
		if err != nil {
			return err
		}
		// Cluster has its Kubos connect as well, but not over loopback.
		for _, other := range f.peers {
			if err := p.kubo.meet(ctx, other.kubo); err != nil {
				return err
			}
		}
		f.peers = append(f.peers, p)
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	for i, p := range f.peers {
		if err := f.configure(p, hex.EncodeToString(secret), s.mode == modeCluster); err != nil {
			return err
		}
		env := []string{"IPFS_CLUSTER_LOG_LEVEL=warning"}
		proc, err := start(ctx, s.dir, p.name, env, f.program, "--config", p.home, "daemon")
		if err != nil {
			return err
		}
		s.members[i].procs = append(s.members[i].procs, proc)
		if err := proc.ready(ctx, func() bool { return listens(p.api) }); err != nil {
			return err
		}
	}
	// A peer that is asked while it still starts can end with a panic.
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	return f.gathered(ctx)
}

// listens reports whether somebody does, on http://HOST:PORT.
func listens(base string) bool {
	c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err == nil {
		c.Close()
	}
	return err == nil
}

// newClusterPeer makes a peer's folder, as the program does it by default, and
// starts its Kubo, which syncs blocks.
func (b *bench) newClusterPeer(ctx context.Context, s *swarm, name string) (*clusterPeer, error) {
	p := &clusterPeer{name: name, home: filepath.Join(s.dir, name)}
	var err error
	if p.kubo, err = b.initKubo(ctx, s.dir, name+"-kubo", true, "/ip4/127.0.0.1/tcp/0"); p.kubo != nil && p.kubo.proc != nil {
		s.members = append(s.members, member{name, []*process{p.kubo.proc}})
	}
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, b.path("ipfs-cluster-service"), "--config", p.home, "init", "--consensus", "crdt")
	cmd.Env = cleanEnv()
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("ipfs-cluster-service init: %w: %s", err, out)
	}
	identity, err := os.ReadFile(filepath.Join(p.home, "identity.json"))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(identity, p); err != nil {
		return nil, err
	}
	var ports [2]int
	for i := range ports {
		if ports[i], err = freePort(); err != nil {
			return nil, err
		}
	}
	p.listen = fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", ports[0])
	p.api = fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	return p, nil
}

// configure closes the cluster to all but its peers, on loopback, and has it
// keep as many copies as the others, also when a peer is lost. With batching it
// writes pins to its log together. All else stays as init made it.
func (f *clusterFleet) configure(p *clusterPeer, secret string, batching bool) error {
	var ids, addresses []string
	for _, other := range f.peers {
		ids = append(ids, other.ID)
		if other != p {
			addresses = append(addresses, other.listen+"/p2p/"+other.ID)
		}
	}
	kubo, anyPort := multiaddr(p.kubo.api), "/ip4/127.0.0.1/tcp/0"
	settings := map[string]any{
		"cluster.peername": p.name, "cluster.secret": secret, "cluster.mdns_interval": "0s",
		"cluster.listen_multiaddress": []string{p.listen}, "cluster.peer_addresses": addresses,
		"cluster.replication_factor_min": swarmCopies, "cluster.replication_factor_max": swarmCopies,
		"cluster.disable_repinning": false, "consensus.crdt.trusted_peers": ids,
		"api.restapi.http_listen_multiaddress":      multiaddr(p.api),
		"api.pinsvcapi.http_listen_multiaddress":    anyPort,
		"api.ipfsproxy.listen_multiaddress":         anyPort,
		"api.ipfsproxy.node_multiaddress":           kubo,
		"ipfs_connector.ipfshttp.node_multiaddress": kubo,
	}
	if batching {
		settings["consensus.crdt.batching.max_batch_size"] = batchSize
		settings["consensus.crdt.batching.max_batch_age"] = batchAge
	}
	return rewrite(filepath.Join(p.home, "service.json"), func(cfg map[string]any) {
		for path, value := range settings {
			set(cfg, path, value)
		}
	})
}

// multiaddr is http://HOST:PORT as a multiaddress.
func multiaddr(base string) string {
	host, port, _ := strings.Cut(strings.TrimPrefix(base, "http://"), ":")
	return "/ip4/" + host + "/tcp/" + port
}

// gathered waits until the first peer knows all there is to know of the others
// before it gives them something to hold.
func (f *clusterFleet) gathered(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	for {
		least := len(f.peers)
		for _, metric := range []string{"ping", "freespace", "tag:group"} {
			var all []struct{ Valid bool }
			err := fetch(ctx, f.client, f.peers[0].api+"/monitor/metrics/"+metric, func(body io.Reader) error {
				return json.NewDecoder(body).Decode(&all)
			})
			if err != nil {
				return err
			}
			least = min(least, len(all))
		}
		if least == len(f.peers) {
			return nil
		}
		if err := pause(ctx, swarmPoll); err != nil {
			return fmt.Errorf("%d of %d peers came: %w", least, len(f.peers), err)
		}
	}
}

// add adds over the REST API: the peer gives the blocks to all that are to hold
// them, and then has them pin.
func (f *clusterFleet) add(ctx context.Context, station string, audio io.Reader, _ int64) error {
	body, header := asForm(audio)
	var added []struct{ CID string }
	err := post(ctx, f.client, f.peers[0].api+"/add?stream-channels=false&cid-version=1&raw-leaves=true&name="+station, header, body, &added)
	if err == nil && len(added) != 1 {
		err = fmt.Errorf("added %d segments, sent one", len(added))
	}
	return err
}

// A pinInfo is what Cluster says of one pin.
type pinInfo struct {
	Name  string
	Peers map[string]struct {
		Name   string `json:"peername"`
		Status string
	} `json:"peer_map"`
}

// copies counts those that Cluster calls pinned. As long as it has pins in its
// queues, which is cheap to ask for, it counts none.
func (f *clusterFleet) copies(ctx context.Context, station string) (copyCount, error) {
	pending := 0
	err := f.pins(ctx, "pin_queued,pinning,pin_error", func(pinInfo) { pending++ })
	if pending > 0 || err != nil {
		return copyCount{}, err
	}
	by, err := f.pinned(ctx, station)
	return copyCount{Copies: total(by)}, err
}

// holdings are the copies that Cluster calls pinned.
func (f *clusterFleet) holdings(ctx context.Context) (map[string]int, error) {
	return f.pinned(ctx, swarmStation)
}

func (f *clusterFleet) pinned(ctx context.Context, station string) (map[string]int, error) {
	by := map[string]int{}
	return by, f.pins(ctx, "pinned", func(pin pinInfo) {
		for _, p := range pin.Peers {
			if p.Status == "pinned" && pin.Name == station {
				by[p.Name]++
			}
		}
	})
}

// pins asks for the pins of some states.
func (f *clusterFleet) pins(ctx context.Context, states string, each func(pinInfo)) error {
	return fetch(ctx, f.client, f.peers[0].api+"/pins?filter="+states, func(body io.Reader) error {
		for d := json.NewDecoder(body); ; {
			var pin pinInfo
			switch err := d.Decode(&pin); {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return err
			}
			each(pin)
		}
	})
}
