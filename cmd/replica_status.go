package cmd

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/musenai/musen/internal/host/local"
	"github.com/musenai/musen/pin/contract"
)

func (a *app) printHost(s local.Status) {
	fields := [][2]string{
		{"peer ID", s.PeerID}, {"is", s.Role + " " + s.Name}, {"site", s.Site}, {"realm", s.Realm},
		{"serves", servesText(s)}, {"http", s.HTTP},
	}
	for _, o := range s.Origins {
		fields = append(fields, [2]string{"line", lineText(o)})
	}
	if s.Removed != nil {
		fields = append(fields, [2]string{"removed", when(*s.Removed) + ": the origin ended the membership of this host, and takes no other by this identity; stop the node, and delete the home or join anew with another invite"})
	}
	fields = append(fields, [2]string{"standing", standingText(s.Standing)}, [2]string{"last audit", auditText(s)})
	disk := size(s.Used) + " taken, " + size(max(0, s.Free)) + " free"
	if s.Free < 0 {
		disk = fmt.Sprintf("%s taken, %s more than is offered: the origin was asked to move it", size(s.Used), size(-s.Free))
	}
	fields = append(fields, [][2]string{
		{"held", several(s.Held, "segment")}, {"damaged", damagedText(s)}, {"disk", disk}, {"served", size(s.Served)},
		{"waiting", waitingText(s)}, {"last check", scrubText(s)},
		{"leaving", yes(s.Leaving)}, {"draining", drainingText(s)}, {"appeal", s.Appeal},
	}...)
	for _, l := range s.Denylists {
		if w := l.Warning(); w != "" {
			fields = append(fields, [2]string{"warning", w})
		}
	}
	a.printFields(append(fields, contractFields(s.Contract)...)...)
}

// lineText says how the line to an origin is, and since when.
func lineText(l local.Line) string {
	switch {
	case l.Up:
		return "up since " + when(l.Since) + ", to " + l.Peer
	case l.Since.IsZero():
		return "never up since the start, to " + l.Peer + whyDown(l)
	}
	return "down since " + when(l.Since) + ", to " + l.Peer + whyDown(l)
}

// whyDown is the beginning of the reason that a line is down: a dial that fails
// has one for each address.
func whyDown(l local.Line) string {
	const enough, dials = 160, "all dials failed"
	why := l.Reason
	if _, each, found := strings.Cut(why, dials); found {
		why = dials + each
	}
	if why == "" {
		return ""
	}
	return ": " + cut(why, enough)
}

// untold says that the origin does not hear now what its host says; "": it does.
func untold(s local.Status) string {
	for _, o := range s.Origins {
		if !o.Up {
			return "the origin is told when the line is up again; it is " + lineText(o)
		}
	}
	return ""
}

// servesText says whether a host serves, and if not, why.
func servesText(s local.Status) string {
	switch {
	case s.Removed != nil:
		return "no: it is no member any more"
	case s.Paused != nil:
		return "no: paused until " + when(*s.Paused)
	case s.Opens != nil:
		return "no: outside its hours until " + when(*s.Opens)
	case !s.CaughtUp:
		return "no: it has not heard yet from the origin what was removed while it was away"
	}
	return "yes"
}

// standingText is what the origin thinks of a host, and why.
func standingText(st *local.Standing) string {
	if st == nil {
		return "not told by the origin since the start"
	}
	text := st.Is
	if st.Since != nil {
		text += " since " + when(*st.Since)
	}
	if st.Reason != "" {
		text += ": " + localTimes(st.Reason)
	}
	return text
}

// auditText is the last audit, as the origin judged it and as it was seen here.
func auditText(s local.Status) string {
	var parts []string
	if st := s.Standing; st != nil && st.Audit != "" {
		parts = append(parts, st.Audit)
		if st.Audited != nil {
			parts[0] += ", " + when(*st.Audited)
		}
	}
	if s.Audited != nil {
		parts = append(parts, fmt.Sprintf("%s answered since the start, the last %s", several(s.Audits, "challenge"), when(*s.Audited)))
	}
	return firstOf(strings.Join(parts, "; "), "none yet")
}

// damagedText is what is not whole on the disk of a host.
func damagedText(s local.Status) string {
	var parts []string
	if s.Bad > 0 {
		parts = append(parts, several(s.Bad, "block")+" found by the check that runs; the origin is told when it ends")
	}
	if s.Lost > 0 {
		parts = append(parts, several(s.Lost, "segment")+" more that are not whole: the origin was told, and orders them anew")
	}
	return strings.Join(parts, "; ")
}

func waitingText(s local.Status) string {
	if s.Waiting == 0 && s.Unsent == 0 {
		return ""
	}
	return fmt.Sprintf("%s to carry out, %s to send", several(s.Waiting, "order"), several(s.Unsent, "receipt"))
}

func scrubText(s local.Status) string {
	if s.Scrub == nil {
		return "none finished yet"
	}
	r := s.Scrub
	return fmt.Sprintf("%s: %s read, %d replaced, %s lost", when(r.Ended), several(r.Blocks, "block"), r.Healed, several(r.Lost, "segment"))
}

// drainingText says how far the operator's drain of a host is.
func drainingText(s local.Status) string {
	switch {
	case !s.Draining:
		return ""
	case s.Held == 0:
		return "by the operator: nothing is held any more"
	}
	return "by the operator: " + several(s.Held, "segment") + " to go, until others hold them"
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return ""
}

// contractFields are a contract in the words in which it is given.
func contractFields(c contract.Contract) [][2]string {
	stations, disk := strings.Join(c.Label, ", "), c.DiskText()
	if c.Disk == 0 {
		disk = "no limit"
	}
	return [][2]string{
		{"offers disk", disk}, {"upload", c.UpText()}, {"hours", c.Hours.String()}, {"stations", firstOf(stations, "all")},
	}
}

// several spells how many things there are; one is the word for one of them.
func several(n int64, one string) string {
	if n != 1 {
		one += "s"
	}
	return strconv.FormatInt(n, 10) + " " + one
}

// localTimes spells the times in a reason, which an origin gives in UTC, as the
// times beside it.
func localTimes(reason string) string {
	const zone = " UTC"
	var out strings.Builder
	for {
		before, after, found := strings.Cut(reason, zone)
		if !found {
			out.WriteString(reason)
			return out.String()
		}
		out.WriteString(localEnd(before, zone))
		reason = after
	}
}

// localEnd spells the time at the end of a text, if there is one; else the zone
// follows it.
func localEnd(s, zone string) string {
	for _, form := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04"} {
		cut := len(s) - len(form)
		if cut < 0 {
			continue
		}
		if t, err := time.Parse(form, s[cut:]); err == nil {
			return s[:cut] + t.Local().Format(form)
		}
	}
	const hour = "15:04"
	if cut := len(s) - len(hour); cut >= 0 {
		if t, err := time.Parse(hour, s[cut:]); err == nil {
			now := time.Now().UTC()
			t = time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), 0, 0, time.UTC)
			return s[:cut] + t.Local().Format(hour)
		}
	}
	return s + zone
}
