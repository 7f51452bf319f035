// Package access holds the JSON shapes of the admin API that are about who may
// do what, shared by its server and its client.
//
// It does not know HTTP, nor what any of the fields is allowed to be: the
// server checks.
package access

import (
	"strings"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy/folder"
)

// PolicyState tells which policies are in force.
type PolicyState struct {
	Files  []string   `json:"files"`
	Digest string     `json:"digest"` // SHA-256 of them all
	Loaded time.Time  `json:"loaded"`
	Fault  string     `json:"fault,omitempty"` // why what lies in the home now is not in force
	Failed *time.Time `json:"failed,omitempty"`

	LostFiles   []string `json:"lost_files,omitempty"`   // that were in force before
	LostForbids []string `json:"lost_forbids,omitempty"` // ids of policies that forbade before
}

// FromPolicyState is st as it is sent.
func FromPolicyState(st folder.State) PolicyState {
	return PolicyState{
		Files: append([]string{}, st.Files...), Digest: st.Digest, Loaded: st.Loaded.UTC(),
		Fault: st.Fault, Failed: moment(st.Failed), LostFiles: st.LostFiles, LostForbids: st.LostForbids,
	}
}

// Lost says what was in force and is gone; nothing if nothing is.
func (s PolicyState) Lost() string {
	var what []string
	if len(s.LostFiles) > 0 {
		what = append(what, "the files "+strings.Join(s.LostFiles, ", "))
	}
	if len(s.LostForbids) > 0 {
		what = append(what, "the policies that forbid "+strings.Join(s.LostForbids, ", "))
	}
	return strings.Join(what, ", and ")
}

// moment is t, or nil for the zero time.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// Role says that a subject holds a role. In a request only what it asks for is
// set.
type Role struct {
	Subject string     `json:"subject"`
	Role    string     `json:"role"`
	Station string     `json:"station,omitempty"` // name, or id in a request; none: everywhere
	Until   *time.Time `json:"until,omitempty"`
	Granted *time.Time `json:"granted,omitempty"`
	Actor   string     `json:"by,omitempty"`
}

// Roles are who holds which role where.
type Roles struct {
	Roles []Role `json:"roles"`
}

// FromAssignment is a as it is sent; its station has that name.
func FromAssignment(a musen.Assignment, station string) Role {
	return Role{
		Subject: a.Subject, Role: string(a.Role), Station: station,
		Until: moment(a.Until), Granted: moment(a.Granted), Actor: a.Actor,
	}
}

// Approval is a request that needs a second person, and what became of it.
type Approval struct {
	ID      string     `json:"id"`
	Request string     `json:"request"` // method and target
	Summary string     `json:"summary"` // all that it would do, in words
	Subject string     `json:"by"`
	Created time.Time  `json:"created"`
	Expires time.Time  `json:"expires"`
	State   string     `json:"state"` // pending, approved, denied, used, expired
	Decider string     `json:"decided_by,omitempty"`
	Decided *time.Time `json:"decided,omitempty"`
}

// Approvals are requests that need a second person.
type Approvals struct {
	Approvals []Approval `json:"approvals"`
}

// FromApproval is a as it is sent at a time.
func FromApproval(a musen.Approval, now time.Time) Approval {
	state := a.State.String()
	if (a.State == musen.Pending || a.State == musen.Approved) && !now.Before(a.Expires) {
		state = "expired"
	}
	return Approval{
		ID: a.ID, Request: a.Request, Summary: a.Summary, Subject: a.Subject, Created: a.Created.UTC(), Expires: a.Expires.UTC(),
		State: state, Decider: a.Decider, Decided: moment(a.Decided),
	}
}

// Holding is something that opens something, and who has it.
type Holding struct {
	Kind     string     `json:"kind"` // token, role, share, peer, invite, service
	ID       string     `json:"id,omitempty"`
	Holder   string     `json:"holder"`
	May      string     `json:"may"`
	Where    string     `json:"where"`
	Since    *time.Time `json:"since,omitempty"`
	Until    *time.Time `json:"until,omitempty"`
	Used     *time.Time `json:"used,omitempty"` // to the hour
	Findings []string   `json:"findings,omitempty"`
}

// Report is who holds what.
type Report struct {
	Holdings []Holding `json:"holdings"`
	Digest   string    `json:"digest"` // of what is held, whenever it was used
	Last     *Review   `json:"last,omitempty"`
}

// SignOff is the wish to sign a report.
type SignOff struct {
	Reviewer string `json:"reviewer"`
	Digest   string `json:"digest"`
}

// Review is a report that was signed.
type Review struct {
	ID        string    `json:"id"`
	Made      time.Time `json:"made"`
	Reviewer  string    `json:"reviewer"`
	Actor     string    `json:"by"`
	Digest    string    `json:"digest"`
	Signature string    `json:"signature"`
	Of        string    `json:"of,omitempty"`   // name of the audit log; empty: of who may do what
	Size      uint64    `json:"size,omitempty"` // the last record that was reviewed
}

// FromReview is v as it is sent, and signed.
func FromReview(v musen.Review) Review {
	of := v.Of
	if of == musen.ReviewOfAccess {
		of = ""
	}
	return Review{Of: of, Size: v.Size, ID: v.ID, Made: v.Made.UTC(), Reviewer: v.Reviewer, Actor: v.Actor, Digest: v.Digest, Signature: v.Signature}
}
