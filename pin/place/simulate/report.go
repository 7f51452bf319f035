package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// load is how many bytes hosts hold for each that they offer, as a multiple of
// the mean over all.
type load struct{ p1, p50, p99, max float64 }

// loads measures the hosts that offer at least some bytes: with few copies,
// chance alone makes the smallest uneven.
func (w *world) loads(least float64) load {
	held, total := make([]float64, len(w.places)), 0.0
	for i := range w.sample {
		for _, x := range w.of(i) {
			if x != nobody {
				held[x] += float64(size(i))
				total += float64(size(i))
			}
		}
	}
	mean := total / w.offered()
	var each []float64
	for x, c := range w.places {
		if c.Weight > 0 && c.Weight >= least {
			each = append(each, held[x]/c.Weight/mean)
		}
	}
	slices.Sort(each)
	at := func(p float64) float64 { return each[int(p*float64(len(each)-1))] }
	return load{at(0.01), at(0.5), at(0.99), at(1)}
}

// results are what came of a run. What is counted is counted in the sample.
type results struct {
	settings
	before, large, after load // of all; of those above the median, both before churn; of all after it
	onePlaced            time.Duration
	oneJoins, oneLeaves  change // singles of them
	singles              int
	joins, leaves        change // all of churn
	astray, checked      int    // segments that are not where a choice among all would put them
	pass                 time.Duration
}

// run simulates s.
func run(s settings) results {
	begun := time.Now()
	w := newWorld(s)
	r := results{settings: s, singles: 20, checked: min(1000, s.sample)}
	r.onePlaced = time.Since(begun) / time.Duration(s.sample)
	r.before, r.large = w.loads(0), w.loads(200e9)
	for range r.singles {
		r.oneJoins.add(w.join(1))
		r.oneLeaves.add(w.leave(1))
	}
	begun = time.Now()
	w.join(0)
	r.pass = time.Since(begun)
	hourly, owed := s.churn*float64(s.hosts)/24, 0.0
	for range s.days * 24 {
		owed += hourly
		n := int(owed)
		owed -= float64(n)
		r.leaves.add(w.leave(n))
		r.joins.add(w.join(n))
	}
	r.after = w.loads(0)
	r.astray = w.astray(r.checked)
	return r
}

// hashed is how many bytes each side hashes for an audit of a segment, on
// average: one leaf whole, and a window of each other, of 64 at most.
func hashed(size int64) float64 {
	const leaf, window, most = 256 << 10, 4 << 10, 64
	n := (size + leaf - 1) / leaf
	if n <= 1 {
		return float64(size)
	}
	return float64(size)/float64(n) + float64(min(n, most)-1)*window
}

// print writes r as a table. Where not all segments were placed, what was
// counted is scaled up, and said to be.
func (r results) print(out io.Writer) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t"+format+"\n", append([]any{name}, args...)...)
	}
	scale := float64(r.segments) / float64(r.sample)
	how := "all placed"
	if r.sample < r.segments {
		how = fmt.Sprintf("%d of them placed, one of %.4g; counts are scaled up", r.sample, scale)
	}
	row("hosts", "%d on %d sites, disk log-normal, σ %.1f, median 200 GB", r.hosts, r.sites, r.sigma)
	row("segments", "%d, %s; copies of each: %d, spread over sites: %v", r.segments, how, r.copies, r.spread)
	row("", "")
	row("load for each byte offered, mean 1", "p1\tp50\tp99\tmax")
	for _, l := range []struct {
		name string
		load
	}{{"all hosts", r.before}, {"hosts of 200 GB and more", r.large}, {"all hosts, after churn", r.after}} {
		row("  "+l.name, "%.3f\t%.3f\t%.3f\t%.3f", l.p1, l.p50, l.p99, l.max)
	}
	row("", "")
	row("copies moved", "moved\tideal\tratio\tof all copies")
	all := float64(r.sample * r.copies)
	for _, c := range []struct {
		name  string
		times float64
		change
	}{
		{"one host joins", float64(r.singles), r.oneJoins}, {"one host leaves", float64(r.singles), r.oneLeaves},
		{"joins of a day", float64(r.days), r.joins}, {"departures of a day", float64(r.days), r.leaves},
	} {
		moved := float64(c.moved) / c.times
		row("  "+c.name, "%.0f\t%.0f\t%.3f\t%.5f %%", moved*scale, c.ideal/c.times*scale, float64(c.moved)/c.ideal, 100*moved/all)
	}
	row("  not where a choice among all hosts would put them", "%d of %d", r.astray, r.checked)
	row("", "")
	r.work(row, scale)
	return t.Flush()
}

// work prints what an origin has to do in an hour.
func (r results) work(row func(name, format string, args ...any), scale float64) {
	var bytes float64
	for i := range 5 {
		bytes += hashed(size(i)) / 5
	}
	audits := float64(r.segments*r.copies) / r.cycle.Hours()
	row("work of an origin in an hour", "")
	row("  audits, each copy once in "+r.cycle.String(), "%.0f, or %.0f a host", audits, audits/float64(r.hosts))
	row("  bytes hashed for them, on either side", "%.1f GB", audits*bytes/1e9)
	row("  bytes sent and received for them", "%.2f GB", audits*120/1e9)
	row("  changes of hosts", "%.1f leave, %.1f join", r.churn*float64(r.hosts)/24, r.churn*float64(r.hosts)/24)
	days := float64(r.days) * 24
	row("  copies to make anew, to move to newcomers", "%.0f, %.0f", float64(r.leaves.moved)/days*scale, float64(r.joins.moved)/days*scale)
	row("  reconciling departures", "%.2f s on one core", r.leaves.took.Seconds()/days*scale)
	row("  reconciling newcomers, once an hour", "%.2f s on one core, of which %.2f s for looking at all segments", r.joins.took.Seconds()/days*scale, r.pass.Seconds()*scale)
	row("  a new segment", "%.1f µs on one core", float64(r.onePlaced.Nanoseconds())/1e3)
	row("memory for holders and bounds", "%.0f MB for all segments", float64(r.segments)*float64(4*r.copies+4)/1e6)
}
