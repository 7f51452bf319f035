package cmd

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musenai/musen/gateway/admin/wire"
)

func (a *app) tokenCommand() *cobra.Command {
	c := &cobra.Command{Use: "token", Short: "Issue, list and revoke bearer tokens", Args: none, RunE: showHelp}
	c.AddCommand(a.tokenIssue(), a.tokenList(), a.tokenRevoke())
	return c
}

func (a *app) tokenIssue() *cobra.Command {
	req := wire.TokenRequest{Actions: []string{"listen"}}
	var ttl time.Duration
	var all bool
	c := &cobra.Command{
		Use: "issue --station STATION... [--action ACTION,...]", Short: "Print a new bearer token",
		Long: `issue prints a JWT alone on standard output. The node does not keep it: whoever has it
may do what it says until it expires or is revoked.`,
		Args: none,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if all == (len(req.Stations) > 0) {
				return usageError("give the stations that the token is for with --station, or --all-stations")
			}
			if req.TTL, err = seconds(c, "ttl", ttl); err != nil {
				return err
			}
			if req.Subject == "" {
				req.Subject = anonymous()
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			t, err := api.IssueToken(c.Context(), req)
			if err != nil {
				return noStation(err, req.Stations...)
			}
			if a.json {
				return a.printJSON(t)
			}
			fmt.Fprintln(a.stdout, t.Token)
			return nil
		},
	}
	c.Flags().StringSliceVar(&req.Stations, "station", nil, "a station's name or id; may be repeated")
	c.Flags().BoolVar(&all, "all-stations", false, "the token is for every station, also later ones")
	c.Flags().StringSliceVar(&req.Actions, "action", req.Actions, "what the bearer may do: listen, download, add, manage, audit, moderate")
	c.Flags().StringVar(&req.Subject, "subject", "", "whom the token is for; tokens can be revoked by subject (default: a name of its own)")
	c.Flags().Var((*period)(&ttl), "ttl", "how long the token is valid, such as 30d or 12h (default: the node's)")
	return c
}

// anonymous is a subject that no other token has.
func anonymous() string { return "anonymous-" + strings.ToLower(rand.Text()[:12]) }

func (a *app) tokenList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the tokens that were issued", Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			tokens, err := api.Tokens(c.Context())
			if err != nil {
				return err
			}
			t := newTable(a.stdout, "JTI", "SUBJECT", "ACTIONS", "STATIONS", "EXPIRES", "REVOKED")
			for _, tok := range tokens {
				if a.json {
					if err := a.printJSON(tok); err != nil {
						return err
					}
				}
				stations := firstOf(strings.Join(tok.Stations, ","), "all")
				appendRow(t, tok.ID, tok.Subject, strings.Join(tok.Actions, ","), stations, when(tok.Expires), when(tok.Revoked))
			}
			if !a.json {
				t.Render()
			}
			return nil
		},
	}
}

func (a *app) tokenRevoke() *cobra.Command {
	var r wire.Revocation
	c := &cobra.Command{
		Use: "revoke JTI | --subject SUBJECT", Short: "End a token, or all of a subject, at once",
		Long: `revoke ends a token at once: the next request with it is refused, and a stream that plays
with it is cut within seconds. In place of its jti the whole token may be given.`,
		Args: atMost("one jti"),
		RunE: func(c *cobra.Command, args []string) (err error) {
			if len(args) == 1 {
				if r.ID, err = readJTI(args[0]); err != nil {
					return err
				}
			}
			if (r.ID == "") == (r.Subject == "") {
				return usageError("give the jti of a token, or --subject")
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			done, err := api.Revoke(c.Context(), r)
			if err != nil {
				return err
			}
			if !done.Known {
				return &failure{exit: exitNotFound, code: "unknown_token", what: "recorded, but no such token was issued here", next: "`musen token list` prints those that were"}
			}
			if a.json {
				return a.printJSON(struct {
					wire.Revocation
					Reach *wire.Reach `json:"reach,omitempty"`
				}{r, done.Reach})
			}
			fmt.Fprintf(a.stdout, "revoked %s%s\n", firstOf(r.ID, "every token and link of "+r.Subject), reached(done.Reach))
			return nil
		},
	}
	c.Flags().StringVar(&r.Subject, "subject", "", "revoke everything issued to this subject until now")
	return c
}

// readJTI is the jti that was given, or that is in the token that was. The
// token is not verified: one that is not good can be revoked too.
func readJTI(s string) (string, error) {
	parts := strings.Split(strings.TrimSpace(s), ".")
	if len(parts) != 3 {
		return s, nil
	}
	var claims struct {
		ID string `json:"jti"`
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(payload, &claims)
	}
	if err != nil || claims.ID == "" {
		return "", usageError("that is neither a jti nor a whole token")
	}
	return claims.ID, nil
}
