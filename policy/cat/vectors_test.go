package cat

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"
)

// jsonClaims are claims as vectors spell them.
type jsonClaims struct {
	Issuer    string       `json:"iss,omitempty"`
	Subject   string       `json:"sub,omitempty"`
	Audience  []string     `json:"aud,omitempty"`
	Expires   int64        `json:"exp,omitempty"`
	NotBefore int64        `json:"nbf,omitempty"`
	Issued    int64        `json:"iat,omitempty"`
	ID        string       `json:"cti,omitempty"`
	Exact     string       `json:"path,omitempty"`
	Prefix    string       `json:"path_prefix,omitempty"`
	Methods   []string     `json:"catm,omitempty"`
	Station   *jsonStation `json:"station,omitempty"`
}

type jsonStation struct {
	ID       string `json:"id"`
	Epoch    uint64 `json:"epoch"`
	Download bool   `json:"download"`
}

func (j jsonClaims) claims(t *testing.T) Claims {
	c := Claims{
		Issuer: j.Issuer, Subject: j.Subject, Audience: j.Audience, Methods: j.Methods,
		Expires: unix(j.Expires), NotBefore: unix(j.NotBefore), Issued: unix(j.Issued),
	}
	if j.ID != "" {
		c.ID = fromHex(t, j.ID)
	}
	if j.Exact != "" {
		c.Paths = append(c.Paths, Match{Value: j.Exact})
	}
	if j.Prefix != "" {
		c.Paths = append(c.Paths, Match{Value: j.Prefix, Prefix: true})
	}
	if s := j.Station; s != nil {
		c.Station = &Station{ID: s.ID, Epoch: s.Epoch, Download: s.Download}
	}
	return c
}

func unix(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}

func fromHex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	must(t, err)
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func readVectors(t *testing.T, file string, into any) {
	t.Helper()
	b, err := os.ReadFile("testdata/" + file)
	must(t, err)
	must(t, json.Unmarshal(b, into))
}

// answer is what this package says of a token and a request, in a word.
func answer(v *Verifier, token string, now time.Time, path string) string {
	c, err := v.Verify(token)
	if err == nil {
		err = c.CheckTime(now, 0)
	}
	if err == nil {
		err = c.CheckRequest("GET", path)
	}
	for word, kind := range map[string]error{
		"malformed": ErrMalformed, "mac": ErrMAC, "expired": ErrExpired, "not yet valid": ErrNotYetValid, "scope": ErrScope,
	} {
		if errors.Is(err, kind) {
			return word
		}
	}
	if err != nil {
		return err.Error()
	}
	return "ok"
}

// Tokens that @eyevinn/cat made: see testdata/README.md.
func TestTheirTokens(t *testing.T) {
	var file struct {
		Kid, Secret string
		Vectors     []struct{ Name, Token, Want string }
	}
	readVectors(t, "theirs.json", &file)
	if len(file.Vectors) < 20 {
		t.Fatalf("%d vectors", len(file.Vectors))
	}
	v, err := NewVerifier(map[string][]byte{file.Kid: fromHex(t, file.Secret)})
	must(t, err)
	for _, c := range file.Vectors {
		if got := answer(v, c.Token, time.Unix(1800000100, 0), "/listen/bafkqaaa"); got != c.Want {
			t.Errorf("%s: %s, want %s", c.Name, got, c.Want)
		}
	}
}

// Tokens that this package made, and what @eyevinn/cat says of them: ours must
// not have changed, and must say the same.
func TestOurTokens(t *testing.T) {
	var file struct {
		Kid, Secret string
		Vectors     []struct {
			Name, Token string
			Claims      jsonClaims
			Checks      []struct{ Issuer, Path, Answer string }
		}
	}
	readVectors(t, "ours.json", &file)
	secret := fromHex(t, file.Secret)
	signer, err := NewSigner(file.Kid, secret)
	must(t, err)
	v, err := NewVerifier(map[string][]byte{file.Kid: secret})
	must(t, err)
	answers := map[string]string{
		"ok": "accepted", "scope": "UriNotAllowedError", "expired": "TokenExpiredError", "not yet valid": "TokenNotActiveError",
	}
	for _, c := range file.Vectors {
		token, err := signer.Sign(c.Claims.claims(t))
		must(t, err)
		if token != c.Token {
			t.Errorf("%s: the token has changed", c.Name)
		}
		for _, check := range c.Checks {
			got := answers[answer(v, c.Token, time.Unix(1800000100, 0), check.Path)]
			if got == "accepted" && c.Claims.Issuer != "" && c.Claims.Issuer != check.Issuer {
				got = "InvalidIssuerError" // which is the caller's to check here
			}
			if got == "accepted" && len(c.Claims.Audience) > 0 && c.Claims.Audience[0] != "musen" {
				got = "InvalidAudienceError" // likewise
			}
			if got != check.Answer {
				t.Errorf("%s on %s: %s, they say %s", c.Name, check.Path, got, check.Answer)
			}
		}
	}
}
