package cmd_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdPost: post URL STATUS FILE FORM; sends a form, and writes what came as http
// does.
func cmdPost(ts *testscript.TestScript, _ bool, args []string) {
	req, err := http.NewRequest("POST", args[0], strings.NewReader(args[3]))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultTransport.RoundTrip(req)
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	var head strings.Builder
	ts.Check(resp.Header.Write(&head))
	ts.Check(os.WriteFile(ts.MkAbs(args[2])+".head", []byte(resp.Status+"\n"+head.String()), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), body, 0o600))
	if fmt.Sprint(resp.StatusCode) != args[1] {
		ts.Fatalf("POST: status %s, not %s\n%s", resp.Status, args[1], body)
	}
}

// cmdSession: session NAME HEAD; the cookie that an answer sets, as a browser
// sends it, becomes an environment variable.
func cmdSession(ts *testscript.TestScript, _ bool, args []string) {
	found := regexp.MustCompile(`Set-Cookie: (__Host-musen=[^;]+);`).FindStringSubmatch(ts.ReadFile(args[1]))
	if found == nil {
		ts.Fatalf("no session in %s", args[1])
	}
	ts.Setenv(args[0], found[1])
}

// cmdLocation: location NAME FILE; what is in a file becomes an environment
// variable.
func cmdLocation(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], ts.ReadFile(args[1]))
}

// cmdSegmentURL: segmenturl NAME FILE; the link of the first segment of a list
// becomes an environment variable.
func cmdSegmentURL(ts *testscript.TestScript, _ bool, args []string) {
	var list struct{ Segments []struct{ URL string } }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &list))
	ts.Setenv(args[0], list.Segments[0].URL)
}

// cmdMatch: match NAME FILE PATTERN; what the group in the pattern first finds
// in a file becomes an environment variable.
func cmdMatch(ts *testscript.TestScript, _ bool, args []string) {
	found := regexp.MustCompile(args[2]).FindStringSubmatch(ts.ReadFile(args[1]))
	if found == nil {
		ts.Fatalf("no %s in %s", args[2], args[1])
	}
	ts.Setenv(args[0], found[1])
}
