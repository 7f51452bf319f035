package problem

// answer is what a code says to the caller.
type answer struct {
	status int
	retry  int // seconds; 0: no Retry-After
	detail string
	help   string
}

const (
	renew = "Get a new token or link."
	wait  = "Wait for the time in Retry-After and try again."
)

// lookUp is the one table from code to status and words. A code that is not in
// it gets the zero answer.
func lookUp(c Code) answer {
	switch c {
	case BadRequest:
		return answer{400, 0, "The request cannot be understood.", "Correct the request."}
	case Forbidden:
		return answer{403, 0, "The token does not allow this.", "Ask the operator for a token that does."}
	case ShareEnded:
		return answer{403, 0, "This link was ended.", "Ask whoever gave it to you for a new one."}
	case WrongPassword:
		return answer{403, 0, "That is not the password.", "Try again, or ask whoever gave you the link."}
	case notFound:
		return answer{404, 0, "There is nothing here for this token or link.", "Check the address, and that the token or link is meant for it."}
	case MethodNotAllowed:
		return answer{405, 0, "This cannot be done here.", "Use one of the methods in the Allow header."}
	case NotAcceptable:
		return answer{406, 0, "There is no answer in the form that was asked for.", "Ask for one of the documented forms."}
	case timeout:
		return answer{408, 0, "The request took too long to arrive.", "Send it again."}
	case exists:
		return answer{409, 0, "It exists already.", "Choose another name, or use what is there."}
	case gone:
		return answer{410, 0, "The segment was removed.", "It will not come back."}
	case NotOrigin:
		return answer{409, 0, "This is an edge, which does not do that.", "Ask the origin of the fleet."}
	case PreconditionFailed:
		return answer{412, 0, "A condition of the request does not hold.", "Read the current state and try again."}
	case tooLarge:
		return answer{413, 0, "The request is larger than this node accepts.", "Send less."}
	case URITooLong:
		return answer{414, 0, "The address is too long.", "Shorten it."}
	case UnsupportedMedia:
		return answer{415, 0, "The type of what was sent is not accepted here.", "Send one of the documented types."}
	case BadRange:
		return answer{416, 0, "No byte of the range that was asked for exists.", "Ask for a range inside the length that Content-Range tells."}
	case invalid:
		return answer{422, 0, "What was sent is not acceptable.", "Correct it and send it again."}
	case TooMany:
		return answer{429, 5, "Too many at once.", wait}
	case HeaderTooLarge:
		return answer{431, 0, "The headers of the request are too large or too many.", "Send fewer or shorter headers."}
	case takenDown:
		return answer{451, 0, "The segment was taken down.", "Ask the operator about it."}
	case internal:
		return answer{500, 0, "Something went wrong inside the node.", "Tell the operator the request id."}
	case unavailable:
		return answer{503, 5, "This cannot be had now.", wait}
	case Stale:
		return answer{503, 1, "This gateway cannot ask now what was revoked, so it lets nobody in.", wait}
	case noConsent:
		return answer{503, 5, "The platform that decides about this gives no answer now.", wait}
	case Busy:
		return answer{503, 5, "The node is serving as many as it can.", wait}
	case noSpace:
		return answer{507, 0, "The node has no room left, on its disk or under node.storage_max; nothing was kept.",
			"Remove segments and run `musen gc`, raise node.storage_max if there is one, or add space; then send it again."}
	}
	return credentialAnswer(c)
}

// credentialAnswer is the part of the table for refused credentials.
func credentialAnswer(c Code) answer {
	switch c {
	case CredentialMissing:
		return answer{401, 0, "This needs a token or a link.", "Send a token in the Authorization header, or use a link."}
	case Malformed:
		return answer{401, 0, "The token or link is not well formed, or there is more than one.", "Send one whole token or link."}
	case "credential_signature":
		return answer{401, 0, "The token or link was not signed for this node.", "Check that it was copied whole and is meant for this node."}
	case "credential_expired":
		return answer{401, 0, "The token or link has expired.", renew}
	case "credential_not_yet_valid":
		return answer{401, 0, "The token or link is not valid yet.", "Try later, and check the clock of whoever made it."}
	case "credential_revoked":
		return answer{401, 0, "The token or link was revoked.", renew}
	case "credential_issuer":
		return answer{401, 0, "The token or link comes from an issuer that is not trusted here.", renew}
	case suspended:
		return answer{403, 0, "Access for whoever this token or link was issued to is suspended.", "Ask the operator."}
	case "credential_audience":
		return answer{401, 0, "The token or link is meant for another node.", renew}
	case "credential_unverifiable":
		return answer{503, 10, "The keys of whoever issued the token cannot be had now.", wait}
	}
	return answer{}
}
