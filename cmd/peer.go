package cmd

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire/swarm"
)

func (a *app) peerCommand() *cobra.Command {
	c := &cobra.Command{Use: "peer", Short: "Invite, list and remove peers that hold copies", Args: none, RunE: showHelp}
	c.AddCommand(
		a.peerInvite(), a.peerInvites(), a.peerWithdraw(), a.peerAdmit(),
		a.peerList(), a.peerDrain(), a.peerReinstate(), a.peerRemove(),
	)
	return c
}

func (a *app) peerInvite() *cobra.Command {
	var req swarm.InviteRequest
	var ttl time.Duration
	c := &cobra.Command{
		Use: "invite --role storage|replica", Short: "Print an invite with which one machine can join, once",
		Long: `invite prints one string alone on standard output. It is a secret: whoever has it can
join, once, until it expires. On the other machine:

  musen join INVITE && musen serve

A storage node is the operator's own: it may change what is pinned. A replica is a
community host, trusted with nothing. Neither ever has a key.`,
		Args: none,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if req.Role != "storage" && req.Role != "replica" {
				return usageError("give --role storage for a machine of your own, or --role replica for a community host")
			}
			if req.TTL, err = seconds(c, "ttl", ttl); err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			made, err := api.Invite(c.Context(), req)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(made)
			}
			_, err = fmt.Fprintln(a.stdout, made.Invite)
			return err
		},
	}
	c.Flags().StringVar(&req.Role, "role", "", "storage or replica")
	c.Flags().StringVar(&req.Name, "name", "", "what the peer will be called (default: it chooses)")
	c.Flags().StringVar(&req.Site, "site", "", "where it is; machines of one site may fail together (default: it says)")
	c.Flags().Var((*period)(&ttl), "ttl", "how long the invite is good for, such as 12h or 7d (default 24h, at most 30d)")
	c.Flags().StringArrayVar(&req.Addresses, "addr", nil, "multiaddr of this node as the peer sees it, such as /dns/radio.example/tcp/4001; may be repeated (default: what the node listens on or announces)")
	return c
}

func (a *app) peerInvites() *cobra.Command {
	return &cobra.Command{
		Use: "invites", Short: "List the invites that nobody has used", Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			open, err := api.Invites(c.Context())
			if err != nil {
				return err
			}
			t := newTable(a.stdout, "ID", "ROLE", "NAME", "SITE", "EXPIRES")
			for _, i := range open {
				if a.json {
					if err := a.printJSON(i); err != nil {
						return err
					}
				}
				appendRow(t, i.ID, i.Role, i.Name, i.Site, when(i.Expires))
			}
			if !a.json {
				t.Render()
			}
			return nil
		},
	}
}

func (a *app) peerWithdraw() *cobra.Command {
	return &cobra.Command{
		Use: "withdraw ID", Short: "End an invite that nobody has used", Args: args("the id of an invite", 1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			if err := api.Withdraw(c.Context(), args[0]); err != nil {
				return absent(err, "there is no open invite "+strconv.Quote(args[0]), "`musen peer invites` lists them; a peer that has joined is removed with `musen peer remove`")
			}
			return a.done("withdrawn", args[0], "withdrew invite %s: nobody can join with it any more\n")
		},
	}
}

func (a *app) peerAdmit() *cobra.Command {
	var admission swarm.Admission
	c := &cobra.Command{
		Use: "admit PEERID", Short: "Let an IPFS node fetch ciphertext", Args: args("a peer ID", 1),
		Long: "admit lets any IPFS node in as a guest: it may fetch ciphertext, which it cannot open, and no more.",
		RunE: func(c *cobra.Command, args []string) error {
			admission.ID = args[0]
			api, err := a.api()
			if err != nil {
				return err
			}
			p, err := api.Admit(c.Context(), admission)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(p)
			}
			_, err = fmt.Fprintf(a.stdout, "admitted %s as a guest\n", printable(firstOf(p.Name, p.ID)))
			return err
		},
	}
	c.Flags().StringVar(&admission.Name, "name", "", "what to call it")
	return c
}

func (a *app) peerList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the peers and how they are", Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			peers, err := api.Peers(c.Context())
			if err != nil {
				return err
			}
			return a.printPeers(peers, time.Now())
		},
	}
}

// printPeers writes the peers as a table, which says of each what its standing
// is and what of its copies it proved, or as JSON.
func (a *app) printPeers(peers []swarm.Peer, now time.Time) error {
	columns := []any{"NAME", "ROLE", "SITE", "STANDING", "LINE", "HELD", "PROVED", "LAST AUDIT", "FREE", "WAITING", "ID"}
	picky := slices.ContainsFunc(peers, func(p swarm.Peer) bool { return p.Offer != nil && len(p.Offer.Labels) > 0 })
	if picky {
		columns = append(columns, "STATIONS")
	}
	t := newTable(a.stdout, columns...)
	for _, p := range peers {
		if a.json {
			if err := a.printJSON(p); err != nil {
				return err
			}
		}
		row := []any{
			p.Name, p.Role, p.Site, standing(p), line(p, now), strconv.FormatInt(p.Held, 10), strconv.FormatInt(p.Proved, 10),
			strings.TrimSpace(p.Outcome + " " + when(p.Audited)), size(p.Free), strconv.Itoa(p.Waiting), p.ID,
		}
		if picky {
			row = append(row, offered(p.Offer))
		}
		appendRow(t, row...)
	}
	if !a.json {
		t.Render()
	}
	return nil
}

