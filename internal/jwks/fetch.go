package jwks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/musenai/musen/internal/outbound"
)

// get reads a document whole, within the bounds of the client.
func (s *Source) get(ctx context.Context, from string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, errors.New("its URL cannot be used")
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	r.Header.Set("User-Agent", "musen")
	resp, err := s.o.Client.Do(r)
	if err != nil {
		return nil, plain(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the issuer answered %d", resp.StatusCode)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, plain(err)
	}
	return body, nil
}

// plain is an error without the URL that net/http puts around it.
func plain(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// discover finds the URL of the key set in the issuer's own description, which
// must be of this issuer to the letter.
func (s *Source) discover(ctx context.Context) (string, error) {
	body, err := s.get(ctx, strings.TrimSuffix(s.o.Issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return "", err
	}
	var d struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(body, &d); err != nil {
		return "", errors.New("the description is not JSON")
	}
	if d.Issuer != s.o.Issuer {
		return "", fmt.Errorf("the description is of the issuer %.100q", d.Issuer)
	}
	if err := outbound.CheckURL(d.JWKS, false); err != nil {
		return "", fmt.Errorf("jwks_uri: %w", err)
	}
	return d.JWKS, nil
}
