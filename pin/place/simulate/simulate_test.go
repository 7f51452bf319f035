package main

import (
	"bytes"
	"flag"
	"math"
	"strings"
	"testing"

	"github.com/musenai/musen/pin/place"
)

func small() settings {
	s := flags(flag.NewFlagSet("", flag.ContinueOnError))
	s.hosts, s.sites, s.segments, s.sample = 100, 40, 100_000, 20_000
	s.churn, s.days = 0.1, 2
	return *s
}

func TestSimulation(t *testing.T) {
	for _, spread := range []bool{true, false} {
		s := small()
		s.spread = spread
		r := run(s)
		if r.astray != 0 {
			t.Errorf("spread %v: %d of %d segments are not where they belong", spread, r.astray, r.checked)
		}
		// Who leaves takes with it exactly what it had.
		for _, c := range []change{r.oneLeaves, r.leaves} {
			if float64(c.moved) != c.ideal || c.moved == 0 {
				t.Errorf("spread %v: %d copies moved for %v that were lost", spread, c.moved, c.ideal)
			}
		}
		// Who comes gets about its part: less than that for the largest, which
		// cannot hold a segment twice.
		for _, c := range []change{r.oneJoins, r.joins} {
			if ratio := float64(c.moved) / c.ideal; ratio < 0.8 || ratio > 1.15 {
				t.Errorf("spread %v: newcomers got %.2f of their part", spread, ratio)
			}
		}
		for _, l := range []load{r.before, r.after} {
			if math.Abs(l.p50-1) > 0.2 || l.p99 > 2.5 {
				t.Errorf("spread %v: load %+v", spread, l)
			}
		}
	}
}

func TestEachSegmentIsHeld(t *testing.T) {
	w := newWorld(small())
	w.leave(30)
	w.join(10)
	for i := range w.sample {
		sites := map[string]bool{}
		for _, x := range w.of(i) {
			if x == nobody || w.places[x].Weight == 0 {
				t.Fatalf("segment %d has a copy nowhere", i)
			}
			sites[w.places[x].Site] = true
		}
		if len(sites) != w.copies {
			t.Fatalf("segment %d is on %d sites", i, len(sites))
		}
	}
	if n := len(w.numbers); n != 80 {
		t.Errorf("%d hosts", n)
	}
}

// More copies than hosts, and then more hosts.
func TestFewHosts(t *testing.T) {
	s := small()
	s.hosts, s.sample = 2, 50
	w := newWorld(s)
	if c := w.leave(1); c.moved != 0 || c.ideal != 50 {
		t.Errorf("%+v", c)
	}
	if c := w.join(1); c.moved != 50 {
		t.Errorf("%+v", c)
	}
	w.join(20)
	if n := w.astray(50); n != 0 {
		t.Errorf("%d astray", n)
	}
}

func TestHashed(t *testing.T) {
	for size, want := range map[int64]float64{0: 0, 1: 1, 160 << 10: 160 << 10, 512 << 10: 256<<10 + 4<<10} {
		if got := hashed(size); got != want {
			t.Errorf("%d bytes: %v hashed, want %v", size, got, want)
		}
	}
	if got := hashed(4 << 30); got != 256<<10+63*4<<10 {
		t.Errorf("4 GiB: %v hashed", got)
	}
}

func TestTable(t *testing.T) {
	s := small()
	s.sample, s.days = 2000, 1
	var b bytes.Buffer
	if err := run(s).print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"one of 50; counts are scaled up", "one host joins", "audits, each copy once in 12h0m0s", "25000, or 250 a host"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func BenchmarkSimulation(b *testing.B) {
	s := small()
	s.hosts, s.sites, s.segments, s.sample = 1000, 250, 100_000, 100_000
	w := newWorld(s)
	b.Run("choose", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			w.table.Choose(root(i), w.copies, nil, w.spread)
		}
	})
	b.Run("newcomer", func(b *testing.B) {
		table := place.NewTable(w.places[:1])
		for i := 0; b.Loop(); i++ {
			table.Over(root(i), 1e18)
		}
	})
}
