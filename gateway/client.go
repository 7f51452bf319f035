package gateway

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A client is who sends a request, as far as anything in the program knows.
type client struct {
	// name is a pseudonym: a keyed hash of the address, or of the /64 of an IPv6
	// address. It is the same while a key lives, and nobody can tell whether the
	// names under two keys are of one client.
	name string
	key  uint64 // number of that key
	// crowd says that many people may stand behind the name: no limit of a
	// client holds for it.
	crowd bool
	// proxied says that the request came over a declared proxy, so that what a
	// proxy adds may be believed.
	proxied bool
}

// clientKey is the key of the client in the context of a request.
type clientKey struct{}

// clientOf is who sends the request that ctx serves.
func clientOf(ctx context.Context) client {
	c, _ := ctx.Value(clientKey{}).(client)
	return c
}

// anonymous is the first to see a request, and the last to see an address: it
// puts a client in its place, in the request and in the headers that proxies
// write.
func (s *Server) anonymous(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := s.clients.of(r)
		r.RemoteAddr = ""
		dropForwarded(r.Header, s.clients.header)
		if err != nil {
			s.o.Log.Error("no randomness", "error", err)
			http.Error(w, "no randomness", http.StatusInternalServerError)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), clientKey{}, c)))
	})
}

// clients gives clients their pseudonyms.
type clients struct {
	proxies []netip.Prefix
	header  string // canonical name of the one that the proxies write; "": none
	life    time.Duration
	now     func() time.Time
	rand    io.Reader

	key atomic.Pointer[pseudonymKey]
	mu  sync.Mutex // held to replace key
}

// A pseudonymKey is in memory alone, and gone when it is replaced or when the
// process ends.
type pseudonymKey struct {
	number uint64
	ends   time.Time
	macs   sync.Pool // of hash.Hash
}

// of reads who sends a request.
func (p *clients) of(r *http.Request) (client, error) {
	key, err := p.current()
	if err != nil {
		return client{}, err
	}
	c := client{key: key.number}
	from, _ := netip.ParseAddrPort(r.RemoteAddr) // of a unix socket there is none
	addr := from.Addr().Unmap()
	if c.proxied = isDeclared(addr, p.proxies); !c.proxied {
		c.crowd = addr.IsLoopback()
	} else if p.header == "" {
		c.crowd = true
	} else {
		addr = p.forwarded(r.Header[p.header], addr)
	}
	c.name = key.name(addr)
	return c, nil
}

// current is the key for now. The first to ask after one has ended makes the
// next.
func (p *clients) current() (*pseudonymKey, error) {
	now := p.now()
	if k := p.key.Load(); k != nil && now.Before(k.ends) {
		return k, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.key.Load()
	if old != nil && now.Before(old.ends) {
		return old, nil
	}
	secret := make([]byte, sha256.Size)
	if _, err := io.ReadFull(p.rand, secret); err != nil {
		return nil, fmt.Errorf("make a key for pseudonyms: %w", err)
	}
	k := &pseudonymKey{ends: now.Add(p.life)}
	if old != nil {
		k.number = old.number + 1
	}
	k.macs.New = func() any { return hmac.New(sha256.New, secret) }
	p.key.Store(k)
	return k, nil
}

// name is the pseudonym of an address.
func (k *pseudonymKey) name(a netip.Addr) string {
	mac := k.macs.Get().(hash.Hash)
	defer k.macs.Put(mac)
	mac.Reset()
	var room [sha256.Size]byte
	network := a.AsSlice()
	if a.Is6() {
		network = network[:8]
	}
	mac.Write(network)
	sum := mac.Sum(room[:0])
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// forwarded is the address that the proxies say a request comes from: the last
// in their header that is no proxy's. What clients wrote there stands before
// it. When the proxies say nothing that can be read, the request is their own.
func (p *clients) forwarded(values []string, proxy netip.Addr) netip.Addr {
	list := strings.Join(values, ",")
	for list != "" {
		i := strings.LastIndexByte(list, ',')
		a, ok := parseHop(strings.TrimSpace(list[i+1:]))
		if !ok {
			break
		}
		if !isDeclared(a, p.proxies) {
			return a
		}
		list = list[:max(i, 0)]
	}
	return proxy
}

// parseHop reads an address as proxies write it: bare or in brackets, with a
// port or without.
func parseHop(s string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil {
		return a.Unmap().WithZone(""), true
	}
	a, err := netip.ParseAddrPort(s)
	return a.Addr().Unmap().WithZone(""), err == nil
}

func isDeclared(a netip.Addr, proxies []netip.Prefix) bool {
	for _, p := range proxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// dropForwarded removes what tells the address of a client, or claims to.
func dropForwarded(h http.Header, header string) {
	for _, name := range [...]string{
		"Forwarded", "X-Forwarded-For", "X-Real-Ip", "X-Client-Ip", "X-Cluster-Client-Ip",
		"True-Client-Ip", "Cf-Connecting-Ip", "Cf-Connecting-Ipv6", "Fastly-Client-Ip", "X-Original-Forwarded-For",
	} {
		delete(h, name)
	}
	delete(h, header)
}
