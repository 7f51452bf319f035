package gateway

import (
	"cmp"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen/gateway/problem"
	"github.com/musenai/musen/internal/limit"
	"github.com/musenai/musen/policy"
)

// Rates bound how many requests a second are answered. Each may be exceeded in
// a burst: Burst times the rate at once. A zero field has the default value,
// which no player or page reaches.
type Rates struct {
	Client     int           // of one client; 200
	Refused    int           // of one client that are refused; beyond it only credentials that are known to be good are looked at; 20
	Sealed     int           // of one client for ciphertext; 100
	Credential int           // with one token, link or session; 50
	Subject    int           // with credentials of one subject; 100
	Share      int           // of all who came in by one share; 2000
	Station    int           // for one station; 5000
	Limited    int           // with credentials of a subject that is limited; 2
	Burst      time.Duration // 10 s
	Keys       int           // names that each of these remembers; see limit.Options; 131,072
}

func (r Rates) withDefaults() Rates {
	for _, f := range []struct {
		field *int
		value int
	}{
		{&r.Client, 200}, {&r.Refused, 20}, {&r.Sealed, 100}, {&r.Credential, 50},
		{&r.Subject, 100}, {&r.Share, 2000}, {&r.Station, 5000}, {&r.Limited, 2},
		{&r.Keys, 1 << 17},
	} {
		if *f.field <= 0 {
			*f.field = f.value
		}
	}
	if r.Burst <= 0 {
		r.Burst = 10 * time.Second
	}
	return r
}

// rates are the limits on requests.
type rates struct {
	client, refused, sealed, credential, subject, share, station, limited *limit.Buckets
}

func newRates(r Rates, now func() time.Time) *rates {
	buckets := func(perSecond int) *limit.Buckets {
		burst := float64(perSecond) * r.Burst.Seconds()
		return limit.New(limit.Options{
			Every: time.Second / time.Duration(perSecond), Burst: int(math.Ceil(burst)), Keys: r.Keys, Now: now,
		})
	}
	return &rates{
		client: buckets(r.Client), refused: buckets(r.Refused), sealed: buckets(r.Sealed), credential: buckets(r.Credential),
		subject: buckets(r.Subject), share: buckets(r.Share), station: buckets(r.Station),
		limited: buckets(r.Limited),
	}
}

// tooFast refuses a request for the sake of a limit.
type tooFast struct {
	limit string // its name, for metrics
	wait  time.Duration
}

// Error names the limit.
func (e *tooFast) Error() string { return "too many requests: " + e.limit }

// Unwrap makes it problem.TooMany.
func (e *tooFast) Unwrap() error {
	return problem.WithDetail(problem.TooMany, "Too many requests in a short time.")
}

// retryAfter is the wait in whole seconds.
func (e *tooFast) retryAfter() string {
	return strconv.FormatInt(int64(max(1, math.Ceil(e.wait.Seconds()))), 10)
}

// take takes a token, or says which limit has none.
func take(b *limit.Buckets, name, key string) error {
	if wait := b.Take(key); wait > 0 {
		return &tooFast{name, wait}
	}
	return nil
}

// admit refuses clients that ask too much, before anything of a request is
// looked at. Who was refused too often gets no more than that, unless with a
// credential that was verified before: a neighbour behind the same address
// plays on.
func (s *Server) admit(c *gin.Context) {
	who := clientOf(c.Request.Context())
	if who.crowd {
		return
	}
	err := take(s.rates.client, "client", who.name)
	if err == nil && strings.HasPrefix(c.FullPath(), "/ipfs/") {
		err = take(s.rates.sealed, "sealed", who.name)
	}
	if err == nil {
		if wait := s.rates.refused.Wait(who.name); wait > 0 && !s.known(c.Request) {
			err = &tooFast{"refused", wait}
		}
	}
	if err != nil {
		s.refuse(c, err)
		c.Abort()
	}
}

// known reports whether a request comes with a credential that was verified
// before. It may have ended since.
func (s *Server) known(r *http.Request) bool {
	cred, _, err := findCredential(r)
	return err == nil && s.o.Verifier.Known(cred.raw)
}

// countRefusal notes that a request was refused for what it came with, or for
// what it asked for.
func (s *Server) countRefusal(who client, status int) {
	s.watchRefusal(who, status)
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		if !who.crowd {
			_ = s.rates.refused.Take(who.name) // only counted: the request is over
		}
	}
}

// pace notes that a credential was good, and refuses what is asked for too often
// with it, by its subject or through its share.
func (s *Server) pace(who client, g policy.Grant) error {
	s.watchUse(who, g)
	if id := cmp.Or(g.Session(), g.ID()); id != "" {
		if err := take(s.rates.credential, "credential", id); err != nil {
			return err
		}
	}
	switch subject := g.Subject(); {
	case subject == "":
		return nil
	case s.limited(g):
		return take(s.rates.limited, "limited", subject)
	case g.Session() != "": // the subject is the share
		return take(s.rates.share, "share", subject)
	default:
		return take(s.rates.subject, "subject", subject)
	}
}
