package policy

// A CredentialError says why a credential was refused. It holds nothing of the
// credential itself and may be logged; strangers are told the Code at most.
type CredentialError struct {
	// Code is stable: credential_malformed, credential_signature,
	// credential_expired, credential_not_yet_valid, credential_revoked,
	// credential_issuer, credential_audience, credential_scope for a valid link
	// on another path or method, subject_suspended for a good credential of a
	// subject that is suspended or ended, or credential_unverifiable while the
	// keys of its issuer cannot be had.
	Code string
	why  string
}

// Error names the code and what was wrong.
func (e *CredentialError) Error() string { return "check credential: " + e.Code + ": " + e.why }

// Why says in words what was wrong, for the log and the operator; never shown to
// strangers.
func (e *CredentialError) Why() string { return e.why }

// CodeExpired is the Code of a credential whose time is over.
const CodeExpired = codeExpired

// The codes of a CredentialError.
const (
	codeMalformed   = "credential_malformed"
	codeSignature   = "credential_signature"
	codeExpired     = "credential_expired"
	codeNotYetValid = "credential_not_yet_valid"
	codeRevoked     = "credential_revoked"
	codeIssuer      = "credential_issuer"
	codeAudience    = "credential_audience"
	codeScope       = "credential_scope"
	codeNoKeys      = "credential_unverifiable"
	codeSuspended   = "subject_suspended"
)

func refuse(code, why string) error { return &CredentialError{Code: code, why: why} }
