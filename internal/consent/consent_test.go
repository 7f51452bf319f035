package consent_test

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/consent"
	"github.com/musenai/musen/internal/outbound"
	"github.com/musenai/musen/policy"
)

const secret = "whsec_9vTzW1l2hKx8mQfYpR4sNc7uJd0aGeBt"

// platform is a receiver of webhooks that checks every signature by itself.
type platform struct {
	*httptest.Server
	t testing.TB

	mu     sync.Mutex
	say    http.HandlerFunc
	asked  []map[string]any // the data of each question
	bodies []string
	heads  []http.Header
}

func newPlatform(t testing.TB) *platform {
	t.Helper()
	p := &platform{t: t}
	p.Server = httptest.NewTLSServer(p)
	t.Cleanup(p.Close)
	p.yes(60)
	return p
}

func (p *platform) yes(ttl int) { p.says(fmt.Sprintf(`{"allow":true,"ttl":%d}`, ttl)) }

func (p *platform) says(body string) {
	p.answer(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) })
}

func (p *platform) answer(h http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.say = h
}

func (p *platform) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.asked)
}

func (p *platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err == nil {
		err = verify(r.Header, b)
	}
	var q struct {
		Type string         `json:"type"`
		Data map[string]any `json:"data"`
	}
	if err == nil {
		err = json.Unmarshal(b, &q)
	}
	if err != nil || q.Type != "musen.consent" || r.Method != http.MethodPost {
		p.t.Errorf("a question that cannot be trusted: %v: %s", err, b)
	}
	p.mu.Lock()
	p.asked, p.bodies, p.heads = append(p.asked, q.Data), append(p.bodies, string(b)), append(p.heads, r.Header)
	say := p.say
	p.mu.Unlock()
	say(w, r)
}

// verify is the check of the Standard Webhooks specification, from its text.
func verify(h http.Header, body []byte) error {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return err
	}
	id, at := h.Get("webhook-id"), h.Get("webhook-timestamp")
	if _, err := strconv.ParseInt(at, 10, 64); err != nil || id == "" || strings.Contains(id, ".") {
		return fmt.Errorf("id %q at %q", id, at)
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", id, at, body)
	for signature := range strings.SplitSeq(h.Get("webhook-signature"), " ") {
		version, text, _ := strings.Cut(signature, ",")
		if sum, err := base64.StdEncoding.DecodeString(text); err == nil && version == "v1" && hmac.Equal(sum, mac.Sum(nil)) {
			return nil
		}
	}
	return errors.New("no signature fits")
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newConsent(t testing.TB, p *platform, change func(*consent.Options)) (*consent.Platform, *clock) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(p.Certificate())
	c := &clock{now: time.Now()}
	o := consent.Options{
		URL: p.URL + "/consent", Secret: secret, Timeout: 20 * time.Second, TTL: time.Minute, Now: c.Now, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler), Find: find,
		Client: outbound.New(outbound.Options{Hosts: []string{"127.0.0.1"}, Roots: roots, Limit: 20 * time.Second}),
	}
	if change != nil {
		change(&o)
	}
	made, err := consent.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return made, c
}

func segment(t testing.TB, n int) cid.Cid {
	t.Helper()
	mh, err := multihash.Sum([]byte{byte(n)}, multihash.SHA2_256, -1)
	if err != nil {
		t.Fatal(err)
	}
	return cid.NewCidV1(cid.Raw, mh)
}

func question(t testing.TB, h *bearers, n int) musen.Question {
	t.Helper()
	return musen.Question{
		Grant: h.Grant(t, []policy.Action{policy.Listen}, "aaaaaaaaaaaaaaaaaaaaaaaaaa"), Action: policy.Listen,
		Station: musen.Station{ID: "aaaaaaaaaaaaaaaaaaaaaaaaaa", Name: "jazz"}, CID: segment(t, n),
	}
}

// questionOf is asked about a subject.
func questionOf(t testing.TB, h *bearers, subject string) musen.Question {
	t.Helper()
	q := question(t, h, 1)
	q.Grant = h.GrantTo(t, subject, []policy.Action{policy.Listen}, q.Station.ID)
	return q
}

