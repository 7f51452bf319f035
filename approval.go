package musen

import (
	"errors"
	"time"

	"github.com/musenai/musen/policy"
)

// ErrDecided says that an approval was decided, used or has expired before.
var ErrDecided = errors.New("not open any more")

// An Approval is a request that waits for a second person, and what became of
// it.
type Approval struct {
	ID      string
	Request string // method and target, for people
	Summary string // all that it would do, in words for people, stations by their ids
	Route   string // method and pattern, as the table of routes has it
	Station string // Station.ID that it is about; empty: the node
	Digest  []byte // of Request, Station and Summary: it is good for that alone
	Subject string // who asks
	Created time.Time
	Expires time.Time
	State   ApprovalState
	Decider string
	Decided time.Time // zero: not yet
	// By is who decided, with the roles that it took, after those who issued the
	// token that this was done with, and Token the jti of that. While one of them
	// is not worth what it was, neither is the approval.
	By    []policy.Granter
	Token string
}

// ApprovalState is what became of an Approval.
type ApprovalState uint8

// The states of an Approval.
const (
	Pending ApprovalState = iota
	Approved
	Denied
	Used // approved, and done
)

// String is the state in a word.
func (s ApprovalState) String() string {
	return [...]string{"pending", "approved", "denied", "used"}[min(s, Used)]
}
