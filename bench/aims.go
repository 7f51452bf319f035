package main

import (
	"fmt"
	"io"
)

// An aim is a figure that musen is to reach.
type aim struct {
	what   string
	bound  float64
	atMost bool
	got    []float64
}

// aims are listed for every credential and state by itself: each must reach
// its figure.
func (rs results) aims() []aim {
	var list []aim
	for _, section := range []struct{ bench, name string }{{"serve", "plain"}, {"tls", "TLS"}} {
		for _, w := range []struct {
			work  string
			bound float64
		}{{"64 KiB range", 1.0 / 8}, {"160 KiB", 0.6}, {"5 MiB", 0.9}} {
			for _, credential := range []string{"token", "link"} {
				for _, state := range []string{"fresh", "warm"} {
					got := rs.of(section.bench, "musen, "+credential, w.work, state)
					base := baseOf(section.bench)
					ratios := got.ratios(rs.of(section.bench, base, w.work, state), cpuPerGB)
					what := fmt.Sprintf("%s, %s, %s, %s: CPU per GB, × %s", w.work, section.name, credential, state, base)
					list = append(list, aim{what, w.bound, true, ratios})
				}
			}
		}
	}
	const way = "musen, unix socket"
	eight := rs.of("add", way, addWork(8), "")
	script := rs.of("add", scriptName, addWork(1), "")
	list = append(list,
		aim{"adds at 8 connections, × Kubo's per second", 1, false, eight.ratios(rs.of("add", kuboName, addWork(8), ""), perS)},
		aim{"adds at 8 connections, × age -e | ipfs add", 10, false, eight.ratios(script, perS)},
	)
	for _, state := range []string{"fresh", "warm"} {
		got := rs.of("crowd", "musen, token", "5 MiB × 256", state)
		list = append(list, aim{"resident MiB at 256 connections of 5 MiB, " + state + ", peak", 200, true, got.values(peak)})
	}
	for _, work := range []string{uploadWork, listenWork} {
		list = append(list, aim{work + ": peak MiB above idle", 300, true, rs.of("memory", "musen", work, "").values(above)})
	}
	return list
}

func (rs results) printAims(w io.Writer) {
	table(w, "Aims", "what", "aim", "measured", "")
	for _, a := range rs.aims() {
		if len(a.got) == 0 {
			continue
		}
		sign, met := "≥", median(a.got) >= a.bound
		if a.atMost {
			sign, met = "≤", median(a.got) <= a.bound
		}
		verdict := "met"
		if !met {
			verdict = "**missed**"
		}
		row(w, a.what, sign+" "+number(a.bound), spread(a.got), verdict)
	}
}
