package cmd

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/musenai/musen/gateway/admin/wire"
)

func (a *app) subjectCommand() *cobra.Command {
	c := &cobra.Command{Use: "subject", Short: "Limit, suspend and end those whom tokens were issued to", Args: none, RunE: showHelp}
	c.AddCommand(a.subjectSet(), a.subjectShow(), a.subjectList())
	return c
}

func (a *app) subjectSet() *cobra.Command {
	var change wire.SubjectChange
	c := &cobra.Command{
		Use: "set SUBJECT STATE --reason TEXT", Short: "Set the state of a subject",
		Long: `set gives a subject one of four states. It can be set to any other again.

active     nothing is different
limited    its requests are answered at a slow pace, and it has few streams at a time
suspended  its tokens and links are refused, at once and in the middle of a song, and none
           are issued to it
ended      the same, for good`,
		Args: args("a subject and a state", 2),
		RunE: func(c *cobra.Command, args []string) error {
			change.Subject, change.State = args[0], args[1]
			if change.Reason == "" {
				return usageError("say why with --reason")
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			s, err := api.SetSubject(c.Context(), change)
			if err != nil {
				return err
			}
			return a.printSubject(s)
		},
	}
	c.Flags().StringVar(&change.Reason, "reason", "", "why, for those who look at it later")
	return c
}

func (a *app) subjectShow() *cobra.Command {
	return &cobra.Command{
		Use: "show SUBJECT", Short: "Show the state of a subject", Args: args("a subject", 1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			s, err := api.Subject(c.Context(), args[0])
			if err != nil {
				return err
			}
			return a.printSubject(s)
		},
	}
}

func (a *app) subjectList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the subjects that a state was set for", Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			all, err := api.Subjects(c.Context())
			if err != nil {
				return err
			}
			t := newTable(a.stdout, "SUBJECT", "STATE", "SINCE", "BY", "REASON")
			for _, s := range all {
				if a.json {
					if err := a.printJSON(s); err != nil {
						return err
					}
				}
				appendRow(t, s.Subject, s.State, when(s.Changed), s.Actor, s.Reason)
			}
			if !a.json {
				t.Render()
			}
			return nil
		},
	}
}

// printSubject prints the state of a subject.
func (a *app) printSubject(s wire.Subject) error {
	if a.json {
		return a.printJSON(s)
	}
	fields := [][2]string{{"subject", s.Subject}, {"state", s.State}}
	if !s.Changed.IsZero() {
		fields = append(fields, [2]string{"since", when(s.Changed)}, [2]string{"by", s.Actor}, [2]string{"reason", s.Reason})
	}
	if s.Reach != nil {
		fields = append(fields, [2]string{"reach", strings.TrimPrefix(reached(s.Reach), "; ")})
	}
	a.printFields(fields...)
	return nil
}
