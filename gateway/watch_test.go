package gateway

import (
	"crypto/sha256"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/watch"
)

// An alarm keeps what a Watch tells.
type alarm struct {
	mu   sync.Mutex
	told []watch.Alert
}

func (a *alarm) tell(x watch.Alert) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.told = append(a.told, x)
}

// rules is how often each rule was broken, and nothing of the rest.
func (a *alarm) rules() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var names []string
	for _, x := range a.told {
		names = append(names, string(x.Rule)+":"+x.Bearer.Subject)
	}
	return strings.Join(names, " ")
}

// serveWatched starts a Server behind a proxy, watched by those thresholds.
func (r *realm) serveWatched(thresholds map[watch.Rule]int) (*site, *alarm) {
	a := &alarm{}
	w := watch.New(watch.Options{Thresholds: thresholds, Now: r.clock.Now, Tell: a.tell})
	return r.serve(func(o *Options) {
		o.Watch, o.Rates = w, unlimited()
		o.ClientHeader, o.Proxies = "X-Forwarded-For", loopbackProxies()
	}), a
}

// P61: one credential from many networks, audio that is taken faster than it
// plays, segments that are tried and bursts of refusals are told of; who does a
// little of each is not.
func TestAnomaliesAreTold(t *testing.T) {
	r := newRealm(t)
	song := r.add(musen.Segment{Duration: time.Hour}, audioOf(100_000))
	path := "/listen/" + song.CID.String()
	as := func(subject string) string {
		raw, _ := r.tokenFor(subject, "jazz")
		return "Bearer " + raw
	}
	for _, c := range []struct {
		rule watch.Rule
		do   func(s *site, i int, token string)
		want string
	}{
		{watch.Networks, func(s *site, i int, token string) {
			s.wantStatus(s.as("2001:db8:0:"+strconv.Itoa(i)+"::77", path, "Authorization", token, "Range", "bytes=0-9"), 206, "a network")
		}, "networks:ann"},
		{watch.Scraping, func(s *site, _ int, token string) {
			s.wantStatus(s.as("203.0.113.77", path, "Authorization", token), 200, "an hour of audio")
		}, "scraping:ann"},
		{watch.Denied, func(s *site, i int, token string) {
			s.wantStatus(s.as("203.0.113.77", "/listen/"+cidOf(i).String(), "Authorization", token), 404, "a try")
		}, "denied:ann"},
		{watch.Refusals, func(s *site, i int, _ string) {
			s.wantStatus(s.as("203.0.113.77", path, "Authorization", "Bearer "+strconv.Itoa(i)), 401, "a refusal")
		}, "refusals:"},
	} {
		t.Run(string(c.rule), func(t *testing.T) {
			s, a := r.serveWatched(map[watch.Rule]int{c.rule: 4})
			token := as("ann")
			for i := range 4 {
				c.do(s, i, token)
			}
			if got := a.rules(); got != "" {
				t.Errorf("told of a little: %s", got)
			}
			for i := range 3 {
				c.do(s, 4+i, token)
			}
			s.server.Shutdown(t.Context()) // what was sent is reported after the client has it
			if got := a.rules(); got != c.want {
				t.Errorf("told %q, want %q", got, c.want)
			}
		})
	}
}

// cidOf is one of many CIDs that nobody has.
func cidOf(i int) cid.Cid {
	sum := sha256.Sum256([]byte(strconv.Itoa(i)))
	mh, _ := multihash.Encode(sum[:], multihash.SHA2_256)
	return cid.NewCidV1(cid.Raw, mh)
}

// P61: a player that asks again and again for a segment that was removed, in
// whatever spelling of its CID, is no one who tries segments.
func TestRetriesAreNotTold(t *testing.T) {
	r := newRealm(t)
	s, a := r.serveWatched(map[watch.Rule]int{watch.Denied: 4})
	token, _ := r.tokenFor("ann", "jazz")
	removed := cidOf(0)
	for i := range 20 {
		c := removed
		if i%2 == 1 {
			c = cid.NewCidV1(cid.DagProtobuf, removed.Hash())
		}
		s.wantStatus(s.as("203.0.113.77", "/listen/"+c.String(), "Authorization", "Bearer "+token), 404, "a retry")
	}
	if got := a.rules(); got != "" {
		t.Errorf("told of retries: %s", got)
	}
}