func want(t testing.TB, err, expected error) {
	t.Helper()
	if !errors.Is(err, expected) || expected == nil && err != nil {
		t.Errorf("got %v, want %v", err, expected)
	}
}

// P47: a question tells whom it is about and nothing that opens anything, and
// is signed so that a platform can check it, and notice a replay.
func TestQuestion(t *testing.T) {
	h := newBearers(t)
	p := newPlatform(t)
	c, clock := newConsent(t, p, func(o *consent.Options) { o.PerSegment = true })
	q := question(t, h, 1)
	want(t, c.Ask(t.Context(), q), nil)
	want(t, c.Ask(t.Context(), question(t, h, 2)), nil)
	d := p.asked[0]
	if d["action"] != "listen" || d["station"] != q.Station.ID || d["segment"] != q.CID.String() || d["subject"] != q.Grant.Subject() ||
		d["credential"] != q.Grant.ID() || d["kind"] != "token" || d["decision"] != p.heads[0].Get("webhook-id") || len(d) != 7 {
		t.Errorf("asked %v", d)
	}
	if p.asked[1]["decision"] == d["decision"] {
		t.Error("two questions have one id")
	}
	if at := p.heads[0].Get("webhook-timestamp"); at != strconv.FormatInt(clock.Now().Unix(), 10) {
		t.Errorf("asked at %s", at)
	}
	theirs, err := standardwebhooks.NewWebhook(secret)
	if err == nil {
		err = theirs.Verify([]byte(p.bodies[0]), p.heads[0])
	}
	if err != nil {
		t.Errorf("their own library: %v", err)
	}
	if err := theirs.Verify([]byte(p.bodies[0]), p.heads[1]); err == nil {
		t.Error("the head of another question fits")
	}
	for _, private := range []string{"eyJ", "127.0.0.1", strings.TrimPrefix(secret, "whsec_")} {
		if strings.Contains(p.bodies[0], private) || strings.Contains(fmt.Sprint(p.heads[0]), private) && private != "127.0.0.1" {
			t.Errorf("the question holds %q", private)
		}
	}
}

// Whatever is not a clear yes is a no; a refusal and no answer are told apart.
func TestOnlyAClearYesLetsIn(t *testing.T) {
	h := newBearers(t)
	p := newPlatform(t)
	status := func(n int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(n); fmt.Fprint(w, body) }
	}
	trap := newPlatform(t)
	for what, a := range map[string]struct {
		say  http.HandlerFunc
		want error
	}{
		"yes":                 {status(200, `{"allow":true}`), nil},
		"yes, more words":     {status(201, ` {"allow":true,"why":{"a":[1]},"ttl":5} `), nil},
		"no":                  {status(200, `{"allow":false}`), musen.ErrNotFound},
		"no, for a while":     {status(200, `{"ttl":5,"allow":false}`), musen.ErrNotFound},
		"empty":               {status(200, ``), musen.ErrConsent},
		"no content":          {status(204, ``), musen.ErrConsent},
		"null":                {status(200, `{"allow":null}`), musen.ErrConsent},
		"text":                {status(200, `{"allow":"true"}`), musen.ErrConsent},
		"number":              {status(200, `{"allow":1}`), musen.ErrConsent},
		"another case":        {status(200, `{"Allow":true}`), musen.ErrConsent},
		"twice":               {status(200, `{"allow":false,"allow":true}`), musen.ErrConsent},
		"a list":              {status(200, `[{"allow":true}]`), musen.ErrConsent},
		"two of them":         {status(200, `{"allow":true}{"allow":true}`), musen.ErrConsent},
		"cut":                 {status(200, `{"allow":true`), musen.ErrConsent},
		"a time below 0":      {status(200, `{"allow":true,"ttl":-1}`), musen.ErrConsent},
		"a time with a point": {status(200, `{"allow":true,"ttl":1.5}`), musen.ErrConsent},
		"an endless time":     {status(200, `{"allow":true,"ttl":1e99}`), musen.ErrConsent},
		"HTML":                {status(200, `<html>true`), musen.ErrConsent},
		"yes with 403":        {status(403, `{"allow":true}`), musen.ErrConsent},
		"yes with 500":        {status(500, `{"allow":true}`), musen.ErrConsent},
		"yes elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, trap.URL, http.StatusTemporaryRedirect)
		}, musen.ErrConsent},
		"1 MiB":   {status(200, `{"allow":true,"x":"`+strings.Repeat("x", 1<<20)+`"}`), musen.ErrConsent},
		"hung up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, musen.ErrConsent},
	} {
		c, _ := newConsent(t, p, nil)
		p.answer(a.say)
		if err := c.Ask(t.Context(), question(t, h, 1)); !errors.Is(err, a.want) || a.want == nil && err != nil {
			t.Errorf("%s: got %v, want %v", what, err, a.want)
		}
	}
	if trap.count() != 0 {
		t.Error("a redirect was followed")
	}
	release := make(chan struct{})
	defer close(release)
	p.answer(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-release:
		}
	})
	slow, _ := newConsent(t, p, func(o *consent.Options) { o.Timeout = 20 * time.Millisecond })
	want(t, slow.Ask(t.Context(), question(t, h, 1)), musen.ErrConsent)
	if !errors.Is(musen.ErrConsent, musen.ErrUnavailable) {
		t.Error("no answer is not unavailable")
	}
}

