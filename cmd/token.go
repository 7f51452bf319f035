package cmd

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/policy"
)

func (a *app) tokenCommand() *cobra.Command {
	c := &cobra.Command{Use: "token", Short: "Issue, list and revoke bearer tokens, and rotate their keys", Args: none, RunE: showHelp}
	c.AddCommand(a.tokenIssue(), a.tokenList(), a.tokenRevoke(), a.tokenKeys(), a.tokenRotateKey())
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
			if req.Roles && !c.Flags().Changed("action") {
				req.Actions = []string{}
			}
			if req.Roles && req.Subject == "" {
				return usageError("name whose roles the token carries with --subject")
			}
			if len(req.Actions) > 0 && all == (len(req.Stations) > 0) {
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
	c.Flags().BoolVar(&req.Roles, "roles", false, "the bearer holds the roles of the subject, whichever these are at each moment; then no action is needed")
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
			t := newTable(a.stdout, "JTI", "SUBJECT", "ACTIONS", "STATIONS", "EXPIRES", "REVOKED", "ISSUED BY")
			for _, tok := range tokens {
				if a.json {
					if err := a.printJSON(tok); err != nil {
						return err
					}
				}
				stations := firstOf(strings.Join(tok.Stations, ","), "all")
				appendRow(t, tok.ID, tok.Subject, tokenActions(tok), stations, when(tok.Expires), when(tok.Revoked), tok.IssuedBy)
			}
			if !a.json {
				t.Render()
			}
			return nil
		},
	}
}

// tokenActions are what a token names, and whether it carries roles besides.
func tokenActions(t wire.Token) string {
	words := t.Actions
	if t.Roles {
		words = append([]string{"(roles)"}, words...)
	}
	return strings.Join(words, ",")
}

func (a *app) tokenRevoke() *cobra.Command {
	var r wire.Revocation
	c := &cobra.Command{
		Use: "revoke JTI | --subject SUBJECT | --issued-by SUBJECT | --issuer-key KEY", Short: "End a token, all of a subject, or all that a subject or a key issued, at once",
		Long: `revoke ends a token at once: the next request with it is refused, and a stream that plays
with it is cut within seconds. In place of its jti the whole token may be given. Of a token
that somebody else has issued, --issuer says who, by name or URL; a whole token says it itself.

With --issued-by it ends the tokens that somebody issued who holds a role here, and those that
were issued with these; not the ones that this subject bears.`,
		Args: atMost("one jti"),
		RunE: func(c *cobra.Command, args []string) (err error) {
			if len(args) == 1 {
				if err = readToken(args[0], &r); err != nil {
					return err
				}
			}
			if given := []string{r.ID, r.Subject, r.IssuedBy, r.Key}; len(slices.DeleteFunc(given, func(s string) bool { return s == "" })) != 1 {
				return usageError("give the jti of a token, or --subject, or --issued-by, or --issuer-key")
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
				return notKnown(r)
			}
			if a.json {
				return a.printJSON(struct {
					wire.Revocation
					Reach *wire.Reach `json:"reach,omitempty"`
				}{r, done.Reach})
			}
			fmt.Fprintf(a.stdout, "revoked %s%s\n", revoked(r, printable(done.Name)), reached(done.Reach))
			return nil
		},
	}
	c.Flags().StringVar(&r.Subject, "subject", "", "revoke everything issued to this subject until now")
	c.Flags().StringVar(&r.IssuedBy, "issued-by", "", "revoke all tokens that this subject has issued until now")
	c.Flags().StringVar(&r.Key, "issuer-key", "", "revoke everything that was signed with this key, also later: a `KEY` that musen token keys lists")
	c.Flags().StringVar(&r.Issuer, "issuer", "", "whose jti, subject or key it is: the name or the URL of an issuer in the configuration")
	return c
}

func notKnown(r wire.Revocation) error {
	if r.Key != "" {
		return &failure{exit: exitNotFound, code: "unknown_key", what: "recorded, but no such key is known here", next: "`musen token keys` prints those that are"}
	}
	return &failure{exit: exitNotFound, code: "unknown_token", what: "recorded, but no such token was issued here", next: "`musen token list` prints those that were"}
}

// revoked names what a revocation ended, which the node calls name.
func revoked(r wire.Revocation, name string) string {
	switch {
	case r.Key != "":
		return "everything signed with " + name
	case r.Subject != "":
		return "every token and link of " + name
	case r.IssuedBy != "":
		return "every token that was issued by " + name
	}
	return name
}

// readToken reads what to revoke: the jti that was given, or that is in the
// token that was, and who has issued that. The token is not verified: one that
// is not good can be revoked too.
func readToken(s string, r *wire.Revocation) error {
	parts := strings.Split(strings.TrimSpace(s), ".")
	if len(parts) != 3 {
		r.ID = s
		return nil
	}
	var claims struct {
		ID     string `json:"jti"`
		Issuer string `json:"iss"`
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(payload, &claims)
	}
	if err != nil || claims.Issuer == "" {
		return usageError("that is neither a jti nor a whole token")
	}
	r.ID, r.Issuer = firstOf(claims.ID, policy.UnnamedID(payload)), firstOf(r.Issuer, claims.Issuer)
	return nil
}

func (a *app) tokenKeys() *cobra.Command {
	return &cobra.Command{
		Use: "keys", Short: "List the keys that tokens, links and sessions are signed with", Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			all, err := api.Keys(c.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(all)
			}
			t := newTable(a.stdout, "KEY", "OF", "STATE", "UNTIL")
			for _, k := range all.Keys {
				of := k.Kind + "s"
				if k.Issuer != "" {
					of = "tokens of " + k.Issuer
				}
				appendRow(t, k.ID, of, k.State, when(k.Until))
			}
			t.Render()
			for _, i := range all.Issuers {
				if i.Error != "" {
					fmt.Fprintf(a.stderr, "the keys of %s cannot be had: %s\n", printable(i.Name), printable(i.Error))
				}
			}
			return nil
		},
	}
}

func (a *app) tokenRotateKey() *cobra.Command {
	links := false
	c := &cobra.Command{
		Use: "rotate-key [--links]", Short: "Sign tokens, or links, with a new key from now on",
		Long: `rotate-key makes a new key and destroys the private half of the old one. What the old key
signed stays good until it expires: to end that too, revoke the old key afterwards with
'musen token revoke --issuer-key KEY'. With --links it is the secret of links and of the
sessions of shares that is new; the old one is kept for 31 days.

A program of a version that does not know rotation refuses the keyring from then on.`,
		Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			kind := wire.KeyOfTokens
			if links {
				kind = wire.KeyOfLinks
			}
			r, err := api.RotateKey(c.Context(), kind)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(r)
			}
			fmt.Fprintf(a.stdout, "%ss are signed with %s now\n", kind, r.ID)
			return nil
		},
	}
	c.Flags().BoolVar(&links, "links", false, "the secret of links and sessions, not the key of tokens")
	return c
}
