package cmd

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musenai/musen/gateway/admin/wire"
)

func (a *app) reportCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "report", Short: "Decide about what people report", Args: none, RunE: showHelp,
		Long: `Anybody can report a segment, a share or a station on the node's page /reports. What is said
of one thing in one category is one report, however many say it. None does anything by itself.`,
	}
	c.AddCommand(a.reportList(), a.reportShow(), a.reportTake(), a.reportClose())
	return c
}

func (a *app) reportList() *cobra.Command {
	var station string
	var open bool
	c := &cobra.Command{
		Use: "list", Short: "List reports, the oldest first", Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			t := newTable(a.stdout, "ID", "STATE", "SINCE", "CATEGORY", "REPORTERS", "TIMES", "STATION", "SEGMENT")
			for r, err := range api.Reports(c.Context(), station, open) {
				if err != nil {
					return noStation(err, station)
				}
				if a.json {
					if err := a.printJSON(r); err != nil {
						return err
					}
				}
				appendRow(t, r.ID, reportState(r), when(r.Created), r.Category, r.Reporters, r.Count, firstOf(r.StationName, "not here"), r.CID)
			}
			if !a.json {
				t.Render()
			}
			return nil
		},
	}
	c.Flags().StringVar(&station, "station", "", "only those of this one")
	c.Flags().BoolVar(&open, "open", false, "only those that nobody has decided about")
	return c
}

// reportState is what became of a report, for a person.
func reportState(r wire.ContentReport) string {
	switch {
	case r.Outcome == "action":
		return "closed: action taken"
	case r.Outcome == "none":
		return "closed: no action"
	case r.Overdue:
		return strings.ReplaceAll(r.State, "_", " ") + ", overdue"
	}
	return strings.ReplaceAll(r.State, "_", " ")
}

func (a *app) reportShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show a report, and what was said", Args: args("the id of a report", 1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			r, err := api.Report(c.Context(), args[0])
			if err != nil {
				return err
			}
			return a.printContentReport(r)
		},
	}
}

// printContentReport prints a report. What strangers said is set in, so that none of it
// looks like a line of the program.
func (a *app) printContentReport(r wire.ContentReport) error {
	if a.json {
		return a.printJSON(r)
	}
	a.printFields([][2]string{
		{"id", r.ID}, {"state", reportState(r)}, {"category", r.Category},
		{"segment", r.CID}, {"title", r.Title}, {"artist", r.Artist}, {"segment is", strings.ReplaceAll(r.SegmentState, "_", " ")},
		{"station", firstOf(r.StationName, "not here")}, {"share", r.Share}, {"since", when(r.Created)},
		{"reported", fmt.Sprintf("%s, by %s", several(int64(r.Count), "time"), several(int64(r.Reporters), "reporter"))},
		{"by", r.Actor}, {"reason", r.Reason},
	}...)
	for _, s := range r.Statements {
		fmt.Fprintf(a.stdout, "said at %s:\n    %s\n", when(s.Made), printableLines(s.Text))
	}
	return nil
}

func (a *app) reportTake() *cobra.Command {
	return &cobra.Command{
		Use: "take ID", Short: "Look at a report: reporters see it as in review", Args: args("the id of a report", 1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			r, err := api.TakeReport(c.Context(), args[0])
			if err != nil {
				return err
			}
			return a.printContentReport(r)
		},
	}
}

func (a *app) reportClose() *cobra.Command {
	var d wire.ReportDecision
	c := &cobra.Command{
		Use: "close ID... --outcome action|none --reason TEXT", Short: "Record what was decided about reports",
		Long: `close records what was decided about reports. Reporters see the outcome and not the reason.

It does nothing to what was reported. Before you close with the outcome action, take the segment
down with "musen takedown CID", end the share with "musen share revoke ID", or the subject with
"musen subject set".`,
		Args: some("the id of a report"),
		RunE: func(c *cobra.Command, ids []string) error {
			if d.Outcome == "" || d.Reason == "" {
				return usageError("say what was decided with --outcome, and why with --reason")
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			for _, id := range ids {
				r, err := api.CloseReport(c.Context(), id, d)
				if err != nil {
					return err
				}
				if a.json {
					err = a.printJSON(r)
				} else {
					_, err = fmt.Fprintf(a.stdout, "%s %s\n", r.ID, reportState(r))
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringVar(&d.Outcome, "outcome", "", "action, if something was done, or none")
	c.Flags().StringVar(&d.Reason, "reason", "", "why, for those who look at it later")
	return c
}
