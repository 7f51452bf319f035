package musen

import (
	"time"

	"github.com/musenai/musen/policy"
)

// An Assignment says that a subject holds a role.
type Assignment struct {
	Subject string // one identity, as credentials spell it
	Role    policy.Role
	Station string    // Station.ID; empty: everywhere
	Until   time.Time // zero: until it is taken away
	Granted time.Time
	Actor   string // who gave it
}
