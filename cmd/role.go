package cmd

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/gateway/admin/wire/access"
	"github.com/musenai/musen/policy"
)

func (a *app) roleCommand() *cobra.Command {
	c := &cobra.Command{Use: "role", Short: "Give roles to people and programs, and take them away", Args: none, RunE: showHelp}
	c.AddCommand(a.roleGrant(), a.roleRevoke(), a.roleList())
	return c
}

// roleWords are the roles that there are.
func roleWords() string {
	var words []string
	for _, r := range policy.AllRoles() {
		words = append(words, string(r))
	}
	return strings.Join(words, ", ")
}

func (a *app) roleGrant() *cobra.Command {
	var r access.Role
	var until string
	c := &cobra.Command{
		Use: "grant SUBJECT ROLE [--station S] [--until TIME]", Short: "Give a role to one identity, everywhere or on a station",
		Long: `grant gives SUBJECT one of the roles ` + roleWords() + `.
What each may do stands in the policies. Roles count for tokens of the configured issuers,
whose subjects are spelled ISSUER|SUB, and for own tokens issued with --roles.`,
		Args: args("a subject and a role", 2),
		RunE: func(c *cobra.Command, args []string) error {
			r.Subject, r.Role = args[0], args[1]
			if until != "" {
				t, err := readMoment(until, time.Now())
				if err != nil {
					return err
				}
				r.Until = &t
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			ctx, reach := client.AskReach(c.Context())
			given, err := api.GrantRole(ctx, r)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(roleSet{given, reach.Told()})
			}
			fmt.Fprintf(a.stdout, "%s is %s %s%s\n", given.Subject, given.Role, placeAndTime(given), reached(reach.Told()))
			return nil
		},
	}
	c.Flags().StringVar(&r.Station, "station", "", "a station's name or id (default: everywhere)")
	c.Flags().StringVar(&until, "until", "", "when it ends: a time like 2027-01-31T12:00:00Z, or a period like 90d (default: when it is taken)")
	return c
}

// roleSet is a role that was given or taken, as it is printed.
type roleSet struct {
	access.Role
	Reach *wire.Reach `json:"reach,omitempty"`
}

// readMoment reads a time, or a period from now.
func readMoment(s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	var d time.Duration
	if err := (*period)(&d).Set(s); err != nil {
		return time.Time{}, usageError("%q is neither a time like 2027-01-31T12:00:00Z nor a period like 90d", s)
	}
	return now.Add(d), nil
}

// placeAndTime are where and how long a role is held.
func placeAndTime(r access.Role) string {
	words := "everywhere"
	if r.Station != "" {
		words = "on " + r.Station
	}
	if r.Until != nil {
		words += " until " + when(*r.Until)
	}
	return words
}

func (a *app) roleRevoke() *cobra.Command {
	var r access.Role
	c := &cobra.Command{
		Use: "revoke SUBJECT ROLE [--station S]", Short: "Take a role away, at once",
		Long: `revoke takes a role from SUBJECT. The next request is decided without it, and streams that
play by it are cut within seconds.`,
		Args: args("a subject and a role", 2),
		RunE: func(c *cobra.Command, args []string) error {
			r.Subject, r.Role = args[0], args[1]
			api, err := a.api()
			if err != nil {
				return err
			}
			ctx, reach := client.AskReach(c.Context())
			if err := api.RevokeRole(ctx, r); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(roleSet{r, reach.Told()})
			}
			fmt.Fprintf(a.stdout, "%s is not %s %s any more%s\n", r.Subject, r.Role, placeAndTime(r), reached(reach.Told()))
			return nil
		},
	}
	c.Flags().StringVar(&r.Station, "station", "", "the station that it was given for (default: everywhere)")
	return c
}

func (a *app) roleList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List who holds which role where", Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			all, err := api.Roles(c.Context())
			if err != nil {
				return err
			}
			t := newTable(a.stdout, "SUBJECT", "ROLE", "STATION", "UNTIL", "GIVEN", "BY")
			for _, r := range all {
				if a.json {
					if err := a.printJSON(r); err != nil {
						return err
					}
				}
				var until, given string
				if r.Until != nil {
					until = when(*r.Until)
				}
				if r.Granted != nil {
					given = when(*r.Granted)
				}
				appendRow(t, r.Subject, r.Role, firstOf(r.Station, "all"), until, given, r.Actor)
			}
			if !a.json {
				t.Render()
			}
			return nil
		},
	}
}