// An answer holds for as long as it says, for one credential, action and
// station; and is asked for again when it ends.
func TestAnswersAreRemembered(t *testing.T) {
	h := newBearers(t)
	p := newPlatform(t)
	p.yes(20)
	c, clock := newConsent(t, p, nil)
	ann, bob := question(t, h, 1), question(t, h, 1)
	asks := func(q musen.Question, expected error, n int) {
		t.Helper()
		want(t, c.Ask(t.Context(), q), expected)
		if got := p.count(); got != n {
			t.Errorf("asked %d times, want %d", got, n)
		}
	}
	asks(ann, nil, 1)
	asks(ann, nil, 1)
	other := ann
	other.CID = segment(t, 2)
	asks(other, nil, 1) // the same station
	asks(bob, nil, 2)
	other.Action = policy.Download
	asks(other, nil, 3)
	other.Station.ID = "bbbbbbbbbbbbbbbbbbbbbbbbbb"
	asks(other, nil, 4)
	p.says(`{"allow":false}`)
	clock.forward(14 * time.Second)
	asks(ann, nil, 4)
	clock.forward(6 * time.Second)
	asks(ann, musen.ErrNotFound, 5)
	asks(ann, musen.ErrNotFound, 5)
	p.yes(3600) // longer than a minute, which is configured
	clock.forward(10 * time.Second)
	asks(ann, nil, 6)
	clock.forward(time.Minute)
	p.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	asks(ann, musen.ErrConsent, 7) // what was a yes is no more
	asks(ann, musen.ErrConsent, 7)
	clock.forward(time.Second)
	p.yes(60)
	asks(ann, nil, 8)
}

