package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A kuboNode is a repository of Kubo, shut off from any network, and the
// daemon that runs on it.
type kuboNode struct {
	program, repo string
	proc          *process
	api, gateway  string // http://HOST:PORT
	client        *http.Client
}

// initKubo makes a repository with Kubo's defaults for blocks. With sync,
// blocks are durable before an add is answered, which is not Kubo's default.
// It listens for other nodes on the addresses of swarm, if any.
func (b *bench) initKubo(ctx context.Context, dir, name string, sync bool, swarm ...string) (*kuboNode, error) {
	k := &kuboNode{program: b.path("ipfs"), repo: filepath.Join(dir, name)}
	k.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	cmd := exec.CommandContext(ctx, k.program, "init", "--profile=autoconf-off")
	cmd.Env = append(cleanEnv(), k.env()...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("ipfs init: %w: %s", err, out)
	}
	if err := k.configure(sync, append([]string{}, swarm...)); err != nil {
		return nil, err
	}
	return k, k.start(ctx)
}

func (k *kuboNode) env() []string { return []string{"IPFS_PATH=" + k.repo, "IPFS_TELEMETRY=off"} }

// configure switches everything off that would talk to a public network or do
// work in the background.
func (k *kuboNode) configure(sync bool, swarm []string) error {
	settings := map[string]any{
		"Addresses.API": "/ip4/127.0.0.1/tcp/0", "Addresses.Gateway": "/ip4/127.0.0.1/tcp/0",
		"Addresses.Swarm": swarm, "Bootstrap": []string{}, "Routing.Type": "none",
		"Provide.Enabled": false, "Discovery.MDNS.Enabled": false, "Gateway.NoFetch": true, "Gateway.NoDNSLink": true,
		"Swarm.DisableNatPortMap": true, "Swarm.RelayClient.Enabled": false, "Swarm.RelayService.Enabled": false,
		"AutoNAT.ServiceMode": "disabled", "AutoTLS.Enabled": false, "AutoConf.Enabled": false,
		"Datastore.StorageMax": "100GB",
	}
	return rewrite(filepath.Join(k.repo, "config"), func(cfg map[string]any) {
		for path, value := range settings {
			set(cfg, path, value)
		}
		if sync {
			syncBlocks(cfg)
		}
	})
}

// rewrite changes a file that is one JSON object.
func rewrite(file string, change func(map[string]any)) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var cfg map[string]any
	if err := json.Unmarshal(b, &cfg); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	change(cfg)
	if b, err = json.MarshalIndent(cfg, "", "  "); err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o600)
}

// set sets the field at a path like a.b.c.
func set(m map[string]any, path string, value any) {
	name, rest, deeper := strings.Cut(path, ".")
	if !deeper {
		m[name] = value
		return
	}
	sub, ok := m[name].(map[string]any)
	if !ok {
		sub = map[string]any{}
		m[name] = sub
	}
	set(sub, rest, value)
}

// syncBlocks turns "sync" on wherever the datastore has a flatfs.
func syncBlocks(v any) {
	switch v := v.(type) {
	case map[string]any:
		if v["type"] == "flatfs" {
			v["sync"] = true
		}
		for _, sub := range v {
			syncBlocks(sub)
		}
	case []any:
		for _, sub := range v {
			syncBlocks(sub)
		}
	}
}

// start starts the daemon afresh.
func (k *kuboNode) start(ctx context.Context) (err error) {
	k.stop()
	apiFile, gatewayFile := filepath.Join(k.repo, "api"), filepath.Join(k.repo, "gateway")
	_, _ = os.Remove(apiFile), os.Remove(gatewayFile) // of an earlier run
	if k.proc, err = start(ctx, filepath.Dir(k.repo), filepath.Base(k.repo), k.env(), k.program, "daemon"); err != nil {
		return err
	}
	return k.proc.ready(ctx, func() bool {
		k.api, k.gateway = addressIn(apiFile), addressIn(gatewayFile)
		if k.api == "" || k.gateway == "" {
			return false
		}
		return post(ctx, k.client, k.api+"/api/v0/version", nil, nil, nil) == nil
	})
}

func (k *kuboNode) stop() {
	k.client.CloseIdleConnections()
	k.proc.stop()
	k.proc = nil
}

// addressIn reads the address that a daemon wrote into a file, as a base URL.
func addressIn(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	address := strings.TrimSpace(string(b))
	if f := strings.Split(address, "/"); len(f) == 5 && f[1] == "ip4" && f[3] == "tcp" { // /ip4/HOST/tcp/PORT
		return "http://" + f[2] + ":" + f[4]
	}
	if strings.HasPrefix(address, "http://") {
		return strings.TrimRight(address, "/")
	}
	return ""
}

// add adds and pins over the RPC API.
func (k *kuboNode) add(ctx context.Context, audio io.Reader, _ int64) (string, error) {
	body, header := asForm(audio)
	var added struct{ Hash string }
	err := post(ctx, k.client, k.api+"/api/v0/add?pin=true&cid-version=1&raw-leaves=true&progress=false", header, body, &added)
	return added.Hash, err
}

// asForm is the body of a request that uploads the audio as a file of a form,
// and its header.
func asForm(audio io.Reader) (io.Reader, http.Header) {
	pr, pw := io.Pipe()
	form := multipart.NewWriter(pw)
	go func() {
		part, err := form.CreateFormFile("file", "segment.wav")
		if err == nil {
			_, err = io.Copy(part, audio)
		}
		if err == nil {
			err = form.Close()
		}
		pw.CloseWithError(err)
	}()
	return pr, http.Header{"Content-Type": {form.FormDataContentType()}}
}

// meet connects the node to another one.
func (k *kuboNode) meet(ctx context.Context, other *kuboNode) error {
	var id struct{ Addresses []string }
	if err := post(ctx, other.client, other.api+"/api/v0/id", nil, nil, &id); err != nil {
		return err
	}
	if len(id.Addresses) == 0 {
		return fmt.Errorf("kubo in %s listens nowhere", other.repo)
	}
	return post(ctx, k.client, k.api+"/api/v0/swarm/connect?arg="+id.Addresses[0], nil, nil, nil)
}

// keepGateway restarts the daemon with its gateway on a port that stays the
// same.
func (k *kuboNode) keepGateway(ctx context.Context) error {
	k.stop()
	port, err := freePort()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, k.program, "config", "Addresses.Gateway", fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port))
	cmd.Env = append(cleanEnv(), k.env()...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ipfs config: %w: %s", err, out)
	}
	return k.start(ctx)
}
