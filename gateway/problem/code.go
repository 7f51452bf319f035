package problem

import (
	"context"
	"errors"
	"net/http"
	"os"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
)

// A Code is the stable name of a kind of problem. It is an error, so that a
// handler can answer with it as it is: problem.Write(w, r, problem.BadRequest).
type Code string

// The problems that no error of another package stands for.
const (
	BadRequest         Code = "bad_request"
	CredentialMissing  Code = "credential_missing"
	Malformed          Code = "credential_malformed" // or more than one
	Forbidden          Code = "forbidden"
	MethodNotAllowed   Code = "method_not_allowed" // set Allow first
	NotAcceptable      Code = "not_acceptable"
	PreconditionFailed Code = "precondition_failed"
	URITooLong         Code = "uri_too_long"
	UnsupportedMedia   Code = "unsupported_media_type"
	BadRange           Code = "range_not_satisfiable" // set Content-Range first
	TooMany            Code = "too_many_requests"
	HeaderTooLarge     Code = "header_too_large"
	Busy               Code = "busy"
	NotOrigin          Code = "not_origin"
	Stale              Code = "revocations_unknown" // also what policy.ErrStale becomes
	ShareEnded         Code = "share_ended"
	WrongPassword      Code = "wrong_password"
)

// The problems that an error of another package becomes.
const (
	notFound    Code = "not_found"
	gone        Code = "gone"
	takenDown   Code = "taken_down"
	exists      Code = "exists"
	tooLarge    Code = "too_large"
	invalid     Code = "invalid"
	noSpace     Code = "no_space"
	unavailable Code = "unavailable"
	noConsent   Code = "consent_unavailable"
	timeout     Code = "request_timeout"
	internal    Code = "internal"
	suspended   Code = "subject_suspended"
)

// Error returns the code.
func (c Code) Error() string { return string(c) }

// codeOf finds the code of err; the first cause that matches decides. A valid
// credential that is out of its scope is answered like an address that does
// not exist.
func codeOf(err error) Code {
	if c, ok := errors.AsType[Code](err); ok {
		return c
	}
	if ce, ok := errors.AsType[*policy.CredentialError](err); ok {
		return credentialCode(Code(ce.Code))
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge
	}
	for _, c := range [...]struct {
		cause error
		code  Code
	}{
		{policy.ErrStale, Stale},
		{musen.ErrTakenDown, takenDown},
		{musen.ErrGone, gone},
		{musen.ErrNoSpace, noSpace},
		{musen.ErrConsent, noConsent},
		{musen.ErrUnavailable, unavailable},
		{musen.ErrNotFound, notFound},
		{musen.ErrExists, exists},
		{musen.ErrTooLarge, tooLarge},
		{musen.ErrInvalid, invalid},
		{os.ErrDeadlineExceeded, timeout}, // of reading the request
		{context.DeadlineExceeded, unavailable},
		{context.Canceled, unavailable},
	} {
		if errors.Is(err, c.cause) {
			return c.code
		}
	}
	return internal
}

func credentialCode(c Code) Code {
	switch c {
	case "credential_scope":
		return notFound
	case "credential_unverifiable":
		return c
	}
	if c != suspended && lookUp(c).status != http.StatusUnauthorized {
		return Malformed
	}
	return c
}

// detailed is an error whose words may be shown.
type detailed struct {
	error
	detail string
}

func (d detailed) Unwrap() error { return d.error }

// WithDetail returns err with words for the caller instead of those of the
// table. They are shown as they are: whoever calls this vouches that they hold
// no token, path on disk, address or key, and quotes what outsiders sent.
func WithDetail(err error, detail string) error { return detailed{err, detail} }

func detailOf(err error) string {
	d, _ := errors.AsType[detailed](err)
	return d.detail
}

// helped is an error with words for what the caller can do.
type helped struct {
	error
	help string
}

func (h helped) Unwrap() error { return h.error }

// WithHelp returns err with other words for what the caller can do about it,
// for which the same holds as for those of WithDetail.
func WithHelp(err error, help string) error { return helped{err, help} }

func helpOf(err error) string {
	h, _ := errors.AsType[helped](err)
	return h.help
}