// Before a yes ends it is asked for again, so that what plays does not wait;
// while the platform is away the yes holds until its end, and a no ends it.
func TestAnswersAreRenewed(t *testing.T) {
	h := newBearers(t)
	p := newPlatform(t)
	p.yes(40)
	c, clock := newConsent(t, p, nil)
	q := question(t, h, 1)
	want(t, c.Ask(t.Context(), q), nil)
	came := make(chan struct{}, 10)
	p.answer(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(502)
		came <- struct{}{}
	})
	clock.forward(30 * time.Second)
	want(t, c.Ask(t.Context(), q), nil)
	<-came
	want(t, c.Ask(t.Context(), q), nil)
	p.answer(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"allow":false}`); came <- struct{}{} })
	for deadline := time.Now().Add(time.Minute); c.Ask(t.Context(), q) == nil; {
		if time.Now().After(deadline) {
			t.Fatal("the no is not heard")
		}
	}
	want(t, c.Ask(t.Context(), q), musen.ErrNotFound)
}

// Many who ask the same ask once; a platform that is away is not asked by each
// of many.
func TestManyAskOnce(t *testing.T) {
	h := newBearers(t)
	p := newPlatform(t)
	release := make(chan struct{})
	p.answer(func(w http.ResponseWriter, _ *http.Request) { <-release; fmt.Fprint(w, `{"allow":true}`) })
	c, _ := newConsent(t, p, nil)
	q := question(t, h, 1)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() { want(t, c.Ask(context.Background(), q), nil) })
	}
	left, leave := context.WithCancel(t.Context())
	leave()
	want(t, c.Ask(left, q), context.Canceled)
	close(release)
	wg.Wait()
	if n := p.count(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	p.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	for i := range 100 {
		want(t, c.Ask(t.Context(), questionOf(t, h, fmt.Sprint("listener ", i))), musen.ErrConsent)
	}
	if n := p.count(); n > 20 {
		t.Errorf("a platform that is away was asked %d times", n)
	}
}

// Nobody has the platform counted as away by what it answers or does about
// them alone.
func TestOneListenerCannotHaveAllRefused(t *testing.T) {
	h := newBearers(t)
	for what, say := range map[string]http.HandlerFunc{
		"refused":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) },
		"broken":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"nonsense": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "what?") },
		"hung up":  func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"away":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) },
	} {
		p := newPlatform(t)
		c, _ := newConsent(t, p, nil)
		p.answer(say)
		for range 20 {
			want(t, c.Ask(t.Context(), questionOf(t, h, "mallory")), musen.ErrConsent)
		}
		p.yes(60)
		if err := c.Ask(t.Context(), questionOf(t, h, "ann")); err != nil {
			t.Errorf("%s: another listener gets %v", what, err)
		}
	}
}

// Questions of one listener that hang leave room for those of others.
func TestOneListenerCannotTakeAllRoom(t *testing.T) {
	h := newBearers(t)
	p := newPlatform(t)
	release := make(chan struct{})
	p.answer(func(w http.ResponseWriter, _ *http.Request) { <-release; fmt.Fprint(w, `{"allow":true}`) })
	c, _ := newConsent(t, p, nil)
	defer close(release)
	left, leave := context.WithCancel(t.Context())
	leave()
	full := false
	for range 200 {
		full = full || errors.Is(c.Ask(left, questionOf(t, h, "mallory")), musen.ErrConsent)
	}
	if !full {
		t.Error("one listener has any number of questions under way")
	}
	want(t, c.Ask(left, questionOf(t, h, "ann")), context.Canceled) // it is asked
}

// What one list of links is about is one question.
func TestLinksAreAskedAboutOnce(t *testing.T) {
	h := newBearers(t)
	p := newPlatform(t)
	c, _ := newConsent(t, p, nil)
	q := question(t, h, 1)
	token := q.Grant.ID()
	minted := q.Grant
	for i := range 20 {
		q.Grant = h.Link(t, minted, q.Station.ID, fmt.Sprint("/listen/", i))
		want(t, c.Ask(t.Context(), q), nil)
	}
	if n := p.count(); n != 1 {
		t.Fatalf("asked %d times", n)
	}
	if d := p.asked[0]; d["credential"] != token || d["kind"] != "token" {
		t.Errorf("asked about %v", d)
	}
}

func TestSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	write := func(text string, mode os.FileMode) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	write(secret+"\n", 0o600)
	if got, err := consent.ReadSecret(path); err != nil || got != secret {
		t.Errorf("%v", err)
	}
	short := base64.StdEncoding.EncodeToString(make([]byte, 23))
	for what, c := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"open to others": {secret, 0o640}, "empty": {"", 0o600}, "no prefix": {secret[6:], 0o600},
		"short": {"whsec_" + short, 0o600}, "no base64": {"whsec_!!!", 0o600}, "long": {"whsec_" + strings.Repeat("AAAA", 2000), 0o600},
	} {
		write(c.text, c.mode)
		if _, err := consent.ReadSecret(path); err == nil || len(c.text) > 8 && strings.Contains(err.Error(), c.text[6:]) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := os.Symlink(path, path+".link"); err != nil {
		t.Fatal(err)
	}
	if _, err := consent.ReadSecret(path + ".link"); err == nil {
		t.Error("read over a symbolic link")
	}
	if _, err := consent.ReadSecret(filepath.Dir(path)); err == nil {
		t.Error("read a folder")
	}
}
