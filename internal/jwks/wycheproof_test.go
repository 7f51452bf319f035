package jwks

import (
	"encoding/json"
	"os"
	"testing"
)

// Wycheproof's vectors for JSON Web Keys: a set gives no key that is wrong, weak,
// for something else, or a secret. Two that it calls invalid give one here: in 1
// the good key beside a secret, which is left out, and in 7 an RSA key of which
// nothing shows that it was drawn badly (ROCA).
func TestWycheproofJWK(t *testing.T) {
	b, err := os.ReadFile("../../policy/testdata/wycheproof/json_web_key_test.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		TestGroups []struct {
			Comment         string
			Public, Private json.RawMessage
			Tests           []struct {
				TcID            int
				Comment, Result string
			}
		}
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	tried, good := 0, 0
	for _, g := range file.TestGroups {
		set := g.Public
		if set == nil { // of secrets alone, which have no public part
			set = g.Private
		}
		for _, c := range g.Tests {
			tried++
			keys, err := Parse(set, []string{"EdDSA", "ES256", "RS256", "PS256"})
			if (err == nil) != (len(keys) > 0) {
				t.Errorf("%d: %d keys, %v", c.TcID, len(keys), err)
			}
			want := g.Public != nil && c.Result == "valid" || c.TcID == 1 || c.TcID == 7
			if want {
				good++
			}
			if (err == nil) != want {
				t.Errorf("%d, %s: %s: %v: %s", c.TcID, g.Comment, c.Comment, err, set)
			}
		}
	}
	if tried != 26 || good == 0 {
		t.Errorf("%d vectors, %d good", tried, good)
	}
}
