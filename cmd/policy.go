package cmd

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/policy"
)

func (a *app) policyCommand() *cobra.Command {
	c := &cobra.Command{Use: "policy", Short: "Check policies, and explain decisions", Args: none, RunE: showHelp}
	c.AddCommand(a.policyCheck(), a.policyExplain(), a.policyShow())
	return c
}

func (a *app) policyCheck() *cobra.Command {
	return &cobra.Command{
		Use: "check [FILE]", Short: "Validate Cedar policies against the schema",
		Long: "check validates the policies in FILE, or those of the home's configuration. It needs no running node.",
		Args: atMost("one file"),
		RunE: func(_ *cobra.Command, args []string) error {
			text, name, err := a.policyFile(args)
			if err != nil {
				return err
			}
			if err := policy.Check(text); err != nil {
				return &failure{exit: exitUsage, code: "policy", cause: fmt.Errorf("%s: %w", name, err), next: "a node does not load policies that do not validate"}
			}
			if a.json {
				return a.printJSON(map[string]any{"policies": name, "valid": true})
			}
			fmt.Fprintf(a.stdout, "%s: valid\n", name)
			return nil
		},
	}
}

// policyFile is the text of the named file, else what the home is configured
// with.
func (a *app) policyFile(args []string) (text []byte, name string, err error) {
	if len(args) == 1 {
		text, err = os.ReadFile(args[0])
		if err != nil {
			err = &failure{exit: exitUsage, code: "no_file", cause: err}
		}
		return text, args[0], err
	}
	home, err := a.homeDir()
	if err != nil {
		return nil, "", err
	}
	cfg, err := loadConfig(home, nil)
	if err != nil {
		return nil, "", err
	}
	text, err = policyText(cfg.Policy)
	return text, firstOf(cfg.Policy.File, "the built-in policies"), err
}

func (a *app) policyShow() *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Print the policies that the running node decides by", Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			text, err := api.Policies(c.Context())
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(a.stdout, text)
			return err
		},
	}
}

func (a *app) policyExplain() *cobra.Command {
	var q wire.Question
	var tokenFile string
	c := &cobra.Command{
		Use: "explain --action ACTION [--station S] [--cid CID]", Short: "Say how a request would be decided, and by which policy",
		Long: `explain asks the running node how it would decide the request of the bearer of a token
(--token-file), or of somebody with --may ACTIONS on --on STATIONS.`,
		Args: none,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if tokenFile != "" {
				if q.Token, err = a.readToken(c.Context(), tokenFile); err != nil {
					return err
				}
			}
			if q.Token == "" && q.Subject == "" && len(q.Actions) > 0 {
				q.Subject = anonymous()
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			e, err := api.Explain(c.Context(), q)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(e)
			}
			answer := "denied"
			if e.Allowed {
				answer = "allowed"
			}
			a.printFields([2]string{"decision", answer}, [2]string{"reason", e.Reason}, [2]string{"policies", strings.Join(e.Policies, ", ")})
			return nil
		},
	}
	c.Flags().StringVar(&q.Action, "action", "listen", "what is asked for: listen, download, releaseKey, add, manage, moderate, audit or host")
	c.Flags().StringVar(&q.Station, "station", "", "a station's name or id; empty: the node itself")
	c.Flags().StringVar(&q.CID, "cid", "", "a segment of that station")
	c.Flags().StringVar(&tokenFile, "token-file", "", "a file that holds the bearer token; - for standard input")
	c.Flags().StringVar(&q.Subject, "subject", "", "who asks, in place of a token")
	c.Flags().StringSliceVar(&q.Actions, "may", nil, "what a token of that subject would grant")
	c.Flags().StringSliceVar(&q.Stations, "on", nil, "stations that it would name (default: all)")
	return c
}

func (a *app) configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Show the configuration", Args: none, RunE: showHelp}
	c.AddCommand(&cobra.Command{
		Use: "show", Short: "Print every setting and where it comes from; secrets are hidden", Args: none,
		RunE: func(*cobra.Command, []string) error {
			home, err := a.homeDir()
			if err != nil {
				return err
			}
			cfg, err := loadConfig(home, nil)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(cfg)
			}
			return cfg.Render(a.stdout)
		},
	})
	return c
}
