package audit

import "slices"

// An Event is a kind of thing that is recorded. Names are stable: a program
// that reads the log may rely on them.
type Event struct {
	Name string
	What string // in words
	// Relief tells that the act frees space or takes access away: it is recorded
	// also when the disk is nearly full.
	Relief bool
}

// Events is the catalogue of all that is recorded, and the only place that a
// new event has to be entered in besides docs/design/audit.md.
func Events() []Event {
	return []Event{
		{"log.opened", "the log was begun", true},
		{"log.torn", "a write that was cut short by a crash was found at the end of the log, and cut off", true},
		{"log.broken", "the last file of the log was found damaged or changed; it was left, and another begun", true},
		{"log.replaced", "the log lacks records that the catalogue knows it had: it was cut or put back", true},
		{"log.verified", "the node verified the whole log", true},
		{"audit.read", "somebody read the log", true},
		{"audit.reviewed", "somebody signed that they read the digest of the log", true},

		{"node.started", "the node started", true},
		{"node.stopped", "the node stopped in good order", true},
		{"config.loaded", "the node started with this configuration", true},
		{"denylist.read", "a denylist was read, at the start or because it changed", true},
		{"policy.loaded", "policies were loaded, or refused", true},
		{"alarm.raised", "something looked like abuse", true},
		{"subject.suspended", "a rule suspended a subject or ended a session", true},
		{"factor.used", "a second factor stood in for a second person", true},
		{"approval.used", "the approval of a second person was used", true},
		{"admin.refused", "calls of the admin API were refused", true},

		{"gc.run", "garbage was collected", true},
		{"station.created", "a station was made", false},
		{"station.changed", "a station was changed", false},
		{"station.removed", "a station was removed, with all that is in it", true},
		{"segment.added", "a segment was added", false},
		{"segment.removed", "a segment was removed, and its key destroyed", true},
		{"takedown.made", "a segment was taken down", true},
		{"takedown.lifted", "a takedown was lifted", false},
		{"segment.verified", "segments were read back, and mended if asked for", false},
		{"link.made", "a link was made", false},
		{"share.created", "a share was made", false},
		{"share.revoked", "a share was ended", true},
		{"share.password", "the password of a share was set", true},
		{"share.regenerated", "a share was ended and another made in its place", true},
		{"token.issued", "a token was issued", false},
		{"credential.revoked", "tokens, links, or all of a subject or key were revoked", true},
		{"key.rotated", "a key of credentials was rotated", true},
		{"subject.set", "the state of a subject was set", true},
		{"role.granted", "a role was given", false},
		{"role.revoked", "a role was taken", true},
		{"access.read", "somebody read who has tokens, roles or shares, or the states of subjects", true},
		{"access.reviewed", "somebody signed that they reviewed who may do what", false},
		{"approval.given", "a second person approved", false},
		{"approval.denied", "a second person denied", true},
		{"policy.reload", "policies were to be loaded again", true},
		{"report.taken", "somebody looks at a report", false},
		{"report.closed", "somebody decided about a report", false},
		{"peer.admitted", "a peer was admitted", false},
		{"peer.removed", "a peer was removed", true},
		{"peer.drained", "a peer was to give up what it holds", false},
		{"peer.reinstated", "a peer was to take copies again", false},
		{"invite.made", "an invite was made", false},
		{"invite.withdrawn", "an invite was withdrawn", true},
		{"pins.recovered", "copies were tried again", false},
		{"pins.rebalanced", "copies were moved", false},
		{"service.added", "a pinning service was added", false},
		{"service.removed", "a pinning service was removed", true},
	}
}

// find is the event of that name.
func find(name string) (Event, bool) {
	all := Events()
	i := slices.IndexFunc(all, func(e Event) bool { return e.Name == name })
	if i < 0 {
		return Event{}, false
	}
	return all[i], true
}
