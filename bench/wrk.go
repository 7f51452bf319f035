package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// cipherSuite is what the client offers, so that all servers encrypt alike:
// left alone nginx picks AES-256 and Go AES-128.
const cipherSuite = "TLS_AES_128_GCM_SHA256"

// A record is one line of the results: one measurement of one server.
type record struct {
	Bench  string    `json:"bench"` // serve, tls, crowd, add, memory
	Target string    `json:"target"`
	Work   string    `json:"work"`
	State  string    `json:"state,omitempty"` // fresh: just started; warm: after the same work
	Round  int       `json:"round"`
	At     time.Time `json:"at"`

	Requests float64 `json:"requests,omitempty"`
	Bytes    float64 `json:"bytes,omitempty"` // as the client counted them
	PerS     float64 `json:"per_s,omitempty"`
	P50      float64 `json:"p50_ms,omitempty"`
	P99      float64 `json:"p99_ms,omitempty"`
	CPUPerGB float64 `json:"cpu_s_per_gb,omitempty"`
	CPUPerOp float64 `json:"cpu_ms_per_request,omitempty"`
	Idle     float64 `json:"idle_mib,omitempty"` // resident before
	RSS      float64 `json:"rss_mib,omitempty"`  // resident, median of what was seen during the run
	Peak     float64 `json:"peak_mib,omitempty"` // resident at most
	Wall     float64 `json:"wall_s"`
	CPU      float64 `json:"cpu_s"`
	Client   float64 `json:"client_cpu_s,omitempty"`
	Other    float64 `json:"other_cpu_s"` // of all other processes of the machine: noise
}

func (b *bench) write(r record) error {
	r.At = time.Now().UTC()
	return json.NewEncoder(b.results).Encode(r)
}

// A target is a server that wrk is sent to.
type target struct {
	name    string
	base    func() string
	pids    func() []int
	list    map[*shelf]string // files with the paths of a shelf's segments, in its order
	header  string            // Authorization, if any
	restart func(context.Context) error
	path    string // the only one, of a target that refuses
	refuses bool   // every request
	client  string // the address that a proxy would name; "": none
}

// A work is what wrk asks for.
type work struct {
	name  string
	shelf *shelf
	chunk int64 // bytes of a range; 0: the whole segment
	conns int
}

// check fetches one segment of the work from the target and compares it.
func (w work) check(ctx context.Context, t *target) error {
	list, err := os.ReadFile(t.list[w.shelf])
	if err != nil {
		return err
	}
	path, _, _ := bytes.Cut(list, []byte("\n"))
	want, err := os.ReadFile(w.shelf.file(0))
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.base()+string(path), nil)
	if err != nil {
		return err
	}
	if t.header != "" {
		req.Header.Set("Authorization", t.header)
	}
	if w.chunk > 0 {
		const first = 1_000_003 // across leaves and chunks
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", first, first+w.chunk-1))
		want = want[first : first+w.chunk]
	}
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // self-signed, on loopback
		DisableKeepAlives: true,
	}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("%s: %s with %d bytes, which are not those of the source", path, resp.Status, len(got))
	}
	return err
}

// wrkResult is the line that wrk.lua prints.
type wrkResult struct {
	Requests, Bytes, Micros float64
	P50                     float64 `json:"p50_us"`
	P99                     float64 `json:"p99_us"`
	BadStatus               int     `json:"bad_status"`
	Broken                  int
}

// wrk sends wrk to a target and fills in the record. A refusal, where none is
// due, or a broken answer is an error: half a measurement is none.
func (b *bench) wrk(ctx context.Context, t *target, w work, seed int) (r record, err error) {
	script, err := filepath.Abs("wrk.lua")
	if err != nil {
		return r, err
	}
	args := []string{"-t", "1", "-c", strconv.Itoa(w.conns), "-d", strconv.Itoa(b.plan.Seconds) + "s", "--timeout", "30s", "--latency", "-s", script}
	if t.header != "" {
		args = append(args, "-H", "Authorization: "+t.header)
	}
	if t.client != "" {
		args = append(args, "-H", "X-Forwarded-For: "+t.client)
	}
	size := int64(0)
	if w.shelf != nil {
		size = w.shelf.size
	}
	args = append(args, t.base(), "--", t.list[w.shelf], fmt.Sprint(w.chunk), fmt.Sprint(size), strconv.Itoa(seed))
	cmd := exec.CommandContext(ctx, "wrk", args...)
	cmd.Env = append(cleanEnv(), "OPENSSL_CONF="+b.opensslConf())
	seen := observe(t.pids())
	out, err := cmd.CombinedOutput()
	seen.done(&r)
	if err != nil {
		return r, fmt.Errorf("wrk: %w: %s", err, out)
	}
	_, line, _ := bytes.Cut(out, []byte("RESULT "))
	var got wrkResult
	if err := json.Unmarshal(bytes.TrimSpace(line), &got); err != nil {
		return r, fmt.Errorf("wrk: %w: %s", err, out)
	}
	if t.refuses && got.BadStatus != int(got.Requests) {
		return r, fmt.Errorf("of %.0f requests %d were refused, not all", got.Requests, got.BadStatus)
	}
	if !t.refuses && got.BadStatus > 0 || got.Broken > 0 || got.Bytes == 0 {
		return r, fmt.Errorf("of %.0f requests %d were refused and %d broke", got.Requests, got.BadStatus, got.Broken)
	}
	r.Requests, r.Bytes, r.PerS = got.Requests, got.Bytes, got.Requests/got.Micros*1e6
	r.P50, r.P99 = got.P50/1e3, got.P99/1e3
	r.CPUPerGB, r.CPUPerOp = r.CPU/got.Bytes*1e9, r.CPU/max(1, got.Requests)*1e3
	r.Client = cmd.ProcessState.UserTime().Seconds() + cmd.ProcessState.SystemTime().Seconds()
	r.Other -= r.Client
	return r, nil
}

func (b *bench) opensslConf() string { return filepath.Join(b.mem, "openssl.cnf") }

func (b *bench) writeOpenSSLConf() error {
	text := "openssl_conf = top\n[top]\nssl_conf = ssl\n[ssl]\nsystem_default = all\n[all]\nCiphersuites = " + cipherSuite + "\n"
	return os.WriteFile(b.opensslConf(), []byte(text), 0o644)
}
