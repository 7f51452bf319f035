package keep

import "time"

// goneReason says what is still to be done about a removed segment.
func (k *Keeper) goneReason(s *segment) string {
	if p := k.problems[s]; p != "" {
		return "removed: " + p
	}
	var silent, away, never []string
	for i := range s.slots {
		switch x := &s.slots[i]; {
		case x.stage != purging:
		case !x.h.enrolled:
			never = append(never, label(x.h))
		default:
			name := label(x.h)
			if !x.h.up() {
				away = append(away, name)
			}
			if x.reason != "" {
				name += " (" + x.reason + ")"
			}
			silent = append(silent, name)
		}
	}
	if k.o.Services != nil {
		for _, c := range k.o.Services.Copies(s.root) {
			silent = append(silent, c.Service)
		}
	}
	reason := "removed"
	switch {
	case len(silent) > 0:
		reason += "; no receipt yet from " + some(silent)
	case s.repin && k.o.Pinset != nil:
		reason += ", and about to be unpinned"
	}
	switch len(away) {
	case 0:
	case 1:
		reason += "; tried again when " + away[0] + " is back"
	default:
		reason += "; tried again when " + some(away) + " are back"
	}
	if len(never) > 0 {
		reason += "; never confirmed by " + some(never)
	}
	return reason
}

// goneNext is when something is next tried to be rid of a removed segment. It
// is zero if that waits for peers that are away: they are told when they are
// back.
func (k *Keeper) goneNext(s *segment, now int64) time.Time {
	next := int64(0)
	if s.at > 0 && (k.problems[s] != "" || s.repin && k.o.Pinset != nil || k.o.Services != nil && len(k.o.Services.Copies(s.root)) > 0) {
		next = s.at
	}
	for i := range s.slots {
		if x := &s.slots[i]; x.stage == purging && x.h.enrolled && x.h.up() {
			next = sooner(next, max(x.since+k.purgeAgain(x.tries), now))
		}
	}
	return at(next)
}
