package audit

import (
	"path/filepath"
	"testing"
)

// How long a durable record takes, alone and with others.
func BenchmarkAppend(b *testing.B) {
	for name, together := range map[string]bool{"alone": false, "64 together": true} {
		b.Run(name, func(b *testing.B) {
			l, err := Open(options(filepath.Join(b.TempDir(), "audit")))
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			r := Record{Event: "link.made", Outcome: Done, By: "token", Actor: "service:backend", Object: "/segments/bafy", Request: "r"}
			one := func() {
				if err := l.Append(r); err != nil {
					b.Error(err)
				}
			}
			if !together {
				for b.Loop() {
					one()
				}
				return
			}
			b.SetParallelism(32) // on two cores
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					one()
				}
			})
		})
	}
}

// How long it takes to verify a log of 100,000 records.
func BenchmarkVerify(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "audit")
	l, err := Open(options(dir))
	if err != nil {
		b.Fatal(err)
	}
	for range 100_000 / maxTogether {
		l.queue = nil
		for range maxTogether {
			l.queue = append(l.queue, &waiting{record: Record{Event: "link.made", Outcome: Done, By: "token", Actor: "service:backend", Object: "/segments/bafy", Request: "r"}})
		}
		l.flush()
	}
	for b.Loop() {
		if r, err := Verify(dir); err != nil || len(r.Faults) > 0 || r.Head.Size < 99_000 {
			b.Fatal(r, err)
		}
	}
}
