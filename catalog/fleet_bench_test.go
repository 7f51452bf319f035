package catalog_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/musenai/musen/catalog"
)

// BenchmarkRevocationLag measures how long it takes from the call that revokes
// at one gateway until every gateway knows, and until the one that was asked
// knows that. Of PostgreSQL on the same machine, with a commit that waits for
// no disk: add the time of yours, and that of your network.
func BenchmarkRevocationLag(b *testing.B) {
	for _, n := range []int{1, 3} {
		b.Run(fmt.Sprintf("gateways=%d", n), func(b *testing.B) {
			f := newFleet(b)
			var all []*catalog.Catalog
			for i := range n {
				all = append(all, f.gateway(fmt.Sprint(i)))
			}
			var known, told []time.Duration
			for b.Loop() {
				id := newID()
				began := time.Now()
				noErr(b, all[0].RevokeToken(b.Context(), id))
				for _, c := range all {
					for !c.Revoked(id, "", time.Time{}) {
						time.Sleep(20 * time.Microsecond)
					}
				}
				known = append(known, time.Since(began))
				settled(b, all[0], n)
				told = append(told, time.Since(began))
			}
			report := func(name string, d []time.Duration) {
				slices.Sort(d)
				b.ReportMetric(d[len(d)/2].Seconds()*1e3, name+"-p50-ms")
				b.ReportMetric(d[len(d)*99/100].Seconds()*1e3, name+"-p99-ms")
			}
			report("known", known)
			report("told", told)
		})
	}
}
