package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The stations of a home. Each way to add has its own, because a station takes
// the same audio once.
const (
	station    = "bench"
	stationTCP = "bench-tcp"
)

// A musenNode is a home of musen and the node that runs in it.
type musenNode struct {
	program, home string
	flags, env    []string // of serve
	proc          *process
	ready         struct{ Public, Admin string }
	local         *http.Client // over the unix socket
	token         string       // may listen to the station
}

// initMusen makes a home in dir, with a station.
func (b *bench) initMusen(ctx context.Context, dir string) (*musenNode, error) {
	m := &musenNode{program: b.path("musen"), home: filepath.Join(dir, "musen")}
	m.local = &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(m.home, "admin.sock"))
		},
	}}
	cmd := exec.CommandContext(ctx, m.program, "init", "--home", m.home)
	cmd.Env = cleanEnv()
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("musen init: %w: %s", err, out)
	}
	if err := m.start(ctx); err != nil {
		return m, err
	}
	for _, name := range []string{station, stationTCP} {
		if err := m.call(ctx, "/stations", map[string]any{"name": name}, nil); err != nil {
			return m, err
		}
	}
	var err error
	m.token, err = m.issue(ctx, station, "listen")
	return m, err
}

// start starts the node afresh.
func (m *musenNode) start(ctx context.Context) (err error) {
	m.stop()
	ready := filepath.Join(m.home, "ready.json")
	_ = os.Remove(ready)
	argv := append([]string{m.program, "serve", "--home", m.home, "--public", "127.0.0.1:0", "--ready-file", ready}, m.flags...)
	// As many streams and requests for one subject as wrk asks for; no log line
	// for each request, as nginx and Kubo write none.
	env := append([]string{
		"MUSEN_PUBLIC_MAX_STREAMS=1024", "MUSEN_PUBLIC_MAX_STREAMS_PER_SUBJECT=1024", "MUSEN_LOG_LEVEL=warn",
		"MUSEN_LIMITS_CREDENTIAL=1000000", "MUSEN_LIMITS_SUBJECT=1000000", "MUSEN_LIMITS_STATION=1000000",
	}, m.env...)
	if m.proc, err = start(ctx, filepath.Dir(m.home), "musen", env, argv...); err != nil {
		return err
	}
	return m.proc.ready(ctx, func() bool {
		b, err := os.ReadFile(ready)
		return err == nil && json.Unmarshal(b, &m.ready) == nil
	})
}

func (m *musenNode) stop() {
	m.local.CloseIdleConnections()
	m.proc.stop()
	m.proc = nil
}

// call posts in to the admin API over the socket.
func (m *musenNode) call(ctx context.Context, path string, in, out any) error {
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return post(ctx, m.local, "http://musen/api/v1"+path, http.Header{"Content-Type": {"application/json"}}, bytes.NewReader(b), out)
}

// post sends a body and decodes the JSON of a good answer into out, if not nil.
func post(ctx context.Context, c *http.Client, url string, header http.Header, body io.Reader, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		return err
	}
	req.Header = header
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("POST %s: %s: %s", req.URL.Path, resp.Status, b)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}

// issue makes a bearer token for one action on a station.
func (m *musenNode) issue(ctx context.Context, station, action string) (string, error) {
	var t struct{ Token string }
	err := m.call(ctx, "/tokens", map[string]any{"subject": "bench", "stations": []string{station}, "actions": []string{action}}, &t)
	return t.Token, err
}

// link makes a link to a segment and returns what follows the host.
func (m *musenNode) link(ctx context.Context, cid string) (string, error) {
	var l struct{ URL string }
	if err := m.call(ctx, "/segments/"+cid+"/links", map[string]any{"ttl": 23 * 3600, "subject": "bench"}, &l); err != nil {
		return "", err
	}
	u, err := url.Parse(l.URL)
	if err != nil {
		return "", err
	}
	return u.RequestURI(), nil
}

// An adder adds one segment to a server and returns its CID.
type adder func(ctx context.Context, audio io.Reader, size int64) (cid string, err error)

// add adds over the unix socket, as the local operator.
func (m *musenNode) add(ctx context.Context, audio io.Reader, size int64) (string, error) {
	return uploader{m.local, "http://musen", station, ""}.add(ctx, audio, size)
}

// adderTCP adds over the admin listener on TCP, with a token.
func (m *musenNode) adderTCP(ctx context.Context) (adder, error) {
	token, err := m.issue(ctx, stationTCP, "add")
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	return uploader{client, m.ready.Admin, stationTCP, "Bearer " + token}.add, err
}

// An uploader adds to one station over the admin API.
type uploader struct {
	client        *http.Client
	base          string
	station       string
	authorization string // empty: the socket is the permit
}

func (u uploader) add(ctx context.Context, audio io.Reader, size int64) (string, error) {
	header := http.Header{"Content-Type": {"audio/wav"}}
	if u.authorization != "" {
		header.Set("Authorization", u.authorization)
	}
	var added struct {
		CID      string
		Size     int64
		Existing bool
	}
	body := io.NopCloser(io.LimitReader(audio, size))
	err := post(ctx, u.client, u.base+"/api/v1/stations/"+u.station+"/segments", header, body, &added)
	if err == nil && (added.Existing || added.Size != size) {
		err = fmt.Errorf("added %d bytes, existing %t; sent %d new ones", added.Size, added.Existing, size)
	}
	return added.CID, err
}

// listenPath is where a token plays a segment.
func listenPath(cid string) string { return "/listen/" + strings.TrimSpace(cid) }
