package admin

import (
	"strings"
	"testing"
	"time"
)

// A ttl that is too long is refused in words for people.
func TestLongestTTLInWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		24 * time.Hour: "to 1 day (86400 seconds).", 366 * 24 * time.Hour: "to 366 days (31622400 seconds).", 36 * time.Hour: "to 36 hours (",
		time.Hour: "to 1 hour (", 90 * time.Minute: "to 90 minutes (", 90 * time.Second: "to 90 seconds (", time.Minute: "to 1 minute (",
	} {
		if got := badTTL(d).Error(); !strings.Contains(got, want) {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
