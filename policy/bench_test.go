package policy_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/musenai/musen/policy"
)

// BenchmarkGate is the whole answer to a request, from the text of a credential
// to a decision: of credentials that came before, and of ones that did not. It
// tells the median and the worst of a hundred.
func BenchmarkGate(b *testing.B) {
	w := newWorld(b)
	r := policy.Resource{Station: jazz, Epoch: 3, Segment: "s", PublishAt: w.now.Add(-1)}
	token := func(v *policy.Verifier, raw string) (policy.Grant, error) { return v.Token(raw) }
	link := func(v *policy.Verifier, raw string) (policy.Grant, error) { return v.Link(raw, "GET", listenPath) }
	for _, c := range []struct {
		name   string
		make   func(i int) string
		verify func(*policy.Verifier, string) (policy.Grant, error)
	}{
		{"token", func(i int) string { return w.token(b, fmt.Sprint("listener ", i), jazz, policy.Listen) }, token},
		{"link", func(i int) string {
			return w.link(b, func(r *policy.LinkRequest) { r.Subject = fmt.Sprint("listener ", i) })
		}, link},
	} {
		for name, first := range map[string]bool{"first": true, "again": false} {
			b.Run(c.name+"/"+name, func(b *testing.B) {
				all := make([]string, 2000)
				for i := range all {
					all[i] = c.make(i)
				}
				var v *policy.Verifier
				var e *policy.Engine
				b.ReportAllocs()
				timeEach(b, func(i int) {
					if i%len(all) == 0 && (first || v == nil) {
						v, e = w.fresh(b)
						for _, raw := range all {
							if first {
								break
							}
							g, err := c.verify(v, raw)
							must(b, err)
							e.Decide(g, policy.Listen, r)
						}
					}
				}, func(i int) {
					g, err := c.verify(v, all[i%len(all)])
					if err != nil || !e.Decide(g, policy.Listen, r).Allowed() {
						b.Fatal("denied", err)
					}
				})
			})
		}
	}
}

// fresh are a verifier and an engine that remember nothing.
func (w *world) fresh(b *testing.B) (*policy.Verifier, *policy.Engine) {
	b.Helper()
	v, err := policy.NewVerifier(w.options)
	must(b, err)
	e, err := policy.NewEngine(policy.EngineOptions{Now: w.options.Now})
	must(b, err)
	return v, e
}

// timeEach times every call of do, each after one of prepare, and reports
// quantiles of what do took.
func timeEach(b *testing.B, prepare, do func(i int)) {
	b.Helper()
	took := make([]time.Duration, 0, 1<<16)
	for i := 0; b.Loop(); i++ {
		prepare(i)
		start := time.Now()
		do(i)
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
}

// BenchmarkPlainJWT is go-jose alone on the same token: parse, verify, compare
// issuer, audience and times. No revocation, no bounds, no policy.
func BenchmarkPlainJWT(b *testing.B) {
	w := newWorld(b)
	raw := w.token(b, "alice", jazz, policy.Listen)
	b.ReportAllocs()
	timeEach(b, func(int) {}, func(int) {
		t, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.EdDSA})
		must(b, err)
		var c jwt.Claims
		must(b, t.Claims(w.public, &c))
		must(b, c.Validate(jwt.Expected{Issuer: issuerName, AnyAudience: jwt.Audience{audience}, Time: w.now}))
	})
}

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

func BenchmarkSessionFirst(b *testing.B) {
	w := newWorld(b)
	raw := w.session(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		v, err := policy.NewVerifier(w.options)
		must(b, err)
		b.StartTimer()
		if _, err := v.Session(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSessionCached(b *testing.B) {
	w := newWorld(b)
	raw := w.session(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.verifier.Session(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLinkFor(b *testing.B) {
	w := newWorld(b)
	g := w.sessionGrant(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := w.issuer.LinkFor(g, policy.LinkRequest{Station: jazz, Epoch: 3, Path: listenPath}); err != nil {
			b.Fatal(err)
		}
	}
}

// A token of a platform, which names a station that is looked up each time.
func BenchmarkForeignToken(b *testing.B) {
	p := newPlatforms(b, nil)
	raw := p.signed(b, acme, rs256(), p.foreign(acme))
	_, err := p.verifier.Token(raw)
	must(b, err)
	b.Run("cached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := p.verifier.Token(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
	forged := p.signed(b, acme, with(rs256(), map[string]any{"kid": "unknown"}), p.foreign(acme))
	b.Run("unknown key", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := p.verifier.Token(forged); err == nil {
				b.Fatal("accepted")
			}
		}
	})
	wrong := p.signed(b, other, rs256(), p.foreign(acme))
	b.Run("wrong signature", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := p.verifier.Token(wrong); err == nil {
				b.Fatal("accepted")
			}
		}
	})
}
