package gateway

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/password"
)

// The roles that a realm plays for the pages. Passwords are really hashed.

func (r *realm) ShareBySecret(secret string) (musen.Share, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.shares[secret]
	return s, ok
}

func (r *realm) UseShare(_ context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for secret, s := range r.shares {
		if s.ID == id && s.End(r.stations[s.Station].Epoch, r.clock.Now()) == "" {
			s.Uses++
			r.shares[secret] = s
			return nil
		}
	}
	return musen.ErrGone
}

func (r *realm) Generation(id string) (uint64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.shares {
		if s.ID == id {
			return s.Generation, s.Revoked.IsZero()
		}
	}
	return 0, false
}

func (r *realm) Segments(_ context.Context, station, cursor string, limit int) (page []musen.Segment, next string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	from := 0
	if cursor != "" {
		if from, err = strconv.Atoi(cursor); err != nil {
			return nil, "", musen.ErrInvalid
		}
	}
	for _, s := range r.segments {
		if s.Station == station && s.State == musen.Live {
			page = append(page, s)
		}
	}
	slices.SortFunc(page, func(a, b musen.Segment) int { return cmp.Compare(a.ID, b.ID) })
	page = page[min(from, len(page)):]
	if len(page) > limit {
		page, next = page[:limit], strconv.Itoa(from+limit)
	}
	return page, next, nil
}

// share makes one of a station, as change has it, and returns its secret.
func (r *realm) share(station string, change func(*musen.Share)) (s musen.Share, secret string) {
	r.t.Helper()
	of, err := r.Station(context.Background(), station)
	check(r.t, err)
	s, secret, err = musen.NewShare(rand.Reader, of)
	check(r.t, err)
	s.SessionTTL, s.Downloads, s.Created = time.Hour, true, r.clock.Now()
	if change != nil {
		change(&s)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shares[secret] = s
	return s, secret
}

// change changes a share that is there.
func (r *realm) change(secret string, f func(*musen.Share)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.shares[secret]
	f(&s)
	r.shares[secret] = s
}

// regenerate begins the next epoch of a station.
func (r *realm) regenerate(station string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stations[station]
	s.Epoch++
	r.stations[station] = s
}

// hasher hashes passwords as a node does.
func hasher(t testing.TB) *password.Hasher {
	t.Helper()
	h, err := password.New(bytes.Repeat([]byte{7}, 32), 2)
	check(t, err)
	return h
}

// withPassword makes a change to a share that has one.
func withPassword(t testing.TB, h *password.Hasher, word string) func(*musen.Share) {
	t.Helper()
	hash, err := h.Hash(t.Context(), word)
	check(t, err)
	return func(s *musen.Share) { s.Password = hash }
}

// open starts a Server with pages.
func (r *realm) open(h Passwords, change func(*Options)) *site {
	r.t.Helper()
	return r.serve(func(o *Options) {
		o.ClientHeader, o.Proxies = "X-Forwarded-For", []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
		o.Pages = &Pages{Shares: r, Library: r, Policy: r.engine, Minter: r.issuer, Passwords: h, LinkTTL: 5 * time.Minute}
		if change != nil {
			change(o)
		}
	})
}

// post sends the form of a share.
func (s *site) post(secret, form string, headers ...string) answer {
	s.t.Helper()
	req, err := http.NewRequest(http.MethodPost, s.url+"/s/"+secret, strings.NewReader(form))
	check(s.t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := s.client.Do(req)
	check(s.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res, body, err}
}

// enter opens a share and returns the value of the cookie that it sets.
func (s *site) enter(secret string) string {
	s.t.Helper()
	return s.cookieOf(s.ask("GET", "/s/"+secret))
}

// cookieOf is the session in an answer that lets in.
func (s *site) cookieOf(a answer) string {
	s.t.Helper()
	cookies := a.Cookies()
	if a.StatusCode != http.StatusSeeOther || len(cookies) != 1 || cookies[0].Name != "__Host-musen" {
		s.t.Fatalf("not let in: %s, cookies %v\n%s", a.Status, cookies, a.body)
	}
	return cookies[0].Value
}

func cookie(session string) string { return "__Host-musen=" + session }

// list fetches what a station plays.
func (s *site) list(station, query string, headers ...string) programme {
	s.t.Helper()
	a := s.ask("GET", "/stations/"+station+"/segments"+query, headers...)
	if a.StatusCode != http.StatusOK {
		s.t.Fatalf("list: %s\n%s", a.Status, a.body)
	}
	var p programme
	check(s.t, json.Unmarshal(a.body, &p))
	return p
}

// wantStatus fails the test unless an answer has a status and the words.
func (a answer) want(t testing.TB, status int, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(string(a.body), w) {
			t.Errorf("no %q in %s\n%s", w, a.Status, a.body)
		}
	}
	if a.StatusCode != status {
		t.Errorf("%s, want %d\n%s", a.Status, status, a.body)
	}
}
