package scenario_test

import (
	"os"
	"strings"
	"testing"

	"github.com/musenai/musen/policy"
	"github.com/musenai/musen/policy/scenario"
)

func read(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// P30: the example of the docs holds, word for word.
func TestExample(t *testing.T) {
	policies := []policy.File{{Name: "evenings.cedar", Text: read(t, "../../docs/policies/evenings.cedar")}}
	if err := policy.Check(policies...); err != nil {
		t.Fatal(err)
	}
	suite, err := scenario.Parse(read(t, "../../docs/policies/evenings.toml"))
	if err != nil {
		t.Fatal(err)
	}
	outcomes, err := suite.Run(policies)
	if err != nil {
		t.Fatal(err)
	}
	if len(outcomes) != len(suite.Cases) {
		t.Errorf("%d outcomes of %d cases", len(outcomes), len(suite.Cases))
	}
	for _, o := range outcomes {
		if o.Wrong != "" {
			t.Errorf("%s: allowed is %v (%s, by %v), expected %s", o.Case, o.Allowed, o.Reason, o.Policies, o.Wrong)
		}
	}
}

const listens = `
[[station]]
name = "jazz"
[[bearer]]
name = "ann"
actions = ["listen"]
stations = ["jazz"]
[[case]]
name = "ann listens"
bearer = "ann"
action = "listen"
station = "jazz"
`

// What is not as expected is said, and only that.
func TestWrongExpectations(t *testing.T) {
	for expected, wrong := range map[string]string{
		"allow = true": "", "allow = true\npolicies = [\"listen\"]": "", "allow = true\nreason = \"allowed\"": "",
		"allow = false":                      "allow = false",
		"allow = true\npolicies = []":        "policies = []",
		"allow = true\npolicies = [\"all\"]": `policies = ["all"]`,
		"allow = true\nreason = \"x\"":       `reason = "x"`,
		"allow = true\nstreams = 3":          "streams = 3",
		"allow = true\nstreams = 0":          "",
	} {
		suite, err := scenario.Parse([]byte(listens + expected))
		if err != nil {
			t.Fatal(err)
		}
		outcomes, err := suite.Run(nil)
		if err != nil {
			t.Fatal(err)
		}
		if outcomes[0].Wrong != wrong {
			t.Errorf("%q: %q, want %q", expected, outcomes[0].Wrong, wrong)
		}
	}
}

// P30: that nothing limits the streams is an expectation like any other.
func TestStreamsExpected(t *testing.T) {
	files := []policy.File{{Name: "own", Text: []byte(`@id("two") @streams("2") permit (principal, action, resource);`)}}
	for expected, wrong := range map[string]string{"": "", "streams = 2": "", "streams = 0": "streams = 0"} {
		suite, err := scenario.Parse([]byte(listens + "allow = true\n" + expected))
		if err != nil {
			t.Fatal(err)
		}
		outcomes, err := suite.Run(files)
		if err != nil {
			t.Fatal(err)
		}
		if outcomes[0].Wrong != wrong {
			t.Errorf("%q: %q, want %q", expected, outcomes[0].Wrong, wrong)
		}
	}
}

// P30: a policy that names a station by its id is tested with that id, and what
// a bearer has for one station is worth nothing on another.
func TestStationIDs(t *testing.T) {
	const id = "aaaaaaaaaaaaaaaaaaaaaaaaaa"
	files := []policy.File{{Name: "own", Text: []byte(string(policy.DefaultPolicies()) +
		`@id("quiet") forbid (principal, action == Action::"listen", resource in Station::"` + id + `");`)}}
	for where, want := range map[string]bool{"jazz": true, "rock": false, "other": false} {
		suite, err := scenario.Parse([]byte(`
station = [{name = "jazz"}, {name = "rock", id = "` + id + `"}, {name = "other"}]
bearer = [{name = "ann", actions = ["listen"], stations = ["jazz", "rock"]}]
case = [{name = "x", bearer = "ann", action = "listen", station = "` + where + `", allow = true}]`))
		if err != nil {
			t.Fatal(err)
		}
		outcomes, err := suite.Run(files)
		if err != nil {
			t.Fatal(err)
		}
		if outcomes[0].Allowed != want {
			t.Errorf("%s: allowed is %v (%s)", where, outcomes[0].Allowed, outcomes[0].Reason)
		}
	}
}

// H80: what is not known is refused by line.
func TestParseRefuses(t *testing.T) {
	good := listens + "allow = true\n"
	for text, says := range map[string]string{
		"":                                    "1 to 10000 cases",
		"[[case]]\nname = ":                   "line 2",
		"[[case]]\nname = 1":                  "line 2",
		good + "alow = false":                 `line 14, column 1: "case.alow" is not known`,
		good + "[[station]]\nname = \"jazz\"": "taken",
		good + "[[station]]\nname = \"*\"":    "reserved",
		good + "[[station]]\nname = \"a\"\nid = \"i\"\n[[station]]\nname = \"b\"\nid = \"i\"":                "id is taken",
		good + "[[bearer]]\nname = \"ann\"":                                                                  "taken",
		good + "[[bearer]]\nkind = \"cookie\"":                                                               "empty",
		good + "[[case]]\nname = \"x\"":                                                                      "allow",
		good + "[[case]]\nallow = true":                                                                      "no name",
		strings.ReplaceAll(good, "\"jazz\"\n[[bearer", "\"rock\"\n[[bearer"):                                 "not in the file",
		strings.Replace(good, `action = "listen"`, `action = "fly"`, 1):                                      "fly",
		good + "[[bearer]]\nname = \"b\"\nkind = \"cookie\"":                                                 "cookie",
		good + "[[bearer]]\nname = \"b\"\nkind = \"link\"":                                                   "one station",
		good + "[[bearer]]\nname = \"b\"\nmfa = \"soon\"":                                                    "soon",
		good + "[[bearer]]\nname = \"b\"\nrole = [{role = \"king\"}]":                                        "king",
		good + "[[bearer]]\nname = \"b\"\nrole = [{role = \"host\", station = \"rock\"}]":                    "rock",
		good + "[[case]]\nname = \"c\"\nallow = true\nbearer = \"bob\"":                                      "bob",
		good + "[[case]]\nname = \"c\"\nallow = true\nbearer = \"ann\"\naction = \"listen\"\nsegment = true": "name it",
		strings.Repeat("#", 2<<20):                                                                           "longer",
	} {
		_, err := scenario.Parse([]byte(text))
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.300q: %v, want %q", text, err, says)
		}
	}
}

// No file brings the parser or the run down.
func FuzzScenarios(f *testing.F) {
	f.Add(read(f, "../../docs/policies/evenings.toml"))
	f.Add([]byte(listens + "allow = true\nat = 2026-01-01T00:00:00Z\npublish_at = 2027-01-01T00:00:00Z\nregion = \"\\u0000\""))
	f.Add([]byte("zone = \"Local\"\n" + listens + "allow = false"))
	f.Fuzz(func(t *testing.T, text []byte) {
		suite, err := scenario.Parse(text)
		if err != nil || len(suite.Cases) > 50 {
			return
		}
		outcomes, err := suite.Run(nil)
		if err == nil && len(outcomes) != len(suite.Cases) {
			t.Errorf("%d outcomes of %d cases", len(outcomes), len(suite.Cases))
		}
	})
}
