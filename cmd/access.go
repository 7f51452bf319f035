package cmd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musenai/musen/gateway/admin/wire/access"
)

func (a *app) accessCommand() *cobra.Command {
	c := &cobra.Command{Use: "access", Short: "Review who may do what", Args: none, RunE: showHelp}
	c.AddCommand(a.accessReview())
	return c
}

func (a *app) accessReview() *cobra.Command {
	var reviewer string
	c := &cobra.Command{
		Use: "review [--sign-off NAME]", Short: "Print who holds what, when it was last used, and what looks too wide",
		Long: `review prints every token, role, share, peer, invite and pinning service, when it was last
used (to the hour), and what looks too wide or is not used. With --sign-off the reviewer's
name and a digest of what is printed are signed and kept.`,
		Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkReviewer(c, reviewer); err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			r, err := api.AccessReport(c.Context())
			if err != nil {
				return err
			}
			if err := a.printReport(r); err != nil || reviewer == "" {
				return err
			}
			v, err := api.SignOff(c.Context(), access.SignOff{Reviewer: reviewer, Digest: r.Digest})
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(v)
			}
			fmt.Fprintf(a.stdout, "signed off by %s at %s: %s\n", v.Reviewer, when(v.Made), v.ID)
			return nil
		},
	}
	c.Flags().StringVar(&reviewer, "sign-off", "", "sign, by this name, that this was reviewed")
	return c
}

// checkReviewer refuses a sign-off by nobody.
func checkReviewer(c *cobra.Command, reviewer string) error {
	if c.Flags().Changed("sign-off") && strings.TrimSpace(reviewer) == "" {
		return usageError("--sign-off wants the name of who reviewed")
	}
	return nil
}

func (a *app) printReport(r access.Report) error {
	if a.json {
		return a.printJSON(r)
	}
	t := newTable(a.stdout, "KIND", "HOLDER", "MAY", "WHERE", "UNTIL", "USED", "FINDINGS", "ID")
	day := func(at *time.Time) string {
		if at == nil {
			return ""
		}
		return when(*at)
	}
	for _, h := range r.Holdings {
		appendRow(t, h.Kind, h.Holder, h.May, h.Where, day(h.Until), day(h.Used), strings.Join(h.Findings, ", "), h.ID)
	}
	t.Render()
	if r.Last != nil {
		fmt.Fprintf(a.stdout, "last signed off by %s at %s\n", r.Last.Reviewer, when(r.Last.Made))
	}
	return nil
}

// flushEvery is how often it is recorded when credentials were used.
const flushEvery = 10 * time.Minute

// followUses records now and then when credentials were used, and once more
// when the node stops.
func (n *runningNode) followUses() {
	n.rows.DisableUnused(n.cfg.Policy.DisableUnused, n.cfg.Policy.MaxTokenTTL)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for tick := time.NewTicker(flushEvery); ; {
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
				if err := n.rows.FlushUses(ctx); err != nil {
					n.log.Warn("when credentials were used is not recorded", "err", err)
				}
				if until := n.rows.Unfollowed(); !until.IsZero() {
					n.log.Warn("more credentials are in use than are followed: unused ones are let in", "last_used_before", until)
				}
			}
		}
	}()
	n.closers = append(n.closers, func() error {
		cancel()
		<-ended
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return n.rows.FlushUses(ctx)
	})
}
