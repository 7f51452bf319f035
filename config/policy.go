package config

import (
	"errors"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // zones are the same on every gateway
)

// checkPolicy is about who may do what.
func (c Config) checkPolicy(fault faultFunc) {
	if c.Policy.Dir == "" && c.Policy.File == "" {
		fault("policy.dir", "set it, or policy.file: an empty folder means the built-in policies")
	}
	if _, err := c.Policy.Location(); err != nil {
		fault("policy.zone", "%.80q is not the name of a time zone like \"UTC\" or \"Europe/Tallinn\"", c.Policy.Zone)
	}
	if d := c.Policy.DisableUnused; d != 0 && d < 24*time.Hour {
		fault("policy.disable_unused", "%s is less than a day: when a token is used is known to the hour", shortDuration(d))
	}
	switch h := c.Public.RegionHeader; {
	case h == "":
	case !isHeaderName(h):
		fault("public.region_header", "%.80q is not the name of a header like \"CF-IPCountry\"", h)
	case len(c.Public.TrustedProxies) == 0:
		fault("public.region_header", "it is believed of the proxies in public.trusted_proxies alone, and there are none")
	}
}

// Location is the time zone that Zone names. The system's own is none: two
// gateways must not decide apart.
func (p Policy) Location() (*time.Location, error) {
	if p.Zone == "" || p.Zone == "Local" {
		return nil, errors.New("no time zone is named")
	}
	return time.LoadLocation(p.Zone)
}

// isHeaderName reports whether s is a name that a proxy may tell a region in:
// none that means something else.
func isHeaderName(s string) bool {
	taken := []string{"authorization", "cookie", "host", "range", "cta-common-access-token", "content-length", "transfer-encoding"}
	return isWord(s) && !strings.ContainsAny(s, "._") && !slices.Contains(taken, strings.ToLower(s))
}
