// Command simulate plays through the placement of many segments on many hosts,
// some of which come and go each day, and prints how even the load is, how many
// copies move, and how much work that is for an origin.
//
//	go run ./pin/place/simulate
//	go run ./pin/place/simulate -sample 10000000
//
// The first places one segment of ten and takes minutes; the second leaves
// nothing out. Times are wall-clock times of one goroutine.
//
// It does not know networks, disks or time: nobody is slow, full or lying here.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

func main() {
	s := flags(flag.CommandLine)
	flag.Parse()
	if err := run(*s).print(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// flags are the settings on a command line.
func flags(f *flag.FlagSet) *settings {
	s := &settings{}
	f.IntVar(&s.hosts, "hosts", 10_000, "hosts")
	f.IntVar(&s.segments, "segments", 10_000_000, "segments")
	f.IntVar(&s.sample, "sample", 1_000_000, "segments that are really placed")
	f.IntVar(&s.copies, "copies", 3, "copies of each segment")
	f.IntVar(&s.sites, "sites", 2_500, "sites over which the hosts are thrown")
	f.BoolVar(&s.spread, "spread", true, "copies of a segment go to different sites")
	f.Float64Var(&s.sigma, "sigma", 1, "of the log-normal disk that hosts offer")
	f.Float64Var(&s.churn, "churn", 0.01, "share of hosts that leave each day, and as many join")
	f.IntVar(&s.days, "days", 1, "of churn")
	f.DurationVar(&s.cycle, "cycle", 12*time.Hour, "in which each copy is audited once")
	f.Uint64Var(&s.seed, "seed", 1, "of everything drawn at random")
	return s
}
