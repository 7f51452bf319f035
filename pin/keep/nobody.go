package keep

import (
	"fmt"
	"strings"

	"github.com/musenai/musen/pin/member"
)

// absentees is who could take one more copy of a segment but for something.
type absentees struct {
	storages, replicas int      // that are there
	full               int      // of those
	having             int      // that are there and have it
	silent             []string // away, or have not said what room they have
	parting            int
	others             int // replicas that carry other stations
}

// nobody says who is missing, and whether room is. Who is to have the segment is
// told of elsewhere, and so is who has it, unless that is all there are.
func (k *Keeper) nobody(s *segment, now int64) string {
	var a absentees
	for _, h := range k.storages {
		k.absent(&a, s, h, now)
	}
	for _, h := range k.replicas {
		switch {
		case h.role != member.Replica || s.community == 0:
		case h.contract.Carries(s.label):
			k.absent(&a, s, h, now)
		default:
			a.others++
		}
	}
	return a.String()
}

// absent notes why a peer takes no copy.
func (k *Keeper) absent(a *absentees, s *segment, h *holder, now int64) {
	x := s.slotOf(h)
	switch {
	case x != nil && x.active() || h.shunned():
		if x != nil && x.has() && h.up() && !h.shunned() {
			a.having++
		}
		return
	case h.parting():
		if h.up() {
			a.parting++
		}
		return
	case !h.able || h.unheard():
		a.silent = append(a.silent, label(h)+" is not heard from "+h.silence(now))
		return
	case h.failures.barred > now:
		a.silent = append(a.silent, label(h)+" lost copies again and again, and gets nothing new until "+at(h.failures.barred).Format(stamp))
		return
	case !h.room(s.size):
		a.full++
	}
	if h.role.Trusted() {
		a.storages++
	} else {
		a.replicas++
	}
}

// String is a reason.
func (a absentees) String() string {
	only := a.parting > 0 && a.storages+a.replicas == 0
	text := "nobody else can take it: "
	switch {
	case a.storages+a.replicas > 0 || a.having == 0:
		text += fmt.Sprintf("%d storage peers and %d replicas for this station are there", a.storages, a.replicas)
	case a.having == 1:
		text += "the one peer that is there has it already"
	default:
		text += fmt.Sprintf("all %d peers that are there have it already", a.having)
	}
	if a.full > 0 {
		text += fmt.Sprintf(", and %d of them have no room", a.full)
	}
	if only {
		text = "nobody else can take it: the only peers there are being drained, or leave"
	}
	parts := []string{text}
	if len(a.silent) > 0 {
		parts = append(parts, some(a.silent))
	}
	if a.parting > 0 && !only {
		parts = append(parts, fmt.Sprintf("%d more are being drained, or leave", a.parting))
	}
	if a.others > 0 {
		parts = append(parts, fmt.Sprintf("%d do not offer this station", a.others))
	}
	return strings.Join(parts, "; ")
}
