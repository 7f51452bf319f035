package watch_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen/internal/watch"
)

// defaults are the thresholds of the configuration.
func defaults() map[watch.Rule]int {
	return map[watch.Rule]int{watch.Networks: 10, watch.Scraping: 24, watch.Refusals: 1000, watch.Denied: 100, watch.Guesses: 50}
}

// A scene is a Watch with a clock, and what it told.
type scene struct {
	*watch.Watch
	now  time.Time
	told []watch.Alert
}

func newScene(thresholds map[watch.Rule]int, keys int) *scene {
	s := &scene{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	s.Watch = watch.New(watch.Options{
		Thresholds: thresholds, Keys: keys, Now: func() time.Time { return s.now },
		Tell: func(a watch.Alert) { s.told = append(s.told, a) },
	})
	return s
}

func client(i int) watch.Client { return watch.Client{Name: "client " + strconv.Itoa(i)} }

// P61: each rule tells when its threshold is passed within its window, once an
// hour, and not before.
func TestRules(t *testing.T) {
	ann := watch.Bearer{Credential: "jti", Subject: "ann"}
	for rule, c := range map[watch.Rule]struct {
		threshold int
		do        func(*scene, int)
		bearer    watch.Bearer
		share     string
	}{
		watch.Networks: {3, func(s *scene, i int) { s.Used(ann, client(i)); s.Used(ann, client(i)) }, ann, ""},
		watch.Scraping: {3, func(s *scene, _ int) { s.Heard(ann, time.Hour) }, ann, ""},
		watch.Refusals: {3, func(s *scene, _ int) { s.Refused(client(1)) }, watch.Bearer{}, ""},
		watch.Denied:   {3, func(s *scene, i int) { s.Denied(ann, strconv.Itoa(i)); s.Denied(ann, strconv.Itoa(i)) }, ann, ""},
		watch.Guesses:  {3, func(s *scene, _ int) { s.Guessed("x") }, watch.Bearer{}, "x"},
		watch.Reported: {3, func(s *scene, i int) { s.Reported("x", "a CID", client(i)); s.Reported("x", "another", client(i)) }, watch.Bearer{}, ""},
	} {
		t.Run(string(rule), func(t *testing.T) {
			s := newScene(map[watch.Rule]int{rule: c.threshold}, 0)
			for i := range 3 {
				c.do(s, i)
			}
			s.now = s.now.Add(rule.Window())
			for i := range 3 {
				c.do(s, i)
			}
			if len(s.told) != 0 {
				t.Fatalf("told too early: %+v", s.told)
			}
			for i := range 10 {
				c.do(s, 3+i)
			}
			want := watch.Alert{Rule: rule, At: s.now, Bearer: c.bearer, Share: c.share, Count: 4, Threshold: 3, Window: rule.Window()}
			if rule == watch.Reported {
				want.About = "a CID"
			}
			if len(s.told) != 1 || s.told[0] != want {
				t.Fatalf("told %+v, want %+v", s.told, want)
			}
			s.now = s.now.Add(time.Hour)
			for i := range 10 {
				c.do(s, i)
			}
			if len(s.told) != 2 || s.Count(rule) != 2 || len(s.Recent()) != 2 || !s.Recent()[0].At.Equal(s.now) {
				t.Errorf("told %d times: %+v", len(s.told), s.Recent())
			}
			off := newScene(nil, 0)
			for i := range 1000 {
				c.do(off, i)
			}
			if len(off.told) != 0 {
				t.Error("a rule that is off told something")
			}
		})
	}
}

// P42: what was seen under one key for pseudonyms is not added to what is seen
// under the next.
func TestNetworksBeginAnewWithAKey(t *testing.T) {
	s := newScene(map[watch.Rule]int{watch.Networks: 3}, 0)
	b := watch.Bearer{Credential: "jti"}
	for key := range uint64(5) {
		for i := range 3 {
			s.Used(b, watch.Client{Name: fmt.Sprint("client ", i, " under ", key), Key: key})
		}
	}
	if len(s.told) != 0 {
		t.Errorf("one network under five keys is told as many: %+v", s.told)
	}
}

// Bearers of one share are told apart, and all credentials of a subject are
// one.
func TestHolders(t *testing.T) {
	s := newScene(map[watch.Rule]int{watch.Scraping: 3}, 0)
	for i := range 10 {
		s.Heard(watch.Bearer{Credential: strconv.Itoa(i), Subject: "share:x", Session: true}, time.Hour)
	}
	if len(s.told) != 0 {
		t.Errorf("ten who listen are told as one: %+v", s.told)
	}
	for i := range 10 {
		s.Heard(watch.Bearer{Credential: strconv.Itoa(i), Subject: "ann"}, time.Hour)
	}
	if len(s.told) != 1 || s.told[0].Bearer.Subject != "ann" {
		t.Errorf("ten tokens of one subject: %+v", s.told)
	}
}

// P61: an honest day breaks no rule. A house with four devices listens for
// sixteen hours through two networks and a phone that roams; a player reads
// ahead, skips, seeks and fetches anew; a link has expired now and then; and
// many houses share one address.
func TestHonestListeners(t *testing.T) {
	s := newScene(defaults(), 0)
	r := rand.New(rand.NewPCG(1, 2))
	minutes := 16 * 60
	for minute := range minutes {
		s.now = s.now.Add(time.Minute)
		for house := range 50 {
			family := watch.Bearer{Credential: "token of " + strconv.Itoa(house), Subject: "family " + strconv.Itoa(house)}
			for device := range 4 {
				network := client(house*10 + device/2)
				if device == 3 { // a phone on its way, with another address each quarter of an hour
					network = client(house*10 + 1000*(minute/15))
				}
				s.Used(family, network)
				audio := time.Minute
				switch {
				case minute%60 == device:
					audio = time.Hour // a whole programme, read ahead at once
				case r.IntN(10) == 0:
					audio = 10 * time.Minute // seeking, what was buffered is fetched anew
				}
				s.Heard(family, audio)
				if r.IntN(100) == 0 {
					s.Denied(family, "removed "+strconv.Itoa(r.IntN(10))) // a playlist from before a removal
				}
				if r.IntN(20) == 0 {
					s.Refused(client(7)) // all behind one address, with links that have expired
				}
			}
		}
		if r.IntN(3) == 0 {
			s.Guessed("a share with a password that people mistype")
		}
	}
	if len(s.told) != 0 {
		t.Errorf("%d alerts, the first: %+v", len(s.told), s.told[0])
	}
}

// P61: who takes a whole station is told of before a tenth of it is gone.
func TestScraper(t *testing.T) {
	s := newScene(defaults(), 0)
	songs := 0
	for ; len(s.told) == 0 && songs < 20_000; songs++ {
		s.now = s.now.Add(2 * time.Second)
		s.Heard(watch.Bearer{Credential: "x", Subject: "scraper"}, 4*time.Minute)
	}
	if songs > 400 {
		t.Errorf("told after %d songs", songs)
	}
}

// H45: memory is bounded, and who does much is not forgotten for those who do
// little.
func TestMemoryIsBounded(t *testing.T) {
	const keys = 1000
	s := newScene(map[watch.Rule]int{watch.Refusals: 500, watch.Networks: 10, watch.Denied: 10}, keys)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range 600_000 {
		if i%1000 == 0 {
			s.Refused(watch.Client{Name: "flooder"})
		}
		s.Refused(client(i))
		if i < 100_000 {
			s.Used(watch.Bearer{Credential: strconv.Itoa(i)}, client(i))
			s.Denied(watch.Bearer{Credential: strconv.Itoa(i)}, strconv.Itoa(i))
		}
	}
	if grown := int64(heap()) - int64(before); grown > 2<<20 {
		t.Errorf("%d bytes for %d keys", grown, keys)
	}
	if len(s.told) != 1 {
		t.Errorf("told %+v", s.told)
	}
	runtime.KeepAlive(s)
}

// An alert says nothing of where somebody is.
func TestAlertsNameNoClient(t *testing.T) {
	s := newScene(map[watch.Rule]int{watch.Refusals: 1, watch.Networks: 1}, 0)
	for i := range 3 {
		s.Refused(client(0))
		s.Used(watch.Bearer{Credential: "jti"}, client(i))
	}
	if text := fmt.Sprintf("%+v", s.told); len(s.told) != 2 || strings.Contains(text, "client ") {
		t.Errorf("told %s", text)
	}
}

func BenchmarkUsed(b *testing.B) {
	s := newScene(defaults(), 0)
	bearers := make([]watch.Bearer, 1<<12)
	for i := range bearers {
		bearers[i] = watch.Bearer{Credential: strconv.Itoa(i), Subject: "subject " + strconv.Itoa(i)}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.Used(bearers[i%len(bearers)], watch.Client{Name: "client"})
	}
}
