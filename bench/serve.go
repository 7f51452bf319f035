package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// A phase is a part of the run.
type phase struct {
	name string
	run  func(context.Context) error
}

// phases are those that were asked for, by a list with commas; all if empty.
func (b *bench) phases(only string) []phase {
	wanted := func(name string) bool {
		return only == "" || strings.Contains(","+only+",", ","+name+",")
	}
	var phases []phase
	if wanted("serve") || wanted("tls") || wanted("crowd") {
		phases = append(phases, phase{"serve", func(ctx context.Context) error { return b.serve(ctx, wanted) }})
	}
	if wanted("add") {
		phases = append(phases, phase{"add", b.add})
	}
	if wanted("memory") {
		phases = append(phases, phase{"memory", b.memory})
	}
	return phases
}

// A stage is the servers and what they serve.
type stage struct {
	big, small shelf
	musen      *musenNode
	kubo       *kuboNode
	nginx      *nginxServer
	lists      map[string]map[*shelf]string // by kind of path: token, link, kubo, nginx
}

// serve measures everything that is a download.
func (b *bench) serve(ctx context.Context, wanted func(string) bool) error {
	s := &stage{lists: map[string]map[*shelf]string{}}
	defer s.close()
	if err := b.setUp(ctx, s); err != nil {
		return err
	}
	works := []work{
		{"64 KiB range", &s.big, rangeSize, 32},
		{"160 KiB", &s.small, 0, 32},
		{"5 MiB", &s.big, 0, 32},
	}
	if wanted("serve") {
		if err := b.interleave(ctx, "serve", s.plainTargets(), works); err != nil {
			return err
		}
	}
	if wanted("crowd") {
		if err := b.interleave(ctx, "crowd", s.crowd(), []work{{"5 MiB × 256", &s.big, 0, 256}}); err != nil {
			return err
		}
	}
	if !wanted("tls") {
		return nil
	}
	s.musen.flags = []string{"--tls-cert", b.certFile(), "--tls-key", b.keyFile()}
	if err := s.musen.start(ctx); err != nil {
		return err
	}
	return b.interleave(ctx, "tls", s.tlsTargets(), works)
}

func (s *stage) close() {
	if s.nginx != nil {
		s.nginx.proc.stop()
	}
	if s.kubo != nil {
		s.kubo.stop()
	}
	if s.musen != nil {
		s.musen.stop()
	}
}

// setUp starts the servers and gives all of them the same segments.
func (b *bench) setUp(ctx context.Context, s *stage) (err error) {
	if err = b.makeCert(); err != nil {
		return err
	}
	if err = b.writeOpenSSLConf(); err != nil {
		return err
	}
	root := filepath.Join(b.mem, "audio")
	if s.big, err = makeShelf(filepath.Join(root, "big"), b.plan.Big, bigSize); err != nil {
		return err
	}
	if s.small, err = makeShelf(filepath.Join(root, "small"), b.plan.Small, smallSize); err != nil {
		return err
	}
	if s.musen, err = b.initMusen(ctx, b.mem); err != nil {
		return err
	}
	if s.kubo, err = b.initKubo(ctx, b.mem, "kubo", false); err != nil {
		return err
	}
	// Kubo gets another port with every start; nginx needs one that stays.
	if err = s.kubo.keepGateway(ctx); err != nil {
		return err
	}
	if s.nginx, err = b.startNginx(ctx, b.mem, root, strings.TrimPrefix(s.kubo.gateway, "http://")); err != nil {
		return err
	}
	for _, shelf := range []*shelf{&s.big, &s.small} {
		log.Printf("adding %d segments of %d bytes", len(shelf.names), shelf.size)
		if err = b.stock(ctx, s, shelf); err != nil {
			return err
		}
	}
	return nil
}

