package cmd

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire/auditlog"
	"github.com/musenai/musen/internal/audit"
)

func (a *app) auditCommand() *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "Read, verify and review the record of what was done", Args: none, RunE: showHelp}
	c.AddCommand(a.auditShow(), a.auditVerify(), a.auditCheckpoint(), a.auditReview())
	return c
}

func (a *app) auditShow() *cobra.Command {
	var q client.AuditQuery
	var since string
	c := &cobra.Command{
		Use: "show [--since TIME] [--event EVENT] [--actor SUBJECT]", Short: "Print what was recorded",
		Long: `show prints the last records of the running node's audit log, the newest last. That they
were read is recorded too. That a call was begun is left out where it stands what came of
it; with --json all records are printed. An event may be named by its beginning: approval, for
approval.given and approval.used.`,
		Args: none,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if q.Limit < 1 || q.Limit > 10_000 {
				return usageError("--limit is a number from 1 to 10000")
			}
			if q.Since, err = parseSince(since, time.Now()); err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			list, err := api.Audit(c.Context(), q)
			if err != nil {
				return err
			}
			return a.printRecords(list.Records)
		},
	}
	c.Flags().StringVar(&since, "since", "", "only what was recorded since then: a time like 2026-01-31T12:00:00Z, or how long ago, like 7d")
	c.Flags().StringVar(&q.Event, "event", "", "only this event, or all that begin with it and a dot")
	c.Flags().StringVar(&q.Actor, "actor", "", "only what this subject did; the operator on the socket is local")
	c.Flags().IntVar(&q.Limit, "limit", 100, "the last so many records, up to 10000")
	return c
}

// parseSince reads a time, or how long ago it was.
func parseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	d, err := parsePeriod(s)
	if err != nil || d < 0 {
		return time.Time{}, usageError("--since %.40q is neither a time like 2026-01-31T12:00:00Z nor how long ago, like 7d", s)
	}
	return now.Add(-d), nil
}

func (a *app) printRecords(records []auditlog.Record) error {
	t := newTable(a.stdout, "NO", "TIME", "EVENT", "OUTCOME", "ACTOR", "OBJECT", "REASON", "DETAILS")
	ended := map[[2]string]bool{}
	for _, r := range records {
		ended[[2]string{r.Event, r.Request}] = r.Outcome != audit.Begun
	}
	for _, r := range records {
		if a.json {
			if err := a.printJSON(r); err != nil {
				return err
			}
			continue
		}
		if r.Outcome == audit.Begun && ended[[2]string{r.Event, r.Request}] {
			continue
		}
		var details []string
		for _, name := range slices.Sorted(maps.Keys(r.Facts)) {
			if name != settingsFact { // for machines
				details = append(details, name+"="+cut(r.Facts[name], 100))
			}
		}
		outcome := r.Outcome
		if r.Code != "" {
			outcome += " " + r.Code
		}
		appendRow(t, strconv.FormatUint(r.Seq, 10), when(r.Time), r.Event, outcome, r.Actor, r.Object, r.Reason, strings.Join(details, " "))
	}
	if !a.json {
		t.Render()
	}
	return nil
}

// cut shortens a text for a person.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

func (a *app) auditCheckpoint() *cobra.Command {
	var key bool
	c := &cobra.Command{
		Use: "checkpoint [--key]", Short: "Print a signed state of the audit log, to be kept elsewhere",
		Long: `checkpoint prints a signed note of how many records the running node's audit log has, and
the hash of the last. Kept on another machine it shows, with musen audit verify --checkpoint,
whether the log was cut short or put back since. With --key it prints the public key that
verifies such notes.`,
		Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			p, err := api.AuditCheckpoint(c.Context())
			switch {
			case err != nil:
				return err
			case a.json:
				return a.printJSON(p)
			case key:
				fmt.Fprintln(a.stdout, p.Key)
			default:
				fmt.Fprint(a.stdout, p.Checkpoint)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&key, "key", false, "print the key instead")
	return c
}

func (a *app) auditReview() *cobra.Command {
	var reviewer string
	c := &cobra.Command{
		Use: "review [--sign-off NAME]", Short: "Print what happened since the audit log was last signed off",
		Long: `review prints a digest of the running node's audit log since the last review: how often
what happened and how it ended, who did it, and whether the log is as it was written. With
--sign-off the reviewer's name and the last record of the digest are signed and kept.`,
		Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkReviewer(c, reviewer); err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			d, err := api.AuditDigest(c.Context())
			if err != nil {
				return err
			}
			if err := a.printDigest(d); err != nil || reviewer == "" {
				return err
			}
			v, err := api.SignAudit(c.Context(), auditlog.SignOff{Reviewer: reviewer, Head: d.Head})
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(v)
			}
			fmt.Fprintf(a.stdout, "signed off to record %d by %s at %s: %s\n", v.Size, v.Reviewer, when(v.Made), v.ID)
			return nil
		},
	}
	c.Flags().StringVar(&reviewer, "sign-off", "", "sign, by this name, that this was reviewed")
	return c
}

func (a *app) printDigest(d auditlog.Digest) error {
	if a.json {
		return a.printJSON(d)
	}
	state := "not verified yet"
	switch {
	case len(d.Faults) > 0:
		state = "not as it was written: " + d.Faults[0]
	case d.Checked != nil:
		state = "sound when it was verified at " + when(*d.Checked)
	}
	last := "never"
	if d.Last != nil {
		last = fmt.Sprintf("to record %d by %s at %s", d.Last.Size, d.Last.Reviewer, when(d.Last.Made))
	}
	records := fmt.Sprintf("%d to %d", d.After+1, d.Head.Size)
	if d.From != nil && d.To != nil {
		records += ", " + when(*d.From) + " to " + when(*d.To)
	}
	a.printFields([2]string{"records", records}, [2]string{"log", state}, [2]string{"signed off", last})
	fmt.Fprintln(a.stdout)
	t := newTable(a.stdout, "EVENT", "OUTCOME", "TIMES")
	for _, n := range d.Events {
		if n.Outcome == audit.Begun {
			continue // it is counted by how it ended
		}
		appendRow(t, n.Event, n.Outcome, strconv.Itoa(n.N))
	}
	t.Render()
	fmt.Fprintln(a.stdout)
	t = newTable(a.stdout, "ACTOR", "OUTCOME", "TIMES")
	for _, n := range d.Actors {
		appendRow(t, n.Actor, n.Outcome, strconv.Itoa(n.N))
	}
	t.Render()
	return nil
}
