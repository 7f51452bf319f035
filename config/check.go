package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxSocketPath is the longest path that a unix socket can have on every system
// that the program runs on.
const maxSocketPath = 103

// Check refuses what is unsafe or cannot work: listeners that others can reach
// without TLS, limits that limit nothing, times beyond reason. It reports all
// that is wrong at once and opens no file.
func (c Config) Check() error {
	var faults []error
	fault := func(key, format string, args ...any) {
		faults = append(faults, fmt.Errorf(key+": "+format, args...))
	}
	c.checkPublic(fault)
	c.checkLocal(fault)
	c.checkRest(fault)
	c.checkRole(fault)
	c.checkReplica(fault)
	c.checkAlerts(fault)
	c.checkReports(fault)
	c.checkPolicy(fault)
	c.checkPlatform(fault)
	c.checkDenylist(fault)
	for _, l := range c.limits() {
		if l.value < l.least || l.value > l.most {
			fault(l.key, "%s is not between %s and %s", l.show(l.value), l.show(l.least), l.show(l.most))
		}
	}
	return errors.Join(faults...)
}

// maxLists is how many denylists a block is looked up in at most.
const maxLists = 16

func (c Config) checkDenylist(fault faultFunc) {
	files := c.Denylist.Files
	if len(files) > maxLists {
		fault("denylist.files", "%d are more than %d", len(files), maxLists)
	}
	for i, file := range files {
		switch {
		case file == "":
			fault("denylist.files", "a name is empty")
		case slices.Contains(files[:i], file):
			fault("denylist.files", "%.200q is named twice", file)
		}
	}
}

type faultFunc func(key, format string, args ...any)

func (c Config) checkPublic(fault faultFunc) {
	p := c.Public
	loopback, err := isLoopback(p.Address)
	switch {
	case err != nil:
		fault("public.address", "%w", err)
	case (p.TLSCert == "") != (p.TLSKey == ""):
		fault("public.tls_cert", "set it together with public.tls_key, or neither")
	case !loopback && p.TLSCert == "" && len(p.TrustedProxies) == 0:
		fault("public.address", "others can reach %q, and audio may not leave without TLS: set public.tls_cert and public.tls_key, or name your reverse proxy in public.trusted_proxies, or listen on 127.0.0.1", p.Address)
	}
	for _, n := range p.TrustedProxies {
		if n.Bits() == 0 {
			fault("public.trusted_proxies", "%s is everybody: name the addresses of your proxies", n)
		}
	}
	if p.BaseURL != "" {
		if err := checkBaseURL(p.BaseURL); err != nil {
			fault("public.base_url", "%w", err)
		}
	}
	if p.AppealURL != "" && !isAppeal(p.AppealURL) {
		fault("public.appeal_url", "%.80q is not like \"https://radio.example/appeal\" or \"mailto:appeals@radio.example\"", p.AppealURL)
	}
	if h := p.ClientHeader; h != "" {
		checkClientHeader(fault, h, len(p.TrustedProxies))
	}
	if p.MaxStreamsPerSubject > p.MaxStreams {
		fault("public.max_streams_per_subject", "%d is more than public.max_streams, %d", p.MaxStreamsPerSubject, p.MaxStreams)
	}
}

// checkClientHeader is about the header that tells who a proxy speaks for.
func checkClientHeader(fault faultFunc, header string, proxies int) {
	switch {
	case proxies == 0:
		fault("public.client_header", "it is believed of proxies alone: name them in public.trusted_proxies")
	case !isWord(header) || strings.ContainsAny(header, "._"):
		fault("public.client_header", "%.80q is not the name of a header, like \"X-Forwarded-For\"", header)
	case strings.EqualFold(header, "Forwarded"):
		fault("public.client_header", "the syntax of Forwarded is not read: have the proxies set X-Forwarded-For, or a header with nothing but the address")
	}
}

