package cmd

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire/access"
)

func (a *app) approvalCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "approval", Short: "Decide on requests that need a second person", Args: none, RunE: showHelp,
		Long: `What cannot be undone, or changes who may do what, needs a fresh second factor or a second
person when it comes over the TCP listener: then it waits here for an hour.`,
	}
	c.AddCommand(a.approvalList(),
		a.approvalDecide("approve", "Let a request pass, once", (*client.Client).Approve),
		a.approvalDecide("deny", "Refuse a request", (*client.Client).Deny))
	return c
}

func (a *app) approvalList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the requests that needed a second person, and what became of them", Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			all, err := api.Approvals(c.Context())
			if err != nil {
				return err
			}
			t := newTable(a.stdout, "ID", "STATE", "BY", "WHAT", "EXPIRES", "DECIDED BY")
			for _, p := range all {
				if a.json {
					if err := a.printJSON(p); err != nil {
						return err
					}
				}
				appendRow(t, p.ID, p.State, p.Subject, p.Summary, when(p.Expires), p.Decider)
			}
			if !a.json {
				t.Render()
			}
			return nil
		},
	}
}

func (a *app) approvalDecide(verb, short string, decide func(*client.Client, context.Context, string) (access.Approval, error)) *cobra.Command {
	return &cobra.Command{
		Use: verb + " ID", Short: short, Args: args("the id of a request", 1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			p, err := decide(api, c.Context(), args[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(p)
			}
			fmt.Fprintf(a.stdout, "%s for %s: %s\n", p.State, p.Subject, p.Summary)
			return nil
		},
	}
}
