package admin

import (
	"context"
	"net/http"
	"testing"

	"github.com/musenai/musen/gateway/admin/wire"
)

// P75: keys are listed, rotated, and revoked once they sign no more.
func TestKeys(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	keys, err := w.local.Keys(ctx)
	must(t, err)
	if len(keys.Keys) != 4 || keys.Keys[0].State != wire.KeySigns || len(keys.Issuers) != 1 || keys.Issuers[0].Error == "" {
		t.Errorf("keys %+v", keys)
	}
	for _, kind := range []string{wire.KeyOfTokens, wire.KeyOfLinks} {
		if r, err := w.local.RotateKey(ctx, kind); err != nil || r.ID != kind+"-2" {
			t.Errorf("rotate %s: %+v, %v", kind, r, err)
		}
	}
	for r, known := range map[wire.Revocation]bool{
		{Key: "k0"}:                                        true,
		{Key: "unknown"}:                                   false,
		{Key: "acme|a1"}:                                   true,
		{Key: "a1", Issuer: "acme"}:                        true,
		{ID: "t-1", Issuer: "acme"}:                        true,
		{Subject: "auth0|7", Issuer: "acme"}:               true,
		{ID: "t-2", Issuer: "https://login.acme.example/"}: true,
	} {
		done, err := w.local.Revoke(ctx, r)
		if must(t, err); done.Known != known {
			t.Errorf("revoke %+v: known %v", r, done.Known)
		}
	}
	if !w.KeyRevoked("k0") || !w.KeyRevoked("acme|a1") || w.KeyRevoked("a1") ||
		!w.Revoked("acme|t-1", "", w.now()) || !w.Revoked("acme|t-2", "", w.now()) || !w.Revoked("", "acme|auth0|7", w.now()) || w.Revoked("t-1", "", w.now()) {
		t.Error("something else was revoked")
	}
	for body, want := range map[string]struct {
		status int
		code   string
	}{
		`{"key":"k1"}`:                           {http.StatusConflict, "key_in_use"},
		`{"key":"l1"}`:                           {http.StatusConflict, "key_in_use"},
		`{"key":"k0","jti":"x"}`:                 {http.StatusUnprocessableEntity, "invalid"},
		`{"issuer":"acme"}`:                      {http.StatusUnprocessableEntity, "invalid"},
		`{"key":"a1","issuer":"https://other/"}`: {http.StatusNotFound, "unknown_issuer"},
	} {
		status, p := w.do(newRequest(t, "POST", "http://socket/api/v1/tokens/revoke", body))
		if status != want.status || p.Code != want.code {
			t.Errorf("%s: %+v", body, p)
		}
	}
	if status, p := w.do(newRequest(t, "POST", "http://socket/api/v1/keys/rotate", `{"kind":"root"}`)); status < 400 {
		t.Errorf("rotate the root key: %+v", p)
	}
	if w.KeyRevoked("k1") {
		t.Error("the key that signs is revoked")
	}
}

// Keys are those of a node that signs with k1 and l1, and of one other issuer.
func (m *memory) Keys() wire.Keys {
	k := wire.Keys{Issuers: []wire.Issuer{{Name: "acme", URL: "https://login.acme.example/", Keys: 1, Error: "no answer"}}}
	for _, key := range []wire.Key{
		{ID: "k1", Kind: wire.KeyOfTokens, State: wire.KeySigns}, {ID: "l1", Kind: wire.KeyOfLinks, State: wire.KeySigns},
		{ID: "k0", Kind: wire.KeyOfTokens, State: wire.KeyVerifies, Until: m.now().UTC()},
		{ID: "acme|a1", Kind: wire.KeyOfIssuer, State: wire.KeyVerifies, Issuer: "acme"},
	} {
		if m.KeyRevoked(key.ID) {
			key.State = wire.KeyRevoked
		}
		k.Keys = append(k.Keys, key)
	}
	return k
}

func (m *memory) Rotate(_ context.Context, kind string) (string, error) { return kind + "-2", nil }

func (m *memory) IssuerName(nameOrURL string) (string, bool) {
	return "acme", nameOrURL == "acme" || nameOrURL == "https://login.acme.example/"
}

func (m *memory) RevokeKey(ctx context.Context, key string) (bool, error) {
	return key == "k0" || key == "acme|a1", m.RevokeToken(ctx, "key "+key)
}

func (m *memory) KeyRevoked(key string) bool {
	defer m.lock()()
	_, ok := m.revoked["key "+key]
	return ok
}
