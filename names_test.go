package musen_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/musenai/musen"
)

const someID = "abcdefghijklmnopqrstuvwxy4" // the last letter has the two spare bits clear

func TestStationNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"jazz": true, "a": true, "0": true, "late-night_2": true, strings.Repeat("a", 63): true,
		strings.Repeat("z", 26): true, // as long as an id, but none
		"":                      false, strings.Repeat("a", 64): false, "-jazz": false, "_jazz": false, "Jazz": false,
		"jazz ": false, "ja/zz": false, "jäzz": false, "ja\x00zz": false, "jazz\n": false, "../jazz": false,
		"jаzz":     false, // a Cyrillic letter
		"jazz\xff": false, someID: false,
	} {
		err := musen.CheckStationName(name)
		if (err == nil) != ok || err != nil && !errors.Is(err, musen.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestIDs(t *testing.T) {
	for s, is := range map[string]bool{
		someID: true, "": false, someID[:25]: false, someID + "a": false, strings.ToUpper(someID): false,
		someID[:25] + "5": false, // spare bits set: the same bytes, spelled in a second way
		someID[:25] + "1": false, someID[:25] + "=": false, someID[:25] + "\n": false,
		someID + "\n": false, "\r\n" + someID: false,
	} {
		if musen.IsID(s) != is {
			t.Errorf("IsID(%q) = %v", s, !is)
		}
	}
}

// Names that pass are safe in paths, URLs and log lines, and never ids.
func TestAnyStationName(t *testing.T) {
	plain := regexp.MustCompile(`\A[a-z0-9][a-z0-9_-]{0,62}\z`)
	id := regexp.MustCompile(`\A[a-z2-7]{25}[aeimquy4]\z`)
	names := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z0-9_-]{0,70}`), rapid.StringMatching(`[a-z2-7]{25,27}`), rapid.Just(someID))
	rapid.Check(t, func(t *rapid.T) {
		s := names.Draw(t, "name")
		if got := musen.IsID(s); got != id.MatchString(s) {
			t.Fatalf("IsID(%q) = %v", s, got)
		}
		err := musen.CheckStationName(s)
		if (err == nil) != (plain.MatchString(s) && !id.MatchString(s)) {
			t.Fatalf("%q: %v", s, err)
		}
		if err != nil && (!errors.Is(err, musen.ErrInvalid) || strings.ContainsAny(err.Error(), "\r\n\x00") || len(err.Error()) > 500) {
			t.Fatalf("%q: error %q", s, err)
		}
	})
}
