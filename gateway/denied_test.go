package gateway

import (
	"bytes"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen"
)

// Denied implements musen.Denier.
func (r *realm) Denied(mh multihash.Multihash) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.denied[string(mh)]
}

func (r *realm) deny(c cid.Cid, denied bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.denied[string(c.Hash())] = denied
}

// P92, H50, H25: a block that is denied is the same 451 to anybody, in every
// spelling, form, method and condition, whether or not it is here; so is one of
// those below it, and no CAR has it.
func TestDeniedBlocks(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(600_000)) // three leaves
	s := r.serve(nil)
	unknown := cid.NewCidV1(cid.Raw, append(seg.Leaves[0].Hash()[:33:33], ^seg.Leaves[0].Hash()[33]))
	for _, c := range []cid.Cid{seg.CID, seg.Leaves[1], unknown} {
		etag := s.ask("GET", "/ipfs/"+c.String()+"?format=raw").Header.Get("Etag")
		r.deny(c, true)
		for name, spelled := range spellings(t, c) {
			for _, form := range []string{"?format=raw", "?format=car", ""} {
				for _, method := range []string{"GET", "HEAD"} {
					for _, header := range [][]string{nil, {"If-None-Match", etag}, {"If-None-Match", "*"}, {"Range", "bytes=0-9"}, {"If-Match", `"x"`}} {
						a := s.ask(method, "/ipfs/"+spelled+form, header...)
						if a.StatusCode != 451 || a.Header.Get("Etag") != "" || method == "GET" && !strings.Contains(string(a.body), `"code":"taken_down"`) {
							t.Fatalf("%s %s%s with %q: status %d %s", method, name, form, header, a.StatusCode, a.body)
						}
					}
				}
			}
		}
		r.deny(c, false)
	}
	leaf, err := r.store.Get(t.Context(), seg.Leaves[1])
	check(t, err)
	r.deny(seg.Leaves[1], true)
	a := s.ask("GET", "/ipfs/"+seg.CID.String()+"?format=car")
	if a.err == nil || bytes.Contains(a.body, leaf.RawData()[:1000]) {
		t.Errorf("a CAR of a segment with a leaf that is denied: %d bytes, %v", len(a.body), a.err)
	}
	r.deny(seg.Leaves[1], false)
	if a := s.ask("GET", "/ipfs/"+seg.CID.String()+"?format=car"); a.err != nil || !bytes.Contains(a.body, leaf.RawData()[:1000]) {
		t.Errorf("denied no more: %d bytes, %v", len(a.body), a.err)
	}
}

// P92, H50, H25: who might listen to what is denied, be it the whole or a leaf of
// it, is told so in every spelling; to everybody else it is as unknown as
// before.
func TestDeniedSegments(t *testing.T) {
	r := newRealm(t)
	s := r.serve(nil)
	for _, size := range []int{1000, 600_000} {
		seg := r.add(musen.Segment{}, audioOf(size))
		link := r.link("jazz", seg.CID)
		etag := s.ask("GET", "/listen/"+seg.CID.String()+"?CAT="+link).Header.Get("Etag")
		for _, c := range append(seg.Leaves, seg.CID) {
			r.deny(c, true)
			for name, spelled := range spellings(t, seg.CID) {
				for _, method := range []string{"GET", "HEAD"} {
					a := s.ask(method, "/listen/"+spelled, "Authorization", "Bearer "+r.token("jazz"), "If-None-Match", etag)
					b := s.ask(method, "/listen/"+spelled+"?CAT="+link, "Range", "bytes=0-9")
					if a.StatusCode != 451 || b.StatusCode != 451 || method == "GET" && !strings.Contains(string(a.body), `"code":"taken_down"`) {
						t.Errorf("%s %s: token %d, link %d: %s", method, name, a.StatusCode, b.StatusCode, a.body)
					}
				}
			}
			stranger := "Bearer " + r.token("rock")
			denied := s.ask("GET", "/listen/"+seg.CID.String(), "Authorization", stranger)
			r.deny(c, false)
			if live := s.ask("GET", "/listen/"+seg.CID.String(), "Authorization", stranger); denied.StatusCode != 404 || without(t, denied) != without(t, live) {
				t.Errorf("stranger: %d %s, before %s", denied.StatusCode, denied.body, live.body)
			}
		}
		if a := s.ask("GET", "/listen/"+seg.CID.String()+"?CAT="+link); a.StatusCode != 200 || len(a.body) != size {
			t.Errorf("denied no more: status %d, %d bytes", a.StatusCode, len(a.body))
		}
	}
}

// P92: what is denied while it plays stops at the next check.
func TestDenialCutsAStream(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(600_000))
	s := r.serve(nil)
	r.hook(func(_ cid.Cid, off int64) error {
		if off >= 65536 {
			r.deny(seg.Leaves[2], true)
			r.clock.Add(s.server.o.Limits.Recheck)
		}
		return nil
	})
	a := s.ask("GET", "/listen/"+seg.CID.String(), "Authorization", "Bearer "+r.token())
	if a.err == nil || len(a.body) >= 200_000 {
		t.Errorf("%d bytes, %v", len(a.body), a.err)
	}
}
