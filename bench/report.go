package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// results are the records of a file, in its order.
type results []record

func readResults(file string) (all results, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for d := json.NewDecoder(f); ; {
		var r record
		switch err := d.Decode(&r); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, r)
	}
}

// of are the records of one cell. An empty state stands for any.
func (rs results) of(bench, target, work, state string) (found results) {
	for _, r := range rs {
		if r.Bench == bench && r.Target == target && r.Work == work && (state == "" || r.State == state) {
			found = append(found, r)
		}
	}
	return found
}

func (rs results) values(of func(record) float64) (v []float64) {
	for _, r := range rs {
		v = append(v, of(r))
	}
	return v
}

// ratios pair the records of two cells by their round.
func (rs results) ratios(base results, of func(record) float64) (v []float64) {
	for _, r := range rs {
		for _, o := range base {
			if o.Round == r.Round && of(o) > 0 {
				v = append(v, of(r)/of(o))
			}
		}
	}
	return v
}

func median(v []float64) float64 { return quantile(v, 0.5) }

// quantile of no values is 0.
func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	at := q * float64(len(s)-1)
	i := int(at)
	if i+1 == len(s) {
		return s[i]
	}
	return s[i] + (at-float64(i))*(s[i+1]-s[i])
}

// spread is the median with the least and the most.
func spread(v []float64) string {
	switch {
	case len(v) == 0:
		return ""
	case len(v) == 1:
		return number(v[0])
	}
	return fmt.Sprintf("%s (%s–%s)", number(median(v)), number(slices.Min(v)), number(slices.Max(v)))
}

// number has about three digits.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

func cpuPerGB(r record) float64 { return r.CPUPerGB }
func perS(r record) float64     { return r.PerS }
func peak(r record) float64     { return r.Peak }
func rss(r record) float64      { return r.RSS }
func above(r record) float64    { return r.Peak - r.Idle }

// printReport prints the tables of a results file as Markdown.
func printReport(w io.Writer, file string) error {
	all, err := readResults(file)
	if err != nil {
		return err
	}
	rounds := 0
	for _, r := range all {
		rounds = max(rounds, r.Round+1)
	}
	fmt.Fprintf(w, "Median of %d rounds (least–most). Ratios are paired round by round.\n", rounds)
	for _, section := range []struct{ bench, title string }{
		{"serve", "Downloads, plain HTTP, 32 connections"},
		{"tls", "Downloads, TLS 1.3, 32 connections"},
		{"crowd", "Downloads, 256 connections"},
	} {
		all.printServed(w, section.bench, section.title)
	}
	all.printAdded(w)
	all.printMemory(w)
	all.printAims(w)
	_, err = fmt.Fprintf(w, "\nOther programs of the machine used %s CPU seconds a second during the runs.\n",
		spread(all.values(func(r record) float64 { return r.Other / r.Wall })))
	return err
}

// cells are the different keys of the records, in the order in which they came.
func (rs results) cells(bench string, key func(record) string) (keys []string) {
	for _, r := range rs {
		if r.Bench == bench && !slices.Contains(keys, key(r)) {
			keys = append(keys, key(r))
		}
	}
	return keys
}

// baseOf is the target that does the work with the same protection on the wire.
func baseOf(bench string) string {
	if bench == "tls" {
		return kuboTLSName
	}
	return kuboName
}

func (rs results) printServed(w io.Writer, bench, title string) {
	targets := rs.cells(bench, func(r record) string { return r.Target })
	if len(targets) == 0 {
		return
	}
	table(w, title, "work", "server", "state", "CPU s/GB", "× "+baseOf(bench), "requests/s", "p50 ms", "p99 ms", "RSS MiB", "peak MiB")
	for _, work := range rs.cells(bench, func(r record) string { return r.Work }) {
		for _, target := range targets {
			for _, state := range []string{"fresh", "warm"} {
				found := rs.of(bench, target, work, state)
				if len(found) == 0 {
					continue
				}
				base := rs.of(bench, baseOf(bench), work, state)
				row(w, work, target, state, spread(found.values(cpuPerGB)), spread(found.ratios(base, cpuPerGB)),
					number(median(found.values(perS))), number(median(found.values(func(r record) float64 { return r.P50 }))),
					number(median(found.values(func(r record) float64 { return r.P99 }))),
					number(median(found.values(rss))), number(median(found.values(peak))))
			}
		}
	}
}

func (rs results) printAdded(w io.Writer) {
	works := rs.cells("add", func(r record) string { return r.Work })
	if len(works) == 0 {
		return
	}
	table(w, "Adds, on the real disk", "work", "how", "per s", "× Kubo's", "p50 ms", "p99 ms", "server CPU ms each")
	for _, work := range works {
		for _, target := range rs.cells("add", func(r record) string { return r.Target }) {
			found := rs.of("add", target, work, "")
			if len(found) == 0 {
				continue
			}
			row(w, work, target, spread(found.values(perS)), spread(found.ratios(rs.of("add", kuboName, work, ""), perS)),
				number(median(found.values(func(r record) float64 { return r.P50 }))),
				number(median(found.values(func(r record) float64 { return r.P99 }))),
				number(median(found.values(func(r record) float64 { return r.CPUPerOp }))))
		}
	}
}

func (rs results) printMemory(w io.Writer) {
	works := rs.cells("memory", func(r record) string { return r.Work })
	if len(works) == 0 {
		return
	}
	table(w, "Memory of musen", "work", "idle MiB", "RSS MiB", "peak MiB", "peak above idle MiB")
	for _, work := range works {
		found := rs.of("memory", "musen", work, "")
		row(w, work, spread(found.values(func(r record) float64 { return r.Idle })),
			spread(found.values(rss)), spread(found.values(peak)), spread(found.values(above)))
	}
}

func table(w io.Writer, title string, columns ...string) {
	fmt.Fprintf(w, "\n### %s\n\n", title)
	row(w, columns...)
	row(w, slices.Repeat([]string{"---"}, len(columns))...)
}

func row(w io.Writer, cells ...string) {
	const mark = "\x00"
	line := strings.ReplaceAll(strings.Join(cells, mark), "|", `\|`)
	fmt.Fprintf(w, "| %s |\n", strings.ReplaceAll(line, mark, " | "))
}
