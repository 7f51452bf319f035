package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// maxIssuers bounds how many there are.
const maxIssuers = 16

// checkPlatform is about who decides besides this node.
func (c Config) checkPlatform(fault faultFunc) {
	if len(c.Issuers) > maxIssuers {
		fault("issuers", "there are %d, more than %d", len(c.Issuers), maxIssuers)
	}
	for n, i := range c.Issuers {
		at := func(name, format string, args ...any) { fault(tableKey(n)+"."+name, format, args...) }
		i.check(at)
		for _, other := range c.Issuers[:n] {
			if other.Name == i.Name || other.Issuer == i.Issuer {
				at("name", "another issuer has this name or this URL")
			}
		}
	}
	w := c.Webhook
	if w.URL == "" {
		return
	}
	if err := checkCalled(w.URL); err != nil {
		fault("webhook.url", "%w", err)
	}
	if w.SecretFile == "" {
		fault("webhook.secret_file", "set it: questions are signed, so that the platform knows who asks")
	}
	checkHosts(fault, "webhook.allow_private", w.AllowPrivate)
}

func (i Issuer) check(at faultFunc) {
	if i.Name == "" || len(i.Name) > 32 || strings.Trim(i.Name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		at("name", "%.40q is not a word of at most 32 of a-z, 0-9 and -", i.Name)
	}
	if err := checkCalled(i.Issuer); err != nil {
		at("issuer", "%w", err)
	}
	if i.Audience == "" {
		at("audience", "set it: a token that is meant for somebody else must not open this radio")
	}
	if i.JWKSURL != "" {
		if err := checkCalled(i.JWKSURL); err != nil {
			at("jwks_url", "%w", err)
		}
	}
	for _, l := range []struct {
		name         string
		list, choice []string
	}{
		{"algorithms", i.Algorithms, []string{"EdDSA", "ES256", "RS256", "PS256"}},
		{"token_types", i.TokenTypes, []string{"at+jwt", "JWT", "none"}},
	} {
		if len(l.list) == 0 {
			at(l.name, "name at least one of %s", strings.Join(l.choice, ", "))
		}
		for _, v := range l.list {
			if !slices.Contains(l.choice, v) {
				at(l.name, "%.40q is not one of %s", v, strings.Join(l.choice, ", "))
			}
		}
	}
	if i.StationTemplate != "" && !strings.Contains(i.StationTemplate, "{}") {
		at("station_template", "%.80q has no {} in it: every token would be for the same station", i.StationTemplate)
	}
	checkHosts(func(_, format string, args ...any) { at("allow_private", format, args...) }, "", i.AllowPrivate)
}

func checkHosts(fault faultFunc, key string, hosts []string) {
	for _, h := range hosts {
		if h == "" || strings.ContainsAny(h, "/*@ ") || strings.Count(h, ":") == 1 {
			fault(key, "%.80q is not the name or the address of one host, without a port", h)
		}
	}
}

// checkCalled is about a URL that the node is to call. The error does not
// repeat it: it may hold a password.
func checkCalled(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "" || len(s) > 1024:
		return fmt.Errorf("it is not like \"https://login.example/\"")
	case u.Scheme != "https":
		return fmt.Errorf("it must begin with https://")
	case u.User != nil || u.Fragment != "":
		return fmt.Errorf("it must not hold a user, a password or a fragment")
	}
	return nil
}

// platformLimits bound the numbers of all issuers and of the webhook.
func (c Config) platformLimits(span func(key string, v, least, most time.Duration) limit) []limit {
	const day = 24 * time.Hour
	list := []limit{
		span("webhook.timeout", c.Webhook.Timeout, 100*time.Millisecond, 5*time.Second),
		span("webhook.cache_ttl", c.Webhook.CacheTTL, time.Second, time.Hour),
	}
	for n, i := range c.Issuers {
		at := tableKey(n) + "."
		list = append(list,
			span(at+"max_ttl", i.MaxTTL, time.Minute, 366*day), span(at+"leeway", i.Leeway, 0, 5*time.Minute),
			span(at+"min_refetch", i.MinRefetch, time.Second, time.Hour), span(at+"max_stale", i.MaxStale, time.Minute, 30*day))
	}
	return list
}
