package cmd

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire"
)

func (a *app) shareCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "share", Short: "Make links that open a station to whoever has them", Args: none, RunE: showHelp,
		Long: `A share is a secret link to a station's page. Who opens it, and gives its password if it has
one, may listen to the station for a while, without an account.`,
	}
	c.AddCommand(a.shareCreate(), a.shareList(), a.shareRevoke(), a.shareRegenerate(), a.sharePassword())
	return c
}

func (a *app) shareCreate() *cobra.Command {
	var passwordFile string
	var ttl, sessionTTL time.Duration
	var n wire.NewShare
	downloads := onOff(true)
	c := &cobra.Command{
		Use: "create STATION", Short: "Print a new link to a station", Args: args("a station's name or id", 1),
		Long: `create prints the link alone on standard output. The node does not keep it: it cannot be
printed again.`,
		RunE: func(c *cobra.Command, args []string) (err error) {
			if n.TTL, err = seconds(c, "ttl", ttl); err != nil {
				return err
			}
			if n.SessionTTL, err = seconds(c, "session-ttl", sessionTTL); err != nil {
				return err
			}
			if n.MaxUses < 0 {
				return usageError("--max-uses must be at least 0")
			}
			if passwordFile != "" {
				if n.Password, err = a.readPassword(c.Context(), passwordFile); err != nil {
					return err
				}
			}
			n.Downloads = (*bool)(&downloads)
			api, err := a.api()
			if err != nil {
				return err
			}
			made, err := api.CreateShare(c.Context(), args[0], n)
			if err != nil {
				return noStation(err, args[0])
			}
			if a.json {
				return a.printJSON(made)
			}
			_, err = fmt.Fprintln(a.stdout, made.URL)
			return err
		},
	}
	c.Flags().StringVar(&passwordFile, "password", "", "a file whose first line is a password to ask for; - for standard input")
	c.Flags().Var((*period)(&ttl), "ttl", "how long the link opens the station, such as 7d (default: the configuration's share.ttl, 30d)")
	c.Flags().Var((*period)(&sessionTTL), "session-ttl", "how long who opened it may listen, such as 12h (default: the configuration's share.session_ttl, 12h)")
	c.Flags().IntVar(&n.MaxUses, "max-uses", 0, "how often it can be opened; 0: any number of times")
	c.Flags().Var(&downloads, "downloads", "whether who opened it may save segments, where the station allows it")
	return c
}

// readPassword reads a password, the first line of a file or of standard
// input.
func (a *app) readPassword(ctx context.Context, file string) (string, error) {
	var in io.ReadCloser
	var err error
	if file == "-" {
		in = untilDone(ctx, a.stdin)
	} else if in, err = openRegular(file, os.O_RDONLY); err != nil {
		return "", &failure{exit: exitUsage, code: "no_file", cause: err, next: "put the password in a file and name that; - reads standard input"}
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, 4<<10))
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" {
		return "", usageError("the first line, which is to be the password, is empty")
	}
	return line, nil
}

func (a *app) shareList() *cobra.Command {
	return &cobra.Command{
		Use: "list [STATION]", Short: "List the shares of a station, or of all", Args: atMost("one station"),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			station := ""
			if len(args) == 1 {
				station = args[0]
			}
			shares, err := api.Shares(c.Context(), station)
			if err != nil {
				return noStation(err, args...)
			}
			t := newTable(a.stdout, "ID", "STATION", "STATE", "PASSWORD", "USES", "DOWNLOADS", "SESSIONS", "CREATED", "EXPIRES", "REVOKED")
			for _, s := range shares {
				if a.json {
					if err := a.printJSON(s); err != nil {
						return err
					}
				}
				d, session := onOff(s.Downloads), time.Duration(s.SessionTTL)*time.Second
				appendRow(t, s.ID, s.StationName, s.State, yes(s.Password), uses(s), d.String(),
					session.String(), when(s.Created), when(s.Expires), when(s.Revoked))
			}
			if !a.json {
				t.Render()
			}
			return nil
		},
	}
}

// uses is how often a share was opened, and how often it can be.
func uses(s wire.Share) string {
	n := strconv.Itoa(s.Uses)
	if s.MaxUses > 0 {
		n += " of " + strconv.Itoa(s.MaxUses)
	}
	return n
}

func (a *app) shareRevoke() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "End a share, and all who came in by it, at once", Args: args("the id of a share", 1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			ctx, reach := client.AskReach(c.Context())
			if err := api.RevokeShare(ctx, args[0]); err != nil {
				return noShare(err, args[0])
			}
			return a.done("revoked", args[0], "revoked share %s: its sessions and links have ended"+reached(reach.Told())+"\n")
		},
	}
}

func (a *app) shareRegenerate() *cobra.Command {
	return &cobra.Command{
		Use: "regenerate STATION", Short: "End every share, session and link of a station, and print a new link", Args: args("a station's name or id", 1),
		Long: `regenerate begins the next epoch of a station: every share, session and link that was made
before has ended, also in the middle of a song. A new share takes over password and settings
from the newest that was live, or else from the newest, and asks for a password if that
one did. Tokens are not ended: revoke them by jti or subject.`,
		RunE: func(c *cobra.Command, args []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			r, err := api.RegenerateShare(c.Context(), args[0])
			if err != nil {
				return noStation(err, args[0])
			}
			if a.json {
				return a.printJSON(r)
			}
			if r.URL != "" {
				fmt.Fprintln(a.stdout, r.URL)
			}
			_, err = fmt.Fprintf(a.stderr, "every share, session and link of %s before it has ended%s\n", printable(r.StationName), reached(r.Reach))
			return err
		},
	}
}

func (a *app) sharePassword() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "password ID --password FILE", Short: "Give a share another password", Args: args("the id of a share", 1),
		Long: "password gives a share another password, or its first. Who came in by the one before has to\ngive the new one.",
		RunE: func(c *cobra.Command, args []string) error {
			if file == "" {
				return usageError("name a file that holds the password with --password; - reads standard input")
			}
			word, err := a.readPassword(c.Context(), file)
			if err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			ctx, reach := client.AskReach(c.Context())
			s, err := api.SetSharePassword(ctx, args[0], word)
			if err != nil {
				return noShare(err, args[0])
			}
			if a.json {
				return a.printJSON(s)
			}
			_, err = fmt.Fprintf(a.stdout, "share %s has another password: its sessions and links have ended%s\n", s.ID, reached(reach.Told()))
			return err
		},
	}
	c.Flags().StringVar(&file, "password", "", "a file whose first line is the password; - for standard input")
	return c
}

// noShare is absent for what was asked of a share.
func noShare(err error, id string) error {
	return absent(err, "there is no share "+strconv.Quote(id), "`musen share list` lists them; an id is not the secret in the link")
}
