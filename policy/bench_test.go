package policy_test

import (
	"fmt"
	"testing"

	"github.com/musenai/musen/policy"
)

func BenchmarkDecideFirst(b *testing.B) {
	w := newWorld(b)
	g := w.grant(b, "alice", jazz, policy.Listen)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r := policy.Resource{Station: jazz, Epoch: uint64(i), Segment: "s"}
		if !w.engine.Decide(g, policy.Listen, r).Allowed() {
			b.Fatal("denied")
		}
	}
}

func BenchmarkDecideCached(b *testing.B) {
	w := newWorld(b)
	g := w.grant(b, "alice", jazz, policy.Listen)
	r := policy.Resource{Station: jazz, Epoch: 3, Segment: "s", PublishAt: w.now.Add(-1)}
	b.ReportAllocs()
	for b.Loop() {
		if !w.engine.Decide(g, policy.Listen, r).Allowed() {
			b.Fatal("denied")
		}
	}
}

func BenchmarkTokenFirst(b *testing.B) {
	w := newWorld(b)
	raw := w.token(b, "alice", jazz, policy.Listen)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		v, err := policy.NewVerifier(w.options) // remembers nothing
		must(b, err)
		b.StartTimer()
		if _, err := v.Token(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTokenCached(b *testing.B) {
	w := newWorld(b)
	raw := w.token(b, "alice", jazz, policy.Listen)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.verifier.Token(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLinkFirst(b *testing.B) {
	w := newWorld(b)
	raw := w.link(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		v, err := policy.NewVerifier(w.options)
		must(b, err)
		b.StartTimer()
		if _, err := v.Link(raw, "GET", listenPath); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLinkCached(b *testing.B) {
	w := newWorld(b)
	raw := w.link(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.verifier.Link(raw, "GET", listenPath); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRefusal(b *testing.B) {
	w := newWorld(b)
	good := w.token(b, "alice", jazz, policy.Listen)
	forged := w.forge(toJSON(with(w.header(), map[string]any{"alg": "none"})), toJSON(w.claims()))
	for name, raw := range map[string]string{
		"garbage": "garbage", "alg none": forged, "signature": good[:len(good)-4] + "AAAA",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.verifier.Token(raw); err == nil {
					b.Fatal("accepted")
				}
			}
		})
	}
}

// Many listeners, each with a link of its own.
func BenchmarkLinkCachedMany(b *testing.B) {
	w := newWorld(b)
	links := make([]string, 10_000)
	for i := range links {
		links[i] = w.link(b, func(r *policy.LinkRequest) { r.Subject = fmt.Sprint("listener ", i) })
		_, err := w.verifier.Link(links[i], "GET", listenPath)
		must(b, err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := w.verifier.Link(links[i%len(links)], "GET", listenPath); err != nil {
			b.Fatal(err)
		}
	}
}