// offered are the labels of the stations that a replica carries.
func offered(o *swarm.Offer) string {
	switch {
	case o == nil:
		return ""
	case len(o.Labels) == 0:
		return "all"
	}
	return strings.Join(o.Labels, ", ")
}

// standing is what is thought of a peer, and what else decides whether it gets
// copies.
func standing(p swarm.Peer) string {
	words := []string{}
	if p.Standing != "" {
		words = append(words, p.Standing)
	}
	switch {
	case p.Draining:
		words = append(words, "draining")
	case p.Leaving:
		words = append(words, "wants to leave")
	}
	if p.Appeal != "" {
		words = append(words, "appeals")
	}
	return strings.Join(words, ", ")
}

// line is whether a peer is there.
func line(p swarm.Peer, now time.Time) string {
	switch {
	case p.Role == "origin" || p.Role == "guest":
		return ""
	case p.Up && p.PausedUntil.After(now):
		return "paused until " + when(p.PausedUntil)
	case p.Up:
		return "up"
	case p.PausedUntil.After(now):
		return "away until " + when(p.PausedUntil)
	case p.Since.IsZero() && !p.Heard.IsZero(): // not since this node was started
		return "down, last heard " + when(p.Heard)
	case p.Since.IsZero():
		return "never seen"
	}
	return "down for " + now.Sub(p.Since).Round(time.Second).String()
}

func (a *app) peerDrain() *cobra.Command {
	return &cobra.Command{
		Use: "drain PEER", Short: "Move the copies of a peer elsewhere", Args: args("a peer's name or ID", 1),
		Long: "drain gives a peer nothing new and has its copies made elsewhere, then dropped there.\n`musen peer list` shows how many it still holds; when there are none it can be removed.",
		RunE: func(c *cobra.Command, args []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			p, err := api.DrainPeer(c.Context(), args[0])
			if err != nil {
				return noPeer(err, args[0])
			}
			if a.json {
				return a.printJSON(p)
			}
			_, err = fmt.Fprintf(a.stdout, "draining %s: %s to move\n", printable(firstOf(p.Name, p.ID)), several(p.Held, "segment"))
			return err
		},
	}
}

func (a *app) peerReinstate() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "reinstate PEER --reason TEXT", Short: "Give a peer the standing of a new one, and so answer its appeal", Args: args("a peer's name or ID", 1),
		RunE: func(c *cobra.Command, args []string) error {
			if reason == "" {
				return usageError("say why with --reason; it is kept with the peer's standing")
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			p, err := api.Reinstate(c.Context(), args[0], reason)
			if err != nil {
				return noPeer(err, args[0])
			}
			if a.json {
				return a.printJSON(p)
			}
			_, err = fmt.Fprintf(a.stdout, "%s is in standing %q again\n", printable(firstOf(p.Name, p.ID)), p.Standing)
			return err
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why")
	return c
}

func (a *app) peerRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove PEER", Short: "End the membership of a peer", Args: args("a peer's name or ID", 1),
		Long: "remove closes the connection to a peer, which is told so, and gives it nothing from now on.\nCopies that it had are made elsewhere from those that are left: drain it first to lose none on\nthe way. What it was still to delete is never confirmed.",
		RunE: func(c *cobra.Command, args []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			counted := provedBy(c.Context(), api, args[0])
			if err := api.RemovePeer(c.Context(), args[0]); err != nil {
				return noPeer(err, args[0])
			}
			words := "removed peer %s; what it holds stays sealed, and nobody can make it delete that now\n"
			if counted > 0 {
				words += several(counted, "segment") + " had a copy there that counted; copies that are missing now are made elsewhere: `musen status`\n"
			}
			return a.done("removed", args[0], words)
		},
	}
}

// provedBy is how many copies a peer has that count; 0 if that cannot be told.
func provedBy(ctx context.Context, api *client.Client, peer string) int64 {
	all, err := api.Peers(ctx)
	i := slices.IndexFunc(all, func(p swarm.Peer) bool { return p.Name == peer || p.ID == peer })
	if err != nil || i < 0 {
		return 0
	}
	return all[i].Proved
}

// noPeer is absent for what was asked of a peer.
func noPeer(err error, peer string) error {
	return absent(err, "there is no peer "+strconv.Quote(peer), "`musen peer list` lists them")
}

// done says what was done to what, in words for a person or as JSON.
func (a *app) done(did, what, words string) error {
	if a.json {
		return a.printJSON(map[string]string{did: what})
	}
	_, err := fmt.Fprintf(a.stdout, words, printable(what))
	return err
}
