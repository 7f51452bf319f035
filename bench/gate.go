package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// floorName is a server that does nothing but refuse.
const floorName = "net/http alone"

// gateConns is how many connections are refused at a time.
const gateConns = 32

// gateMain is the command bench gate: requests that are refused, of all kinds,
// by servers that may use one core.
func gateMain(args []string) error {
	f := flag.NewFlagSet("bench gate", flag.ExitOnError)
	rounds := f.Int("rounds", 5, "rounds")
	seconds := f.Int("seconds", 2, "of one run of wrk")
	if err := f.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b, err := newBench(plan{Rounds: *rounds, Seconds: *seconds, Limit: 20 * time.Minute})
	if err != nil {
		return err
	}
	defer b.close()
	ctx, cancel := context.WithTimeout(ctx, b.plan.Limit)
	defer cancel()
	o, err := b.gate(ctx)
	if err != nil {
		return err
	}
	if err := b.results.Close(); err != nil {
		return err
	}
	if err := printGate(os.Stdout, b.results.Name()); err != nil {
		return err
	}
	_, err = fmt.Printf("\n%d pairs of refusals with a good token for another station: %.1f µs when there is such a segment, %.1f µs when there is none (medians); p = %.2f.\n",
		oraclePairs, o.there, o.absent, o.p)
	return err
}

// gate refuses one request after the other, each kind in turn, round by round.
func (b *bench) gate(ctx context.Context) (o oracle, err error) {
	g := &gateStage{bench: b}
	defer g.close()
	targets, err := g.setUp(ctx)
	if err != nil {
		return o, err
	}
	for round := range b.plan.Rounds {
		for _, t := range targets {
			r, err := b.wrk(ctx, t, work{shelf: nil, conns: gateConns}, round)
			if err != nil {
				return o, fmt.Errorf("%s: %w", t.name, err)
			}
			r.Bench, r.Round = "gate", round
			r.Target, r.Work, _ = strings.Cut(t.name, ": ")
			if err := b.write(r); err != nil {
				return o, err
			}
		}
		log.Printf("gate: round %d of %d", round+1, b.plan.Rounds)
	}
	return askOracle(g.musen.ready.Public, g.stranger, g.there, g.absent)
}

// A gateStage is the servers that refuse.
type gateStage struct {
	bench  *bench
	musen  *musenNode
	strict *musenNode // the same with a client that asks too much
	nginx  *nginxServer
	floor  *process

	stranger      string // token for another station
	there, absent string // paths: of a segment, and of none
}

func (g *gateStage) close() {
	g.floor.stop()
	if g.nginx != nil {
		g.nginx.proc.stop()
	}
	for _, m := range []*musenNode{g.musen, g.strict} {
		if m != nil {
			m.stop()
		}
	}
}

// oneCore lets a Go server run on one core at a time.
const oneCore = "GOMAXPROCS=1"

func (g *gateStage) setUp(ctx context.Context) ([]*target, error) {
	b := g.bench
	if err := b.makeCert(); err != nil {
		return nil, err
	}
	if err := b.writeOpenSSLConf(); err != nil {
		return nil, err
	}
	targets, err := g.setUpMusen(ctx)
	if err != nil {
		return nil, err
	}
	if g.strict, err = b.initMusen(ctx, b.disk); err != nil {
		return nil, err
	}
	g.strict.env = []string{oneCore, "MUSEN_PUBLIC_TRUSTED_PROXIES=127.0.0.1/32", "MUSEN_PUBLIC_CLIENT_HEADER=X-Forwarded-For"}
	if err := g.strict.start(ctx); err != nil {
		return nil, err
	}
	flood := g.target("musen: beyond the limit of a client", g.strict.ready.Public, g.strict.proc, targets[0].path, "")
	flood.client = "203.0.113.7"
	targets = append(targets, flood)
	if g.nginx, err = b.startNginx(ctx, b.mem, b.mem, "127.0.0.1:9"); err != nil {
		return nil, err
	}
	bad := secureLink("/x.wav")
	targets = append(targets, g.target("nginx: link, wrong signature", g.nginx.plain, g.nginx.proc, strings.Replace(bad, "md5=", "md5=A", 1), ""))
	address, err := g.startFloor(ctx)
	if err != nil {
		return nil, err
	}
	targets = append(targets, g.target(floorName+": 401 with a body as long", address, g.floor, "/", ""))
	for i, t := range targets {
		if t.list, err = b.oneLine(i, t); err != nil {
			return nil, err
		}
	}
	return targets, nil
}

