package contract

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseDisk(t *testing.T) {
	for text, want := range map[string]int64{"200GB": 200e9, "1TiB": 1 << 40, "500 MB": 500e6, "16MiB": 16 << 20} {
		got, err := ParseDisk(text)
		if err != nil || got != want {
			t.Errorf("ParseDisk(%q) = %d, %v", text, got, err)
		}
		if again, err := ParseDisk(sizeText(got)); err != nil || again != got {
			t.Errorf("%d is spelled %q and read as %d, %v", got, sizeText(got), again, err)
		}
	}
	for _, bad := range []string{"", "200", "-1GB", "GB", "200gb", "1e9B"} {
		if got, err := ParseDisk(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("ParseDisk(%q) = %d, %v", bad, got, err)
		}
	}
	if _, err := ParseDisk("2gb"); err == nil || !strings.Contains(err.Error(), "kB, MB, GB") {
		t.Errorf("a unit that is spelled wrongly: %v", err)
	}
	if s := sizeText(200e9); s != "200GB" {
		t.Errorf("200 GB are spelled %q", s)
	}
}

func TestParseRate(t *testing.T) {
	for text, want := range map[string]int64{"20Mbit": 2_500_000, "8kbit": 1000, "1Gbit": 125_000_000, "20 Mbit/s": 2_500_000, "unlimited": 0} {
		if got, err := ParseRate(text); err != nil || got != want {
			t.Errorf("ParseRate(%q) = %d, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "20", "20MB", "20mbit", "-1Mbit", "0Mbit", "1.5Mbit", "99999999999999999999bit", "9999999999999Gbit", "unlimited/s"} {
		if got, err := ParseRate(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("ParseRate(%q) = %d, %v", bad, got, err)
		}
	}
}

func TestParseHours(t *testing.T) {
	for text, want := range map[string]Hours{"22:00-07:00": {From: 22 * 60, To: 7 * 60}, "00:00-06:30": {To: 390}, "18:00-24:00": {From: 18 * 60}, "00:00-24:00": {}, "always": {}} {
		if got, err := ParseHours(text); err != nil || got != want {
			t.Errorf("ParseHours(%q) = %+v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "22-7", "22:00", "22:00-", "22:00-22:00", "24:00-06:00", "25:00-06:00", "22:60-06:00", "24:01-01:00", "22:00-07:00 ", "-1:00-02:00", "+1:00-02:00", "always-07:00"} {
		if got, err := ParseHours(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("ParseHours(%q) = %+v, %v", bad, got, err)
		}
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	_, err := ParseHours("10:00-10:00")
	if err == nil || !strings.Contains(err.Error(), "end when they begin") {
		t.Errorf("hours of no length: %v", err)
	}
	for _, bad := range []string{"20M", "20mbit"} {
		if _, err := ParseRate(bad); err == nil || !strings.Contains(err.Error(), "kbit, Mbit or Gbit") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestOpenAndNext(t *testing.T) {
	at := func(clock string) time.Time {
		v, err := time.Parse("2006-01-02 15:04 -0700", "2026-03-10 "+clock)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	night := Hours{From: 22 * 60, To: 7 * 60, Offset: 2 * 3600}
	for _, c := range []struct {
		h    Hours
		now  string
		wait time.Duration
	}{
		{night, "22:00 +0200", 0},
		{night, "06:59 +0200", 0},
		{night, "07:00 +0200", 15 * time.Hour},
		{night, "21:30 +0200", 30 * time.Minute},
		{night, "21:30 +0000", 0}, // 23:30 there
		{night, "19:30 +0000", 30 * time.Minute},
		{Hours{From: 60, To: 120, Offset: -5 * 3600}, "05:00 +0000", time.Hour},
		{Hours{From: 60, To: 120, Offset: -5 * 3600}, "07:30 +0000", 22*time.Hour + 30*time.Minute},
		{Hours{From: 18 * 60}, "23:59 +0000", 0},
		{Hours{From: 18 * 60}, "00:00 +0000", 18 * time.Hour},
		{Hours{}, "12:00 +0000", 0},
	} {
		now := at(c.now)
		if got := c.h.Next(now).Sub(now); got != c.wait || c.h.Open(now) != (c.wait == 0) {
			t.Errorf("%v at %s: next in %s, open %v; want in %s", c.h, c.now, got, c.h.Open(now), c.wait)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		h := Hours{From: rapid.IntRange(0, day-1).Draw(t, "from"), To: rapid.IntRange(0, day-1).Draw(t, "to"), Offset: rapid.IntRange(-14*3600, 14*3600).Draw(t, "offset")}
		now := time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "now"), 0)
		next := h.Next(now)
		if next.Before(now) || next.Sub(now) > 24*time.Hour || !h.Open(next) {
			t.Fatalf("%+v at %s: next %s, open then: %v", h, now, next, h.Open(next))
		}
	})
}

func TestCarries(t *testing.T) {
	all, some := Contract{}, Contract{Label: []string{"abc", "def"}}
	if !all.Carries("xyz") || !some.Carries("def") || some.Carries("xyz") || some.Carries("") {
		t.Error("a contract carries the stations that it names, or all")
	}
}

func TestCheck(t *testing.T) {
	for what, c := range map[string]Contract{
		"a disk of one byte":  {Disk: 1},
		"a negative disk":     {Disk: -1},
		"too large a disk":    {Disk: 1 << 61},
		"too low a cap":       {Up: 999},
		"a negative cap":      {Up: -1},
		"an hour too late":    {Hours: Hours{To: day}},
		"an hour too early":   {Hours: Hours{From: -1}},
		"a clock off the day": {Hours: Hours{Offset: 24 * 3600}},
		"an empty label":      {Label: []string{""}},
		"a label with a path": {Label: []string{"../x"}},
		"a long label":        {Label: []string{strings.Repeat("a", 65)}},
		"too many labels":     {Label: make([]string, 257)},
	} {
		if err := c.Check(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := (Contract{}).Check(); err != nil {
		t.Errorf("a contract that offers nothing: %v", err)
	}
}

func TestSaveAndLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "contract.json")
	if _, err := Load(path); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("no file: %v", err)
	}
	want := Contract{Disk: 200e9, Up: 2_500_000, Hours: Hours{From: 1320, To: 420}, Label: []string{"mfrggzdfmztwq2lk"}}
	for range 2 { // the second time over the first
		if err := Save(path, want); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{`"200GB"`, `"20Mbit"`, `"22:00-07:00"`, `"mfrggzdfmztwq2lk"`} {
		if !strings.Contains(string(b), words) {
			t.Errorf("the file does not say %s:\n%s", words, b)
		}
	}
	got, err := Load(path)
	if err != nil || !got.Equal(want) {
		t.Errorf("got %+v, %v", got, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if names, _ := os.ReadDir(filepath.Dir(path)); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
	if err := Save(path, Contract{Disk: 1}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a contract that nobody can keep: %v", err)
	}
	for _, bad := range []string{"", "{", "[]", `{"disk":3}`, `{"disk":"1GB","dsik":""}`, `{"hours":"7-9"}`, `{"disk":"1B"}`, "{}x", `{"up":"` + strings.Repeat("x", maxFile) + `"}`} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); !errors.Is(err, ErrInvalid) {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
	if err := Save(filepath.Join(path, "x"), want); err == nil {
		t.Error("saved below a file")
	}
}

// Whatever is read as a contract can be kept, and is spelled so that it is read
// as the same.
func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(`{"disk":"200GB","up":"20Mbit","hours":"22:00-07:00","stations":["abc"]}`))
	f.Add([]byte(`{"hours":"00:00-24:00","up":"unlimited"}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c, again Contract
		if err := json.Unmarshal(b, &c); err != nil {
			return
		}
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &again); err != nil || !again.Equal(c) {
			t.Fatalf("%s: %+v, %v, not %+v", text, again, err, c)
		}
	})
}
