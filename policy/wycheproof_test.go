package policy

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// jwsFile is a file of Wycheproof's vectors for JSON Web Signatures.
type jwsFile struct {
	NumberOfTests int
	TestGroups    []struct {
		Comment         string
		Public, Private json.RawMessage
		Tests           []struct {
			TcID            int
			Comment, Result string
			JWS             json.RawMessage
			Flags           []string
		}
	}
}

// signedBy is what this package takes for the payload of a JWS, by the key of a
// foreign issuer whose tokens have no typ, as the vectors have none.
func signedBy(key PublicKey, raw string) ([]byte, error) {
	if err := checkSpelling(raw); err != nil {
		return nil, err
	}
	header, _, _ := strings.Cut(raw, ".")
	h, err := parseHeader(header)
	if err != nil {
		return nil, err
	}
	t := &trust{ForeignIssuer: ForeignIssuer{
		Name: "wycheproof", Keys: heldKeys{key.ID: key}, Types: []string{"", "JOSE"}, Algorithms: foreignAlgorithms(),
	}}
	payload, _, err := t.payload(raw, h)
	return payload, err
}

// H1 to H4, H7: of Wycheproof's vectors for JSON Web Signatures, the 213 with a
// modified padding among them, none that it calls invalid is accepted. Those
// that it calls valid are, unless this package is stricter.
func TestWycheproofJWS(t *testing.T) {
	b, err := os.ReadFile("testdata/wycheproof/json_web_signature_test.json")
	if err != nil {
		t.Fatal(err)
	}
	var file jwsFile
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	tried, accepted, padding := 0, map[string]int{}, 0
	for _, g := range file.TestGroups {
		key, symmetric := vectorKey(t, g.Public, g.Private)
		for _, c := range g.Tests {
			tried++
			if slices.Contains(c.Flags, "ModifiedPadding") {
				padding++
			}
			var raw string
			if json.Unmarshal(c.JWS, &raw) != nil {
				raw = string(c.JWS) // in JSON, which is no token
			}
			_, err := signedBy(key, raw)
			if err == nil {
				accepted[key.Algorithms[0]]++
			}
			switch {
			case err == nil && (c.Result != "valid" || symmetric):
				t.Errorf("%d, %s: %s: accepted", c.TcID, g.Comment, c.Comment)
			case err != nil && c.Result == "valid" && !stricter(c.Comment, raw, key):
				t.Errorf("%d, %s: %s: %v", c.TcID, g.Comment, c.Comment, err)
			}
		}
	}
	if tried != file.NumberOfTests || padding != 213 {
		t.Errorf("%d of %d vectors, %d with a modified padding", tried, file.NumberOfTests, padding)
	}
	for _, alg := range []string{"ES256", "RS256", "PS256"} {
		if accepted[alg] == 0 {
			t.Errorf("no vector of %s was accepted: this test shows nothing of it", alg)
		}
	}
}

// stricter reports whether a valid vector is refused here for good reason: no
// foreign issuer has its algorithm, that is not the key's, or it has no claims.
func stricter(comment, raw string, key PublicKey) bool {
	header, _, _ := strings.Cut(raw, ".")
	h, err := parseHeader(header)
	return err != nil || !slices.Contains(foreignAlgorithms(), h.alg) || key.Algorithms[0] != h.alg || comment == "emptyPayload"
}

// vectorKey is the key of a group, with the algorithm that it is for.
func vectorKey(t *testing.T, public, private json.RawMessage) (key PublicKey, symmetric bool) {
	t.Helper()
	if public == nil {
		public = private
	}
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(public); err != nil {
		t.Fatal(err)
	}
	_, symmetric = jwk.Key.([]byte)
	return PublicKey{ID: jwk.KeyID, Key: jwk.Key, Algorithms: []string{jwk.Algorithm}}, symmetric
}
