package gateway

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/gateway/problem"
	"github.com/musenai/musen/policy"
)

// linkHeader is the name of the header and of the cookie that carry a link.
const linkHeader = "CTA-Common-Access-Token"

// linkQuery is the name of the query parameter that carries a link.
const linkQuery = "CAT"

// A credential is what a request came with, not yet verified.
type credential struct {
	raw       string
	isToken   bool
	isSession bool
	inQuery   bool   // the URL by itself is the permit
	session   string // that came with a link
}

// findCredential takes the one credential of a request: a bearer token, or a
// link in the query, in a header or in a cookie. A request with none is
// problem.CredentialMissing; one with several, with a query that cannot be read
// for sure, or with a link that is spelled in escapes or quotes, is
// problem.Malformed: what looks for a link to keep it out of logs and caches
// finds it where the gateway does.
//
// The session of a share is a cookie that a browser sends with everything, so it
// is the credential only of a request that has no other.
func findCredential(r *http.Request) (credential, url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return credential{}, nil, problem.Malformed
	}
	var found []credential
	for _, v := range r.Header["Authorization"] {
		found = append(found, credential{raw: bearer(v), isToken: true})
	}
	for _, v := range query[linkQuery] {
		if !plainly(r.URL.RawQuery, v) {
			return credential{}, query, problem.Malformed
		}
		found = append(found, credential{raw: v, inQuery: true})
	}
	for _, v := range r.Header[http.CanonicalHeaderKey(linkHeader)] {
		found = append(found, credential{raw: v})
	}
	for _, c := range r.CookiesNamed(linkHeader) {
		if c.Quoted {
			return credential{}, query, problem.Malformed
		}
		found = append(found, credential{raw: c.Value})
	}
	session, err := sessionOf(r)
	switch {
	case err != nil:
		return credential{}, query, err
	case len(found) == 0 && session != "":
		return credential{raw: session, isSession: true}, query, nil
	case len(found) == 0:
		return credential{}, query, problem.CredentialMissing
	case len(found) > 1 || found[0].raw == "":
		return credential{}, query, problem.Malformed
	}
	found[0].session = session
	return found[0], query, nil
}

// plainly reports whether a query has the link in it letter for letter.
func plainly(query, link string) bool {
	for p := range strings.SplitSeq(query, "&") {
		if v, ok := strings.CutPrefix(p, linkQuery+"="); ok && v == link {
			return true
		}
	}
	return false
}

// bearer takes the token out of an Authorization value, or returns "".
func bearer(v string) string {
	scheme, token, ok := strings.Cut(v, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.Trim(token, " ")
}

// verify turns a credential into a grant. A link is checked against the
// canonical path of the CID, whichever way the request spelled it; one that
// names another path is refused in the same way whether c is defined, known or
// neither. A player that goes on asking with a link that has expired meanwhile
// is in its browser's session: a segment that plays, or was paused, goes on.
func (s *Server) verify(cr credential, method string, c cid.Cid, spelled string) (policy.Grant, error) {
	switch {
	case cr.isToken:
		return s.o.Verifier.Token(cr.raw)
	case cr.isSession:
		return s.o.Verifier.Session(cr.raw)
	case !c.Defined():
		return s.o.Verifier.Link(cr.raw, method, "/listen/")
	}
	g, err := s.o.Verifier.Link(cr.raw, method, "/listen/"+spelled)
	var refused *policy.CredentialError
	if errors.As(err, &refused) && refused.Code == "credential_scope" { // the segment's own CID may have the other codec
		g, err = s.o.Verifier.Link(cr.raw, method, "/listen/"+alias(c))
	}
	if cr.session != "" && isExpired(err) {
		if of, sessionErr := s.o.Verifier.Session(cr.session); sessionErr == nil {
			return of, nil
		}
	}
	return g, err
}

func isExpired(err error) bool {
	refused, ok := errors.AsType[*policy.CredentialError](err)
	return ok && refused.Code == policy.CodeExpired
}
