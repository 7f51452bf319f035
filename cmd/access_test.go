package cmd

import (
	"bytes"
	"strings"
	"testing"
)

// P34: a review is not taken for signed by a name that is empty, as a variable
// in a script may be.
func TestSignOffWantsAName(t *testing.T) {
	for _, name := range []string{"", " "} {
		var out, errs bytes.Buffer
		code := Main([]string{"access", "review", "--home", t.TempDir(), "--sign-off", name}, strings.NewReader(""), &out, &errs)
		if code != exitUsage || !strings.Contains(errs.String(), "--sign-off") || out.Len() > 0 {
			t.Errorf("sign off by %q: exit %d\n%s%s", name, code, &out, &errs)
		}
	}
}