// isAppeal reports whether s can stand in an answer as the address of a page or
// a mailbox.
func isAppeal(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.User != nil || len(s) > 1000 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`<>"\`, r) }) {
		return false
	}
	return u.Scheme == "https" && u.Host != "" || u.Scheme == "mailto" && strings.Contains(u.Opaque, "@")
}

func checkBaseURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%.80q is not like \"https://radio.example\"", s)
	case u.User != nil:
		return errors.New("it must not hold a user or a password")
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return fmt.Errorf("%.80q: leave out what follows the path", s)
	case u.Scheme == "http" && !isLoopbackHost(u.Hostname()):
		return fmt.Errorf("%.80q: links that others use must begin with https://", s)
	}
	return nil
}

// checkLocal is about the listeners that only this machine may reach.
func (c Config) checkLocal(fault faultFunc) {
	if c.Admin.Socket == "" {
		fault("admin.socket", "it must be set: the commands talk to the node through it")
	}
	if n := len(c.Admin.Socket); n > maxSocketPath {
		fault("admin.socket", "its path of %d bytes is longer than the %d that a socket may have: set a shorter one, like \"/run/musen/admin.sock\"", n, maxSocketPath)
	}
	for _, l := range []struct{ key, address string }{{"admin.address", c.Admin.Address}, {"metrics.address", c.Metrics.Address}} {
		if l.address == "" {
			continue
		}
		loopback, err := isLoopback(l.address)
		switch {
		case err != nil:
			fault(l.key, "%w", err)
		case !loopback:
			fault(l.key, "others can reach %q: listen on 127.0.0.1 and let a proxy with its own access control stand in front", l.address)
		}
	}
	addresses := []string{c.Public.Address, c.Admin.Address, c.Metrics.Address}
	for i, a := range addresses {
		if a != "" && !strings.HasSuffix(a, ":0") && slices.Contains(addresses[:i], a) {
			fault("public.address", "two listeners cannot share %q", a)
		}
	}
}

func (c Config) checkRest(fault faultFunc) {
	if len(c.Node.Listen) == 0 {
		fault("node.listen", "name at least one address, like \"/ip4/127.0.0.1/tcp/0\"")
	}
	for _, l := range []struct {
		key   string
		addrs []string
	}{{"node.listen", c.Node.Listen}, {"node.announce", c.Node.Announce}, {"node.relays", c.Node.Relays}} {
		for _, a := range l.addrs {
			if !strings.HasPrefix(a, "/") {
				fault(l.key, "%.80q is not a multiaddress like \"/ip4/127.0.0.1/tcp/4001\"", a)
			}
		}
	}
	for _, a := range c.Node.Relays {
		if !strings.Contains(a, "/p2p/") {
			fault("node.relays", "%.80q does not end with the peer ID, like /p2p/12D3KooW…", a)
		}
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		fault("log.level", "%.40q is not debug, info, warn or error", c.Log.Level)
	}
	if !slices.Contains([]string{"text", "json"}, c.Log.Format) {
		fault("log.format", "%.40q is not text or json", c.Log.Format)
	}
	if u, h := c.Public.MaxURL, c.Public.MaxHeaderBytes; u > h {
		fault("public.max_url", "%s is more than public.max_header_bytes, %s", u, h)
	}
}

// checkRole is about what only homes of some roles have.
func (c Config) checkRole(fault faultFunc) {
	k := c.Keyring
	switch {
	case !slices.Contains(Roles(), c.Role):
		fault("role", "%.40q is not origin, edge, storage or replica", c.Role)
	case !c.HasKeys() && (k.PassphraseFile != "" || k.IdentityFile != ""):
		fault("role", "a %s has no keys: leave [keyring] empty", c.Role)
	case !c.HasKeys():
	case k.PassphraseFile == "" && k.IdentityFile == "":
		fault("keyring.identity_file", "set it, or keyring.passphrase_file: without one the keyring cannot be opened; musen init makes one")
	case k.PassphraseFile != "" && k.IdentityFile != "":
		fault("keyring.identity_file", "set it or keyring.passphrase_file, not both")
	}
	c.checkFleet(fault)
	if !isWord(c.Pin.Site) {
		fault("pin.site", "%.80q is not a word of at most %d letters, digits, dots and dashes", c.Pin.Site, maxWord)
	}
}

// checkFleet is about the gateways that share a catalogue.
func (c Config) checkFleet(fault faultFunc) {
	f := c.Fleet
	if c.Role == RoleEdge && c.Catalogue.PostgresFile == "" {
		fault("catalogue.postgres_file", "an edge shares the origin's catalogue in PostgreSQL: name the file with its connection string")
	}
	if !isWord(f.Name) {
		fault("fleet.name", "%.80q is not a word of at most %d letters, digits, dots and dashes", f.Name, maxWord)
	}
	if 2*f.Poll >= f.Lease {
		fault("fleet.poll", "%s is not less than half of fleet.lease, %s: one answer that comes late would end the lease", shortDuration(f.Poll), shortDuration(f.Lease))
	}
	for _, a := range f.Peers {
		if !strings.HasPrefix(a, "/") || !strings.Contains(a, "/p2p/") {
			fault("fleet.peers", "%.80q is not a multiaddress that ends with the peer ID, like \"/ip4/10.0.0.7/tcp/4001/p2p/12D3KooW…\"", a)
		}
	}
}

// HasKeys reports whether a home of this role opens a keyring.
func (c Config) HasKeys() bool { return c.Role == RoleOrigin || c.Role == RoleEdge }

// checkReplica is about the listeners of a home without keys.
func (c Config) checkReplica(fault faultFunc) {
	r := c.Replica
	if (r.TLSCert == "") != (r.TLSKey == "") {
		fault("replica.tls_cert", "set it together with replica.tls_key, or neither")
	}
	if n := len(r.Socket); n == 0 || n > maxSocketPath {
		fault("replica.socket", "its path of %d bytes is not between 1 and the %d that a socket may have: set another one, like \"/run/musen/host.sock\"", n, maxSocketPath)
	}
	if r.Address == "" {
		return
	}
	loopback, err := isLoopback(r.Address)
	switch {
	case err != nil:
		fault("replica.address", "%w", err)
	case !loopback && r.TLSCert == "":
		fault("replica.address", "others can reach %q: set replica.tls_cert and replica.tls_key, or listen on 127.0.0.1 behind a proxy that ends TLS", r.Address)
	}
}

// maxWord is how long the name of a site may be, in bytes.
const maxWord = 64

// isWord reports whether s is empty, or a short name that is safe to print and
// to compare.
func isWord(s string) bool {
	return len(s) <= maxWord && strings.IndexFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-", r))
	}) < 0
}

// A limit bounds one number.
type limit struct {
	key                string
	value, least, most int64
	show               func(int64) string
}

func (c Config) limits() []limit {
	const day = 24 * time.Hour
	count := func(key string, v, least, most int) limit {
		return limit{key, int64(v), int64(least), int64(most), func(n int64) string { return strconv.FormatInt(n, 10) }}
	}
	size := func(key string, v, least, most Size) limit {
		return limit{key, int64(v), int64(least), int64(most), func(n int64) string { return Size(n).String() }}
	}
	span := func(key string, v, least, most time.Duration) limit {
		return limit{key, int64(v), int64(least), int64(most), func(n int64) string { return shortDuration(time.Duration(n)) }}
	}
	return append(c.platformLimits(span), []limit{
		span("shutdown_timeout", c.ShutdownTimeout, 100*time.Millisecond, 30*time.Second),
		span("recheck_interval", c.RecheckInterval, 50*time.Millisecond, time.Minute),
		count("public.max_streams", c.Public.MaxStreams, 1, 1<<20),
		count("public.max_streams_per_subject", c.Public.MaxStreamsPerSubject, 1, 1<<20),
		span("public.read_header_timeout", c.Public.ReadHeaderTimeout, 100*time.Millisecond, 5*time.Minute),
		span("public.idle_timeout", c.Public.IdleTimeout, time.Second, time.Hour),
		span("public.write_stall", c.Public.WriteStall, 100*time.Millisecond, time.Hour),
		size("public.max_header_bytes", c.Public.MaxHeaderBytes, 1<<10, 1<<20),
		size("public.max_url", c.Public.MaxURL, 256, 64<<10),
		size("admin.max_segment", c.Admin.MaxSegment, 1, 1<<40),
		size("node.storage_max", c.Node.StorageMax, 0, 1<<60),
		size("node.block_cache", c.Node.BlockCache, 0, 1<<40),
		span("node.fetch_timeout", c.Node.FetchTimeout, 100*time.Millisecond, 5*time.Minute),
		span("pin.ping_interval", c.Pin.PingInterval, 100*time.Millisecond, 5*time.Minute),
		span("pin.reconcile_interval", c.Pin.ReconcileInterval, 100*time.Millisecond, time.Hour),
		span("pin.audit_cycle", c.Pin.AuditCycle, time.Second, 30*day),
		span("pin.audit_deadline", c.Pin.AuditDeadline, 100*time.Millisecond, 5*time.Minute),
		size("pin.scrub_rate", c.Pin.ScrubRate, 4<<10, 1<<40),
		count("limits.client", c.Limits.Client, 1, 1<<20),
		count("limits.refused", c.Limits.Refused, 1, 1<<20),
		count("limits.sealed", c.Limits.Sealed, 1, 1<<20),
		count("limits.credential", c.Limits.Credential, 1, 1<<20),
		count("limits.subject", c.Limits.Subject, 1, 1<<20),
		count("limits.share", c.Limits.Share, 1, 1<<20),
		count("limits.station", c.Limits.Station, 1, 1<<20),
		count("limits.limited", c.Limits.Limited, 1, 1<<20),
		count("limits.limited_streams", c.Limits.LimitedStreams, 1, 1<<20),
		span("limits.burst", c.Limits.Burst, time.Second, time.Hour),
		span("limits.pseudonym_life", c.Limits.PseudonymLife, time.Hour, 7*day),
		count("alerts.networks", c.Alerts.Networks, 0, 1000),
		count("alerts.scraping", c.Alerts.Scraping, 0, 1<<20),
		count("alerts.refusals", c.Alerts.Refusals, 0, 1<<30),
		count("alerts.denied", c.Alerts.Denied, 0, 1000),
		count("alerts.guesses", c.Alerts.Guesses, 0, 1<<30),
		count("alerts.reported", c.Alerts.Reported, 0, 1000),
		span("reports.review_within", c.Reports.ReviewWithin, time.Minute, 366*day),
		span("reports.keep", c.Reports.Keep, day, 10*366*day),
		span("fleet.lease", c.Fleet.Lease, time.Second, time.Minute),
		span("fleet.poll", c.Fleet.Poll, 50*time.Millisecond, 30*time.Second),
		span("policy.link_ttl", c.Policy.LinkTTL, time.Second, day),
		span("policy.review_every", c.Policy.ReviewEvery, 0, 3*366*day),
		span("policy.disable_unused", c.Policy.DisableUnused, 0, 366*day),
		span("policy.max_token_ttl", c.Policy.MaxTokenTTL, time.Minute, 366*day),
		span("audit.check_every", c.Audit.CheckEvery, time.Second, 31*day),
		span("audit.review_every", c.Audit.ReviewEvery, 0, 366*day),
		span("share.ttl", c.Share.TTL, time.Minute, 366*day),
		span("share.session_ttl", c.Share.SessionTTL, time.Minute, 31*day),
		count("share.passwords_at_once", c.Share.PasswordsAtOnce, 1, 256),
	}...)
}

// isLoopback reports whether only this machine can reach a listener on address.
func isLoopback(address string) (bool, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return false, fmt.Errorf("%.80q is not like \"127.0.0.1:8420\"", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return false, fmt.Errorf("%.80q has no port from 0 to 65535", address)
	}
	return isLoopbackHost(host), nil
}

func isLoopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}