// H45: of clients that cannot be told apart nothing is said.
func TestCrowdIsNotWatchedAsOne(t *testing.T) {
	r := newRealm(t)
	a := &alarm{}
	w := watch.New(watch.Options{Thresholds: map[watch.Rule]int{watch.Refusals: 1, watch.Networks: 1}, Now: r.clock.Now, Tell: a.tell})
	s := r.serve(func(o *Options) { o.Watch = w })
	for range 10 {
		s.wantStatus(s.ask("GET", "/listen/x"), 401, "from loopback")
	}
	if got := a.rules(); got != "" {
		t.Errorf("told %s", got)
	}
}

// What was sent counts, not what was asked for.
func TestPlayingTime(t *testing.T) {
	hour := musen.Segment{Size: 1000, Duration: time.Hour}
	for sent, want := range map[int64]time.Duration{0: 0, 1000: time.Hour, 250: 15 * time.Minute, 2000: 2 * time.Hour} {
		if got := playingTime(hour, sent); got != want {
			t.Errorf("%d bytes: %v, want %v", sent, got, want)
		}
	}
	if got := playingTime(musen.Segment{Size: 32_000}, 32_000); got != 2*time.Second {
		t.Errorf("of unknown length: %v", got)
	}
	if got := playingTime(musen.Segment{}, 10); got != 0 {
		t.Errorf("of no size: %v", got)
	}
}

// P24, P66: all who came in by one share have a rate together, and each of them
// one alone; another share is not touched.
func TestSharesAreLimited(t *testing.T) {
	r := newRealm(t)
	song := r.add(musen.Segment{}, audioOf(1000))
	path := "/listen/" + song.CID.String()
	s := r.open(hasher(t), func(o *Options) {
		o.Rates = unlimited()
		o.Rates.Share, o.Rates.Credential, o.Rates.Subject, o.Rates.Burst = 6, 4, 1, time.Second
	})
	_, one := r.share("jazz", nil)
	_, two := r.share("jazz", nil)
	ann, bob, eve := s.enter(one), s.enter(one), s.enter(two)
	listen := func(session string) answer { return s.ask("GET", path, "Cookie", cookie(session)) }
	for range 4 {
		s.wantStatus(listen(ann), 200, "ann within her burst")
	}
	s.wantStatus(listen(ann), 429, "ann beyond it")
	for range 2 {
		s.wantStatus(listen(bob), 200, "bob within that of the share")
	}
	s.wantStatus(listen(bob), 429, "bob beyond it")
	s.wantStatus(listen(eve), 200, "who came by another share")
}

// P61, H76: wrong passwords for one share are told of, whoever gives them.
func TestGuessesAreTold(t *testing.T) {
	r := newRealm(t)
	a := &alarm{}
	h := hasher(t)
	s := r.open(h, func(o *Options) {
		o.Watch = watch.New(watch.Options{Thresholds: map[watch.Rule]int{watch.Guesses: 3}, Now: r.clock.Now, Tell: a.tell})
	})
	share, secret := r.share("jazz", withPassword(t, h, aWord))
	for i := range 5 {
		s.post(secret, "password=wrong", "X-Forwarded-For", "203.0.113."+strconv.Itoa(i)).want(t, 403)
		s.post(strings.Repeat("a", len(secret)), "password=wrong", "X-Forwarded-For", "203.0.113."+strconv.Itoa(i))
	}
	if len(a.told) != 1 || a.told[0].Rule != watch.Guesses || a.told[0].Share != share.ID {
		t.Errorf("told %+v", a.told)
	}
}
