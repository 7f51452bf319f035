package audit

import (
	"fmt"
	"strings"
	"time"
)

// The rules of standings, in numbers; the package's documentation has them in
// words.
const (
	goodProved = 20        // proved answers that make a new peer good …
	goodAge    = time.Hour // … if the first is this old

	warnWrong  = 1  // wrong answers that warn
	warnFailed = 3  // missing or late answers that warn …
	warnWindow = 50 // … among so many last outcomes

	pauseWrong   = 2                  // wrong answers that pause …
	pauseFailed  = 10                 // percent of failures that pause …
	pauseLeast   = 30                 // … when so many outcomes are known …
	pauseWindow  = 100                // … among so many last outcomes
	pauseOffline = 7 * 24 * time.Hour // absence without excuse that pauses

	dropWrong  = 5                   // wrong answers that drop …
	dropMemory = 90 * 24 * time.Hour // … within this time
	dropPaused = 14 * 24 * time.Hour // time on pause that drops

	liftProved = 20                  // proved answers in a row that lift by a step
	lateApart  = 10 * time.Minute    // lates closer than this are one stall
	maxExcuse  = 30 * 24 * time.Hour // how far ahead an excuse reaches
)

// marks are outcomes in a history, a byte each.
const (
	markProved  = "p"
	markWrong   = "w"
	markMissing = "m"
	markLate    = "l"
)

// A Conduct is what is known of how a peer has done.
type Conduct struct {
	Standing Standing  `cbor:"1,keyasint"`
	Since    time.Time `cbor:"2,keyasint"`           // when it got that standing
	Reason   string    `cbor:"3,keyasint,omitempty"` // why, in words
	Proved   uint64    `cbor:"4,keyasint,omitempty"` // answers since it began, or was reinstated
	Failed   uint64    `cbor:"5,keyasint,omitempty"` // wrong, missing and late ones
	Last     time.Time `cbor:"6,keyasint,omitempty"` // the last outcome that was not offline
	Away     time.Time `cbor:"7,keyasint,omitempty"` // offline since; zero: it is not
	Excused  time.Time `cbor:"8,keyasint,omitempty"` // absent by leave until then

	First  time.Time   `cbor:"9,keyasint,omitempty"`  // the first proved answer
	Streak int         `cbor:"10,keyasint,omitempty"` // proved answers in a row
	Recent string      `cbor:"11,keyasint,omitempty"` // last outcomes, a letter each: p, w, m, l
	Stall  time.Time   `cbor:"12,keyasint,omitempty"` // the last late that counted
	Wrongs []time.Time `cbor:"13,keyasint,omitempty"` // the last wrong answers
}

// become gives c another standing.
func (c *Conduct) become(s Standing, at time.Time, reason string) {
	c.Standing, c.Since, c.Reason = s, at, reason
	c.Streak = 0
}

// observe takes one outcome. Whatever is not one of the five changes nothing.
func (c *Conduct) observe(o Outcome, at time.Time) {
	c.pass(at)
	switch o {
	case Proved:
		c.proved(at)
	case Wrong:
		c.Wrongs = append(c.Wrongs, at)
		if len(c.Wrongs) > dropWrong {
			c.Wrongs = c.Wrongs[len(c.Wrongs)-dropWrong:]
		}
		c.failed(markWrong, at)
	case Missing:
		c.failed(markMissing, at)
	case Late:
		if since := at.Sub(c.Stall); !c.Stall.IsZero() && since >= 0 && since < lateApart {
			c.Streak = 0
			c.here(at)
			return
		}
		c.Stall = at
		c.failed(markLate, at)
	case Offline:
		if c.Away.IsZero() {
			c.Away = at
		}
		c.pass(at)
	}
}

// here notes that the peer was reached.
func (c *Conduct) here(at time.Time) { c.Last, c.Away = at, time.Time{} }

func (c *Conduct) remember(mark string) {
	c.Recent += mark
	c.Recent = c.Recent[max(0, len(c.Recent)-pauseWindow):]
}

func (c *Conduct) proved(at time.Time) {
	c.here(at)
	c.remember(markProved)
	c.Proved++
	c.Streak++
	if c.First.IsZero() {
		c.First = at
	}
	switch {
	case c.Standing == New && c.Proved >= goodProved && at.Sub(c.First) >= goodAge:
		c.become(Good, at, fmt.Sprintf("proved %d answers", c.Proved))
	case c.Standing == Warned && c.Streak >= liftProved:
		c.become(Good, at, fmt.Sprintf("proved %d answers in a row", liftProved))
		c.Recent = ""
	case c.Standing == Paused && c.Streak >= liftProved:
		c.become(Warned, at, fmt.Sprintf("proved %d answers in a row", liftProved))
		c.Recent = ""
	}
}

func (c *Conduct) failed(mark string, at time.Time) {
	c.here(at)
	c.remember(mark)
	c.Failed++
	c.Streak = 0
	if c.Standing == Dropped {
		return
	}
	if n := len(c.Wrongs); n >= dropWrong && at.Sub(c.Wrongs[0]) <= dropMemory {
		c.become(Dropped, at, fmt.Sprintf("%d wrong answers within %d days", n, dropMemory/(24*time.Hour)))
		return
	}
	if c.Standing == Paused {
		return
	}
	if reason := c.toPause(mark); reason != "" {
		c.become(Paused, at, reason)
		return
	}
	if reason := c.toWarn(mark); c.Standing != Warned && reason != "" {
		c.become(Warned, at, reason)
	}
}

// toPause is why the outcomes up to the one with this mark pause a peer, or "".
func (c *Conduct) toPause(mark string) string {
	wrong := strings.Count(c.Recent, markWrong)
	if mark == markWrong && wrong >= pauseWrong {
		return fmt.Sprintf("%d wrong answers", wrong)
	}
	n := len(c.Recent)
	failed := n - strings.Count(c.Recent, markProved)
	if n >= pauseLeast && failed*100 >= pauseFailed*n {
		return fmt.Sprintf("failed %d of the last %d audits", failed, n)
	}
	return ""
}

// toWarn is why the outcomes up to the one with this mark warn a peer, or "".
func (c *Conduct) toWarn(mark string) string {
	if mark == markWrong {
		return "a wrong answer"
	}
	last := c.Recent[max(0, len(c.Recent)-warnWindow):]
	failed := strings.Count(last, markMissing) + strings.Count(last, markLate)
	if failed >= warnFailed {
		return fmt.Sprintf("%d missing or late answers of the last %d", failed, len(last))
	}
	return ""
}

// pass lets the time up to now have its effect.
func (c *Conduct) pass(now time.Time) {
	if !c.Away.IsZero() && now.Sub(later(c.Away, c.Excused)) > pauseOffline && c.Standing != Paused && c.Standing != Dropped {
		c.become(Paused, later(c.Away, c.Excused).Add(pauseOffline), fmt.Sprintf("offline for %d days", pauseOffline/(24*time.Hour)))
	}
	if c.Standing == Paused && now.Sub(later(c.Since, c.Excused)) >= dropPaused {
		c.become(Dropped, later(c.Since, c.Excused).Add(dropPaused), fmt.Sprintf("paused for %d days: %s", dropPaused/(24*time.Hour), c.Reason))
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
