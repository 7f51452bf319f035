package pin

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

func TestTrustAtRunTime(t *testing.T) {
	d, ps := trio(t)
	roots := pin(t, d, ps[0], "trust", 40, Placement{Min: 2, Max: 2})
	await(t, "all held", func() bool { return settled(t, d, ps, roots) })

	four := newPeer(t, d, "east")
	four.open(t, append(slices.Clone(ps), four)...)
	connect(t, append(slices.Clone(ps), four)...)
	mine := rootN(t, "too early", 0)
	d.add(four.id, mine)
	if err := four.cluster.Pin(t.Context(), mine, Placement{Min: 1, Max: 1}); err != nil {
		t.Fatal(err)
	}
	rounds(t, d, ps, 3)
	if _, ok := ps[0].pinset(t)[mine]; ok {
		t.Fatal("a peer that is not trusted yet changed the pinset")
	}
	for _, p := range ps {
		if err := p.cluster.Trust(t.Context(), four.id); err != nil {
			t.Fatal(err)
		}
	}
	all := append(slices.Clone(ps), four)
	awaitAlive(t, 4, all...)
	more := pin(t, d, four, "by the fourth", 40, Placement{Min: 2, Max: 2})
	await(t, "four agree", func() bool { return settled(t, d, all, append(more, append(roots, mine)...)) })
	if d.count(four.id) == 0 {
		t.Error("the fourth was given nothing")
	}

	for _, p := range ps {
		if err := p.cluster.Distrust(t.Context(), four.id); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "what the fourth had is with others", func() bool {
		for _, holders := range ps[0].pinset(t) {
			if slices.Contains(holders, four.id) || len(holders) == 0 {
				return false
			}
		}
		return same(t, ps...)
	})
	if err := four.cluster.Unpin(t.Context(), roots[0]); err != nil {
		t.Fatal(err)
	}
	rounds(t, d, ps, 3)
	if _, ok := ps[1].pinset(t)[roots[0]]; !ok {
		t.Error("a peer that is trusted no longer changed the pinset")
	}
}

func TestOpenRefuses(t *testing.T) {
	p := newPeer(t, newDepot(), "north")
	for name, change := range map[string]func(*Options){
		"nobody trusted":    func(o *Options) { o.Trusted = nil },
		"everybody trusted": func(o *Options) { o.Trusted = []peer.ID{"*"} },
		"an empty peer":     func(o *Options) { o.Trusted = []peer.ID{p.id, ""} },
		"no realm":          func(o *Options) { o.Realm = "" },
		"no host":           func(o *Options) { o.Host = nil },
		"no blocks":         func(o *Options) { o.Blocks = nil },
		"no store":          func(o *Options) { o.Store = nil },
		"a site of a page":  func(o *Options) { o.Site = strings.Repeat("s", maxValue+1) },
	} {
		o := p.options(p)
		change(&o)
		c, err := Open(t.Context(), o)
		if err == nil {
			_ = c.Close()
			t.Errorf("%s: opened", name)
		}
		if len(o.Trusted) != 1 && !errors.Is(err, ErrTrusted) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p.open(t, p)
	for name, pl := range map[string]Placement{
		"no copies":    {},
		"more than 32": {Min: 1, Max: 33},
		"upside down":  {Min: 2, Max: 1},
		"a title":      {Min: 1, Max: 1, Label: "Blue Train"},
		"a long label": {Min: 1, Max: 1, Label: strings.Repeat("a", 65)},
		"negative":     {Min: 1, Max: 1, Size: -1},
	} {
		if err := p.cluster.Pin(t.Context(), rootN(t, name, 0), pl); !errors.Is(err, ErrPlacement) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := p.cluster.Trust(t.Context(), "*"); !errors.Is(err, ErrTrusted) {
		t.Errorf("trusted everybody at run time: %v", err)
	}
	if err := p.cluster.Pin(t.Context(), cid.Undef, Placement{Min: 1, Max: 1}); !errors.Is(err, ErrPlacement) {
		t.Errorf("pinned nothing: %v", err)
	}
}
