package config

import (
	"regexp"
	"testing"
)

// P37: no setting holds a secret, so none is in an environment, a command line
// or what config show prints: whatever is a secret is named by its file, which
// must be private.
func TestNoSettingHoldsASecret(t *testing.T) {
	secret := regexp.MustCompile(`secret|pass(phrase|word)|credential|pepper|token|dsn|postgres|(^|[._])(key|identity)s?($|_file)`)
	harmless := regexp.MustCompile(`^(policy\.max_token_ttl|share\.passwords_at_once|issuers\[\d+\]\.(token_types|id_tokens)|limits\..*)$`)
	c := Default()
	c.Issuers = []Issuer{DefaultIssuer()}
	files := 0
	for _, s := range c.settings() {
		switch {
		case s.file == "secret":
			files++
		case secret.MatchString(s.key) && !harmless.MatchString(s.key):
			t.Errorf("%s is not the file of a secret", s.key)
		}
	}
	if files < 5 {
		t.Errorf("%d files of secrets are known", files)
	}
}
