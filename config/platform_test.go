package config

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const twoIssuers = `
[keyring]
identity_file = "id"

[[issuers]]
name = "acme"
issuer = "https://login.acme.example/"
audience = "radio"
algorithms = ["RS256"]
token_types = ["JWT", "none"]
stations_claim = "/app/stations"
ca_file = "ca.pem"
allow_private = ["login.acme.example", "10.0.0.7", "fd00::1"]

[[issuers]]
name = "other"
issuer = "https://login.other.example"
audience = "radio"
max_ttl = "1h"

[webhook]
url = "https://platform.example/consent"
secret_file = "hook.secret"
stations = ["jazz"]
`

func loadText(t *testing.T, text string) (Config, error) {
	t.Helper()
	home := t.TempDir()
	path := filepath.Join(home, "config.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(Sources{Home: home, File: path})
}

func TestIssuersAreRead(t *testing.T) {
	c, err := loadText(t, twoIssuers)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Issuers) != 2 {
		t.Fatalf("%d issuers", len(c.Issuers))
	}
	acme, other := c.Issuers[0], c.Issuers[1]
	if !slices.Equal(acme.Algorithms, []string{"RS256"}) || !filepath.IsAbs(acme.CAFile) || acme.MaxTTL != 24*time.Hour || acme.StationsClaim != "/app/stations" {
		t.Errorf("the first is %+v", acme)
	}
	if !slices.Equal(other.Algorithms, []string{"EdDSA", "ES256"}) || other.MaxTTL != time.Hour || other.StationsClaim != "stations" {
		t.Errorf("the second is %+v", other)
	}
	if !filepath.IsAbs(c.Webhook.SecretFile) || c.Webhook.Timeout != 2*time.Second {
		t.Errorf("the webhook is %+v", c.Webhook)
	}
	var shown bytes.Buffer
	if err := c.Render(&shown); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"[[issuers]]\nname = \"acme\"", "[[issuers]]\nname = \"other\"", "# file", "max_ttl = \"1h\"", "secret: only its path is shown"} {
		if !strings.Contains(shown.String(), want) {
			t.Errorf("config show lacks %q:\n%s", want, &shown)
		}
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Issuers []struct {
			Name   string `json:"name"`
			MaxTTL string `json:"max_ttl"`
		} `json:"issuers"`
	}
	if err := json.Unmarshal(b, &got); err != nil || len(got.Issuers) != 2 || got.Issuers[1].Name != "other" || got.Issuers[1].MaxTTL != "1h" {
		t.Errorf("as JSON: %+v, %v\n%s", got, err, b)
	}
}

// What is written is read back as it was, with issuers and without.
func TestIssuersAreWritten(t *testing.T) {
	for _, text := range []string{twoIssuers, "[keyring]\nidentity_file = \"id\"\n"} {
		c, err := loadText(t, text)
		if err != nil {
			t.Fatal(err)
		}
		var written bytes.Buffer
		if err := c.WriteTOML(&written); err != nil {
			t.Fatal(err)
		}
		again, err := loadText(t, written.String())
		if err != nil {
			t.Fatalf("%v\n%s", err, &written)
		}
		show := func(c Config) []string {
			return names(c.settings(), func(s setting) string { return s.key + "=" + s.text() })
		}
		if !slices.Equal(show(c), show(again)) {
			t.Errorf("read back as\n%q\nnot\n%q", show(again), show(c))
		}
		if !strings.Contains(written.String(), "[[issuers]]") || !strings.Contains(written.String(), "# Short word for this issuer") {
			t.Error("what can be set of an issuer is not explained")
		}
	}
}

func TestPlatformIsChecked(t *testing.T) {
	for what, c := range map[string]struct{ from, to, want string }{
		"unknown setting":      {"max_ttl =", "max_tll =", "did you mean issuers[1].max_ttl"},
		"wrong type":           {`algorithms = ["RS256"]`, `algorithms = "RS256"`, "issuers[0].algorithms"},
		"one section":          {"[[issuers]]\nname = \"acme\"", "[issuers]\nname = \"acme\"", "issuers"},
		"no name":              {`name = "acme"`, ``, "issuers[0].name"},
		"a name with a bar":    {`name = "acme"`, `name = "ac|me"`, "issuers[0].name"},
		"one name twice":       {`name = "other"`, `name = "acme"`, "issuers[1].name"},
		"one issuer twice":     {`"https://login.other.example"`, `"https://login.acme.example/"`, "issuers[1].name"},
		"http":                 {`"https://login.other.example"`, `"http://login.other.example"`, "issuers[1].issuer"},
		"a password":           {`"https://login.other.example"`, `"https://a:b@login.other.example"`, "issuers[1].issuer"},
		"a key set over http":  {`ca_file = "ca.pem"`, `jwks_url = "http://127.0.0.1/"`, "issuers[0].jwks_url"},
		"no audience":          {"audience = \"radio\"\nalgorithms", "algorithms", "issuers[0].audience"},
		"HS256":                {`["RS256"]`, `["HS256"]`, "issuers[0].algorithms"},
		"none":                 {`["RS256"]`, `["none"]`, "issuers[0].algorithms"},
		"no algorithm":         {`["RS256"]`, `[]`, "issuers[0].algorithms"},
		"a token type":         {`["JWT", "none"]`, `["jwt"]`, "issuers[0].token_types"},
		"a network":            {`"10.0.0.7"`, `"10.0.0.0/8"`, "issuers[0].allow_private"},
		"a host with a port":   {`"10.0.0.7"`, `"10.0.0.7:443"`, "issuers[0].allow_private"},
		"everybody":            {`"10.0.0.7"`, `"*"`, "issuers[0].allow_private"},
		"a template":           {`ca_file = "ca.pem"`, `station_template = "acme"`, "issuers[0].station_template"},
		"a life":               {`"1h"`, `"1s"`, "issuers[1].max_ttl"},
		"a hook over http":     {`"https://platform.example/consent"`, `"http://platform.example/"`, "webhook.url"},
		"a hook with password": {`"https://platform.example/consent"`, `"https://hook:s3cr3t@platform.example/"`, "webhook.url"},
		"a hook unsigned":      {`secret_file = "hook.secret"`, ``, "webhook.secret_file"},
	} {
		text := strings.Replace(twoIssuers, c.from, c.to, 1)
		if text == twoIssuers {
			t.Fatalf("%s changes nothing", what)
		}
		_, err := loadText(t, text)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, text := range []string{"issuers = 7\n", "issuers = [7]\n", "issuers = [[]]\n", "issuers = \"x\"\n"} {
		if _, err := loadText(t, text+"[keyring]\nidentity_file = \"id\"\n"); err == nil || !strings.Contains(err.Error(), "[[issuers]]") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
