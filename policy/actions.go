package policy

import (
	"slices"
	"strings"
)

// An Action is what a request wants to do with a station or a segment of it, or
// with the node.
type Action string

// Coarse actions, which tokens name. Whoever may Manage or Audit may do what
// the finer ones below say.
const (
	Listen     Action = "listen"     // hear a segment
	Download   Action = "download"   // save a segment as a file
	ReleaseKey Action = "releaseKey" // have the data key, to decrypt elsewhere
	Add        Action = "add"        // seal and add audio
	Manage     Action = "manage"     // change everything there is
	Moderate   Action = "moderate"   // take segments down
	Audit      Action = "audit"      // read every record, verify every block
	Host       Action = "host"       // hold ciphertext
)

// Finer actions of the admin API.
const (
	ReadStations   Action = "readStations"   // see stations and their segments
	ReadStatus     Action = "readStatus"     // see how the node, its peers and its copies are
	ReadAccess     Action = "readAccess"     // see who may do what: credentials, roles, policies
	ManageStations Action = "manageStations" // create, change and remove stations
	ManageSegments Action = "manageSegments" // remove segments
	ManageShares   Action = "manageShares"   // make links and shares
	IssueTokens    Action = "issueTokens"    // make tokens
	Revoke         Action = "revoke"         // end credentials, restrict subjects
	ManagePeers    Action = "managePeers"    // invite and remove peers and services, move copies
	ManageNode     Action = "manageNode"     // collect garbage, rotate keys
	ManagePolicy   Action = "managePolicy"   // load policies again
	ManageRoles    Action = "manageRoles"    // give and take roles
	ReviewAccess   Action = "reviewAccess"   // sign reviews of who may do what
)

// Actions are all there are, the coarse ones first.
func Actions() []Action {
	return []Action{
		Listen, Download, ReleaseKey, Add, Manage, Moderate, Audit, Host,
		ReadStations, ReadStatus, ReadAccess, ManageStations, ManageSegments, ManageShares, IssueTokens,
		Revoke, ManagePeers, ManageNode, ManagePolicy, ManageRoles, ReviewAccess,
	}
}

// ForUse reports whether a is about hearing, carrying or adding audio. All other
// actions are for those who run the node.
func (a Action) ForUse() bool {
	return slices.Contains([]Action{Listen, Download, ReleaseKey, Add, Host}, a)
}

// opens reports whether a is done with the plaintext or the key of a segment.
func (a Action) opens() bool {
	return a == Listen || a == Download || a == ReleaseKey || a == Audit
}

// A named puts an action or a role in its place in a set.
type named interface{ ~string }

// indexOf is the place of v in list, or -1.
func indexOf[T named](list []T, v T) int { return slices.Index(list, v) }

// actionSet is a set of actions, one bit each in the order of Actions.
type actionSet uint32

func everyAction() actionSet { return 1<<len(Actions()) - 1 }

// newActionSet ignores words that are no action: they grant nothing.
func newActionSet(words []string) actionSet {
	var s actionSet
	for i, a := range Actions() {
		if slices.Contains(words, string(a)) {
			s |= 1 << i
		}
	}
	return s
}

func (s actionSet) has(a Action) bool {
	i := indexOf(Actions(), a)
	return i >= 0 && s&(1<<i) != 0
}

// words lists the set in the order of Actions.
func (s actionSet) words() []string {
	var w []string
	for i, a := range Actions() {
		if s&(1<<i) != 0 {
			w = append(w, string(a))
		}
	}
	return w
}

// scope spells the set as the scope claim of a token does.
func (s actionSet) scope() string { return strings.Join(s.words(), " ") }

// A Role is a bundle of permissions that an identity holds on a station or
// everywhere. What it permits stands in the policies.
type Role string

// The roles.
const (
	Operator  Role = "operator"  // runs the node
	Publisher Role = "publisher" // fills stations
	Moderator Role = "moderator" // takes segments down
	Security  Role = "security"  // ends credentials, gives and takes roles, reviews access
	Auditor   Role = "auditor"   // reads everything, changes nothing
	Support   Role = "support"   // sees stations and how the node is, hears nothing
	HostRole  Role = "host"      // holds ciphertext
)

// AllRoles are all there are.
func AllRoles() []Role {
	return []Role{Operator, Publisher, Moderator, Security, Auditor, Support, HostRole}
}

// A RoleSet is a set of roles. The zero value is empty.
type RoleSet uint8

// With is the set with r in it; a word that is no role changes nothing.
func (s RoleSet) With(r Role) RoleSet {
	if i := indexOf(AllRoles(), r); i >= 0 {
		s |= 1 << i
	}
	return s
}

// Has reports whether r is in the set.
func (s RoleSet) Has(r Role) bool {
	i := indexOf(AllRoles(), r)
	return i >= 0 && s&(1<<i) != 0
}

// Words lists the set in the order of AllRoles.
func (s RoleSet) Words() []string {
	var w []string
	for i, r := range AllRoles() {
		if s&(1<<i) != 0 {
			w = append(w, string(r))
		}
	}
	return w
}
