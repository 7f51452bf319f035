package main

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"
)

// A swarmRow is one measurement of a swarm. CPU is of all its processes; lists
// are by member, the one that is added to first.
type swarmRow struct {
	Bench string    `json:"bench"` // swarm
	Mode  string    `json:"mode"`
	At    time.Time `json:"at"`
	KiB   int       `json:"kib"`
	Total int       `json:"total"` // segments there are
	Added int       `json:"added"` // of those, in this step

	Stored     float64   `json:"stored_s"`            // until all adds were answered
	Most       float64   `json:"replicated_99_s"`     // until 99 of 100 copies are said to be held
	Replicated float64   `json:"replicated_s"`        // until every copy is said to be held
	Durable    float64   `json:"durable_s,omitempty"` // until every copy is proved; 0: nothing is
	CPU        []float64 `json:"cpu_s"`               // until the last of these
	RSS        []float64 `json:"rss_mib"`             // at the end
	Idle       []float64 `json:"idle_percent"`        // of one core, afterwards
	Client     float64   `json:"client_cpu_s"`        // of the harness
	Other      float64   `json:"other_cpu_s"`         // of all other processes of the machine: noise

	Lost     int     `json:"lost,omitempty"`     // copies that a member took with it
	FirstNew float64 `json:"first_s,omitempty"`  // until the first of them was elsewhere; 0: never
	AllNew   float64 `json:"all_s,omitempty"`    // until all were; 0: never
	Back     int     `json:"back,omitempty"`     // how many were in the end
	Waited   float64 `json:"waited_s,omitempty"` // for that
}

func printSwarmHead(w io.Writer) {
	fmt.Fprintf(w, "Segments that are added over %d connections, %d copies of each. CPU and RSS: by member, the one that is added to first; "+
		"a member of %q is a peer of IPFS Cluster and its Kubo, who prove nothing. %d cores.\n",
		swarmConns, swarmCopies, modeCluster, runtime.NumCPU())
	table(w, "Swarm", "copies on", "KiB", "segments", "added", "stored s", "99 % replicated s", "replicated s", "replicated/s", "proved s", "proved/s",
		"CPU ms/segment", "of it the first", "RSS MiB", "idle CPU %", "other CPU s")
}

func (r swarmRow) print(w io.Writer) {
	if r.Lost > 0 {
		r.printLoss(w)
		return
	}
	n := float64(r.Added)
	proved, rate := "", ""
	if r.Durable > 0 {
		proved, rate = number(r.Durable), number(n/r.Durable)
	}
	row(w, r.Mode, fmt.Sprint(r.KiB), fmt.Sprint(r.Total), fmt.Sprint(r.Added), number(r.Stored), number(r.Most), number(r.Replicated),
		number(n/r.Replicated), proved, rate, number(sum(r.CPU)/n*1e3), number(r.CPU[0]/n*1e3), numbers(r.RSS),
		numbers(r.Idle), number(r.Other))
}

func (r swarmRow) printLoss(w io.Writer) {
	what := "proved to be"
	if r.Durable == 0 {
		what = "said to be"
	}
	fmt.Fprintf(w, "\n%s, one of 4 members killed, %d segments of %d KiB: it held %d. The first of them was %s elsewhere %s, all %s, %d in the end; CPU s %s.\n",
		r.Mode, r.Total, r.KiB, r.Lost, what, r.within(r.FirstNew), r.within(r.AllNew), r.Back, numbers(r.CPU))
}

// within says when something happened, if it did.
func (r swarmRow) within(s float64) string {
	if s == 0 {
		return fmt.Sprintf("not within %s s", number(r.Waited))
	}
	return fmt.Sprintf("after %s s", number(s))
}

func numbers(v []float64) string {
	var all []string
	for _, x := range v {
		all = append(all, number(x))
	}
	return strings.Join(all, ", ")
}

func sum(v []float64) (total float64) {
	for _, x := range v {
		total += x
	}
	return total
}
