package policy

import (
	"encoding/hex"
	"errors"
	"math"
	"slices"

	"github.com/musenai/musen/policy/cat"
)

// parseLink verifies everything of a link that does not change with time or
// from request to request.
func (v *Verifier) parseLink(raw string) (*credential, error) {
	claims, err := v.links.Load().Verify(raw)
	if err != nil {
		return nil, linkError(err)
	}
	if claims.Issuer != v.o.Issuer {
		return nil, refuse(codeIssuer, "another issuer")
	}
	if len(claims.Audience) > 0 && !slices.Contains(claims.Audience, v.o.Audience) {
		return nil, refuse(codeAudience, "another audience")
	}
	// One link has one spelling: the CWT tag, which the MAC does not cover,
	// must be there. A link is bound to a station, a path and methods.
	if !claims.Tagged || claims.Station == nil || claims.Station.Epoch > math.MaxInt64 || len(claims.ID) == 0 || claims.Issued.IsZero() ||
		len(claims.Paths) == 0 || len(claims.Methods) == 0 || !parentFits(claims) {
		return nil, refuse(codeMalformed, "not a link: tag, station, cti, iat, catu or catm missing, or the parent is not right")
	}
	c := linkCredential(claims)
	if claims.By != nil {
		var ok bool
		if c.by, ok = openGranters(v.o.Cipher, claims.By, kindLink, c.id); !ok {
			return nil, refuse(codeMalformed, "whom it ends with cannot be read")
		}
	}
	return c, checkTTL(c, v.o.MaxLinkTTL)
}

// parentFits reports whether claims tell what they must of where a link comes
// from: one for a share names the session that it was minted with.
func parentFits(claims cat.Claims) bool {
	p := claims.Parent
	if isShare(claims.Subject) {
		return p != nil && p.ID != ""
	}
	return p == nil || p.ID != "" && p.Generation == 0
}

func linkCredential(claims cat.Claims) *credential {
	actions := []string{string(Listen)}
	if claims.Station.Download {
		actions = append(actions, string(Download))
	}
	c := &credential{
		kind: kindLink, id: hex.EncodeToString(claims.ID), subject: claims.Subject,
		issued: claims.Issued, notBefore: claims.NotBefore, expires: claims.Expires,
		stations: []string{claims.Station.ID}, actions: newActionSet(actions),
		epoch: claims.Station.Epoch, link: claims, key: PublicKey{ID: claims.KeyID},
	}
	if p := claims.Parent; p != nil {
		c.parent, c.generation = p.ID, p.Generation
	}
	return c
}

// linkError gives an error of the codec its code.
func linkError(err error) error {
	switch {
	case errors.Is(err, cat.ErrMAC):
		return refuse(codeSignature, "tag does not verify")
	case errors.Is(err, cat.ErrExpired):
		return refuse(codeExpired, "expired")
	case errors.Is(err, cat.ErrNotYetValid):
		return refuse(codeNotYetValid, "not yet valid")
	case errors.Is(err, cat.ErrScope):
		return refuse(codeScope, "link is for another path or method")
	}
	return refuse(codeMalformed, "not a link that is understood")
}
