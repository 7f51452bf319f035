package cmd

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/gateway/admin/wire/access"
	"github.com/musenai/musen/policy"
	"github.com/musenai/musen/policy/folder"
)

func (a *app) policyCommand() *cobra.Command {
	c := &cobra.Command{Use: "policy", Short: "Check policies, and explain decisions", Args: none, RunE: showHelp}
	c.AddCommand(a.policyCheck(), a.policyExplain(), a.policyShow(), a.policySchema(), a.policyReload(), a.policyTest())
	return c
}

// nextInvalid is what to do about policies that do not validate.
const nextInvalid = "mend it there; `musen policy schema` prints what policies can speak of, and a node loads none that do not validate"

func (a *app) policyCheck() *cobra.Command {
	return &cobra.Command{
		Use: "check [FILE|FOLDER]", Short: "Validate Cedar policies against the schema",
		Long: "check validates the policies in FILE, or all *.cedar in FOLDER, or those that the home's configuration\nnames. It needs no running node.",
		Args: atMost("one file or folder"),
		RunE: func(_ *cobra.Command, args []string) error {
			files, name, err := a.policyFiles(args)
			if err != nil {
				return err
			}
			if err := policy.Check(files...); err != nil {
				return &failure{exit: exitUsage, code: "policy", cause: err, next: nextInvalid}
			}
			if a.json {
				return a.printJSON(map[string]any{"policies": name, "valid": true})
			}
			fmt.Fprintf(a.stdout, "%s: valid\n", name)
			return nil
		},
	}
}

// policyFiles are those of the file or the folder that was named, else those
// that the home is configured with.
func (a *app) policyFiles(args []string) (files []policy.File, name string, err error) {
	var place folder.Place
	if len(args) == 1 {
		info, err := os.Stat(args[0])
		if err != nil {
			return nil, "", &failure{exit: exitUsage, code: "no_file", cause: err, next: "name a file of Cedar policies, or a folder of *.cedar; without one, those that the home is configured with are checked"}
		}
		if name = args[0]; info.IsDir() {
			place.Dir = name
		} else {
			place.File = name
		}
	} else {
		home, err := a.homeDir()
		if err != nil {
			return nil, "", err
		}
		cfg, err := loadConfig(home, nil)
		if err != nil {
			return nil, "", err
		}
		place = policyPlace(cfg.Policy)
		name = firstOf(place.File, place.Dir)
	}
	if files, err = place.Read(); err != nil {
		return nil, "", &failure{exit: exitUsage, code: "policy", cause: err}
	}
	if len(files) == 0 {
		return []policy.File{{Name: "default.cedar", Text: policy.DefaultPolicies()}}, "the built-in policies", nil
	}
	return files, name, nil
}

func (a *app) policySchema() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the Cedar schema that policies are validated against", Args: none,
		Long: "schema prints what policies can speak of: who asks, for what, and under which\ncircumstances. It is the program's own, and needs no running node.",
		RunE: func(*cobra.Command, []string) error {
			_, err := a.stdout.Write(policy.Schema())
			return err
		},
	}
}

func (a *app) policyReload() *cobra.Command {
	return &cobra.Command{
		Use: "reload", Short: "Have the running node load the policies that lie in its home", Args: none,
		Long: "reload does at once what the node does by itself when a policy file changes. It fails,\nwith the reason, if they do not validate; those in force then stay. Where nothing has\nchanged it also says that policies which are gone are meant to be.",
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			st, err := api.ReloadPolicy(c.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(st)
			}
			fmt.Fprintf(a.stdout, "in force: %s (%.12s)\n", strings.Join(st.Files, ", "), st.Digest)
			a.printLost(st)
			return nil
		},
	}
}

func (a *app) policyShow() *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Print the policies that the running node decides by", Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			st, err := api.PolicyState(c.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(st)
			}
			text, err := api.Policies(c.Context())
			if err != nil {
				return err
			}
			fmt.Fprint(a.stdout, text)
			if st.Fault != "" {
				fmt.Fprintf(a.stderr, "musen: what lies in the home now is not in force: %s\n", st.Fault)
			}
			a.printLost(st)
			return nil
		},
	}
}

func (a *app) printLost(st access.PolicyState) {
	if lost := st.Lost(); lost != "" {
		fmt.Fprintf(a.stderr, "musen: gone from the policies in force: %s\n", lost)
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