// oneLine writes the list of the one path that a target is asked for.
func (b *bench) oneLine(i int, t *target) (map[*shelf]string, error) {
	file := filepath.Join(b.mem, fmt.Sprintf("gate-%d", i))
	return map[*shelf]string{nil: file}, writeList(file, []string{t.path})
}

func (g *gateStage) target(name, base string, p *process, path, header string) *target {
	return &target{
		name: name, path: path, header: header, refuses: true,
		base: func() string { return base }, pids: func() []int { return p.pids() },
	}
}

// setUpMusen starts a node with a segment in each of two stations, and returns
// the ways to be refused.
func (g *gateStage) setUpMusen(ctx context.Context) (targets []*target, err error) {
	b := g.bench
	if g.musen, err = b.initMusen(ctx, b.mem); err != nil {
		return nil, err
	}
	m := g.musen
	m.env = []string{oneCore}
	if err := m.start(ctx); err != nil {
		return nil, err
	}
	segment, err := m.add(ctx, audio(1, smallSize), smallSize)
	if err != nil {
		return nil, err
	}
	link, err := m.link(ctx, segment)
	if err != nil {
		return nil, err
	}
	if g.stranger, err = m.issue(ctx, stationTCP, "listen"); err != nil {
		return nil, err
	}
	path, absent := listenPath(segment), listenPath(segment[:len(segment)-6]+"aaaaaa")
	g.there, g.absent = path, absent
	for _, c := range []struct{ name, path, token string }{
		{"no credential", path, ""},
		{"token, unreadable", path, "garbage"},
		{"token, algorithm none", path, "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.e30.AAAA"},
		{"token, wrong signature", path, spoilt(m.token)},
		{"link, unreadable", path + "?CAT=garbage", ""},
		{"link, wrong tag", spoilt(link), ""},
		{"good link, another path", absent + link[strings.IndexByte(link, '?'):], ""},
		{"good token, another station", path, g.stranger},
		{"good token, no such segment", absent, g.stranger},
	} {
		header := ""
		if c.token != "" {
			header = "Bearer " + c.token
		}
		targets = append(targets, g.target("musen: "+c.name, m.ready.Public, m.proc, c.path, header))
	}
	return targets, nil
}

// spoilt is a credential whose last bytes are others.
func spoilt(raw string) string {
	const tail = "AAAAAAAA"
	return raw[:len(raw)-len(tail)] + tail
}

// startFloor starts this program as a server that only refuses.
func (g *gateStage) startFloor(ctx context.Context) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	port, err := freePort()
	if err != nil {
		return "", err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	if g.floor, err = start(ctx, g.bench.mem, "floor", []string{oneCore}, self, "floor", address); err != nil {
		return "", err
	}
	return "http://" + address, g.floor.ready(ctx, func() bool {
		resp, err := http.Get("http://" + address)
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
}

// floorMain is the command bench floor ADDRESS.
func floorMain(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("floor: want one address")
	}
	body := strings.Repeat("x", 240)
	return http.ListenAndServe(args[0], http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, body) // a client that is gone needs no answer
	}))
}

func refusalsPerCPU(r record) float64 { return r.Requests / max(r.CPU, 0.01) }

// printGate prints the table of refusals of a results file as Markdown.
func printGate(w io.Writer, file string) error {
	all, err := readResults(file)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "Median of %d rounds (least–most).\n", len(all.of("gate", "nginx", "link, wrong signature", "")))
	table(w, "Refusals, plain HTTP, 32 connections, one core", "refused", "server", "refusals per CPU second", "CPU µs each", "refusals/s", "p50 ms", "p99 ms")
	for _, target := range all.cells("gate", func(r record) string { return r.Target }) {
		for _, work := range all.cells("gate", func(r record) string { return r.Work }) {
			found := all.of("gate", target, work, "")
			if len(found) == 0 {
				continue
			}
			row(w, work, target, spread(found.values(refusalsPerCPU)), number(1e6/median(found.values(refusalsPerCPU))), number(median(found.values(perS))),
				number(median(found.values(func(r record) float64 { return r.P50 }))), number(median(found.values(func(r record) float64 { return r.P99 }))))
		}
	}
	_, err = fmt.Fprintf(w, "\nOther programs of the machine used %s CPU seconds a second during the runs.\n",
		spread(all.values(func(r record) float64 { return r.Other / r.Wall })))
	return err
}
