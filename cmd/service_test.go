package cmd_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A pinning service with trouble is listed with the reason and the next try,
// and one that is left as leaving until it has confirmed it.
func TestServiceInTrouble(t *testing.T) {
	t.Parallel()
	s := startFleet(t)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("opensesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// It stands where no connection is made to.
	s.musen("pin", "service", "add", "far", "--endpoint", "https://localhost:1/api", "--token-file", token)
	s.musen("add", "--station", "jazz", bundled(t)[0])
	lists := func(row string) {
		t.Helper()
		var out string
		s.until(row, func() bool {
			out = s.musen("pin", "service", "list")
			return regexp.MustCompile(row).MatchString(out)
		})
		if strings.Contains(out, "opensesame") {
			t.Errorf("the token is in %q", out)
		}
	}
	lists(`far .* in use +0 +0 +1 .*\d{4}-\d\d-\d\d \d\d:.*refused to connect to 127\.0\.0\.1: not a public address`)
	out := s.musen("pin", "service", "remove", "far")
	if want := "leaving pinning service far: 1 segment to unpin there; it is listed as leaving until it has confirmed that"; out != want {
		t.Errorf("remove says %q", out)
	}
	lists(`far .* leaving, 1 to unpin +0 +0 +0 .*\d{4}-.*refused to connect to 127\.0\.0\.1: not a public address`)
	if out := s.musen("--json", "pin", "service", "remove", "far"); out != `{"removed":"far","state":"forgotten","segments":1}` {
		t.Errorf("removing it again says %q", out)
	}
	if out := s.musen("pin", "service", "list"); strings.Contains(out, "far") {
		t.Errorf("it is still listed: %q", out)
	}
}