// stock adds the segments of a shelf to musen and Kubo, and writes the lists
// of their paths.
func (b *bench) stock(ctx context.Context, s *stage, sh *shelf) error {
	paths := map[string][]string{}
	for i, name := range sh.names {
		sealed, err := addFile(ctx, s.musen.add, sh.file(i))
		if err != nil {
			return err
		}
		link, err := s.musen.link(ctx, sealed)
		if err != nil {
			return err
		}
		plain, err := addFile(ctx, s.kubo.add, sh.file(i))
		if err != nil {
			return err
		}
		paths["token"] = append(paths["token"], listenPath(sealed))
		paths["link"] = append(paths["link"], link)
		paths["kubo"] = append(paths["kubo"], "/ipfs/"+plain)
		paths["nginx"] = append(paths["nginx"], secureLink(path.Join("/", filepath.Base(sh.dir), name)))
	}
	for kind, list := range paths {
		if s.lists[kind] == nil {
			s.lists[kind] = map[*shelf]string{}
		}
		s.lists[kind][sh] = filepath.Join(b.mem, kind+"-"+filepath.Base(sh.dir))
		if err := writeList(s.lists[kind][sh], list); err != nil {
			return err
		}
	}
	return nil
}

func addFile(ctx context.Context, add adder, file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	return add(ctx, f, info.Size())
}

func (s *stage) musenTarget(kind string) *target {
	t := &target{
		name: "musen, " + kind, list: s.lists[kind], restart: s.musen.start,
		base: func() string { return s.musen.ready.Public },
		pids: func() []int { return s.musen.proc.pids() },
	}
	if kind == "token" {
		t.header = "Bearer " + s.musen.token
	}
	return t
}

func (s *stage) kuboTarget() *target {
	return &target{
		name: kuboName, list: s.lists["kubo"], restart: s.kubo.start,
		base: func() string { return s.kubo.gateway },
		pids: func() []int { return s.kubo.proc.pids() },
	}
}

func (s *stage) nginxTarget(name, base string) *target {
	return &target{
		name: name, list: s.lists["nginx"],
		base: func() string { return base },
		pids: func() []int { return s.nginx.proc.pids() },
	}
}

// The targets that ratios are against.
const (
	kuboName    = "Kubo"
	kuboTLSName = "Kubo behind nginx's TLS"
)

func (s *stage) plainTargets() []*target {
	return []*target{s.musenTarget("token"), s.musenTarget("link"), s.kuboTarget(), s.nginxTarget("nginx", s.nginx.plain)}
}

// crowd are the targets whose memory is measured with many connections.
func (s *stage) crowd() []*target {
	return []*target{s.musenTarget("token"), s.kuboTarget(), s.nginxTarget("nginx", s.nginx.plain)}
}

// tlsTargets: Kubo's gateway speaks no TLS. It runs both as it is and behind
// nginx.
func (s *stage) tlsTargets() []*target {
	behind := &target{
		name: kuboTLSName, list: s.lists["kubo"], restart: s.kubo.start,
		base: func() string { return s.nginx.kubo },
		pids: func() []int { return append(s.nginx.proc.pids(), s.kubo.proc.pids()...) },
	}
	return []*target{
		s.musenTarget("token"), s.musenTarget("link"), s.kuboTarget(), behind, s.nginxTarget("nginx", s.nginx.secure),
	}
}

// interleave measures every work on every target in turn, round by round. A
// target that can be restarted is measured right after that, and once more.
func (b *bench) interleave(ctx context.Context, bench string, targets []*target, works []work) error {
	for round := range b.plan.Rounds {
		for _, w := range works {
			for _, t := range targets {
				if err := b.measure(ctx, record{Bench: bench, Target: t.name, Work: w.name, Round: round}, t, w); err != nil {
					return fmt.Errorf("%s from %s: %w", w.name, t.name, err)
				}
			}
		}
		log.Printf("%s: round %d of %d", bench, round+1, b.plan.Rounds)
	}
	return nil
}

func (b *bench) measure(ctx context.Context, as record, t *target, w work) error {
	states := []string{"warm"}
	if t.restart != nil {
		if err := t.restart(ctx); err != nil {
			return err
		}
		states = []string{"fresh", "warm"}
	}
	for i, state := range states {
		r, err := b.wrk(ctx, t, w, 2*as.Round+i)
		if err != nil {
			return err
		}
		r.Bench, r.Target, r.Work, r.State, r.Round = as.Bench, as.Target, as.Work, state, as.Round
		if err := b.write(r); err != nil {
			return err
		}
	}
	return w.check(ctx, t)
}
