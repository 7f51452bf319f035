package cmd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musenai/musen/internal/host"
	"github.com/musenai/musen/internal/host/local"
)

func (a *app) replicaCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "replica", Short: "See and change what this host carries for others", Args: none, RunE: showHelp,
		Long: `replica is for whoever hosts copies: a replica or a storage node that was made with musen
join. Its commands talk to the running node of the home.`,
	}
	c.AddCommand(a.replicaStatus(), a.replicaWhy(), a.replicaOrders(), a.replicaSet(),
		a.replicaPause(), a.replicaResume(), a.replicaLeave(), a.replicaAppeal())
	return c
}

// A hostHome is a home without keys, and a client of its node.
type hostHome struct {
	dir  string
	role string
	node *local.Client
}

func (a *app) hostHome() (h hostHome, err error) {
	if h.dir, err = a.homeDir(); err != nil {
		return h, err
	}
	cfg, err := loadConfig(h.dir, nil)
	switch {
	case noHome(err):
		return h, &failure{exit: exitNoNode, code: "no_node", what: "no node is running: there is no home in " + h.dir, next: "make a home with `musen join`, or name yours with --home or MUSEN_HOME"}
	case err != nil:
		return h, err
	case cfg.HasKeys():
		return h, &failure{exit: exitUsage, code: "origin_home", what: h.dir + " is the home of an origin, which carries copies for nobody else",
			next: "`musen status` tells how it is; to see a replica or a storage node, name its home with --home or MUSEN_HOME"}
	}
	h.role, h.node = cfg.Role, local.NewClient(cfg.Replica.Socket)
	return h, nil
}

// hostFailure is an error of a host's node as the user sees it.
func hostFailure(err error) error {
	var refused *local.Error
	switch {
	case errors.Is(err, local.ErrNotRunning):
		return &failure{exit: exitNoNode, code: "no_node", cause: err, next: "start it with `musen serve`"}
	case errors.As(err, &refused):
		return &failure{exit: exitByStatus(refused.Status), code: refused.Code, what: refused.Detail, next: nextFor(refused.Code), cause: err}
	}
	return err
}

// nextFor is what to do about a refusal of a host's node.
func nextFor(code string) string {
	if code == local.Removed {
		return "stop the node, and delete the home: nothing in it has to be kept. To host again, ask the operator for another invite, and join with a new home"
	}
	return ""
}

// noHome reports whether a configuration could not be read for there is none.
func noHome(err error) bool {
	var f *failure
	return errors.As(err, &f) && f.code == "no_home"
}

// call runs do against the node of the home.
func (a *app) call(c *cobra.Command, do func(ctx context.Context, node *local.Client) error) error {
	h, err := a.hostHome()
	if err != nil {
		return err
	}
	return h.failure(do(c.Context(), h.node))
}

// failure is hostFailure, or what keeps the node of the home from running.
func (h hostHome) failure(err error) error {
	if errors.Is(err, local.ErrNotRunning) {
		if broken := host.CheckHome(h.dir); broken != nil {
			return damagedHome(h.dir, broken)
		}
	}
	return hostFailure(err)
}

func (a *app) replicaStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show what this host holds, serves and offers", Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c, func(ctx context.Context, node *local.Client) error {
				s, err := node.Status(ctx)
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(s)
				}
				a.printHost(s)
				return nil
			})
		},
	}
}

func (a *app) replicaWhy() *cobra.Command {
	return &cobra.Command{
		Use: "why CID", Short: "Say why this host has a segment, or has not", Args: args("a CID", 1),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := parseCID(args[0])
			if err != nil {
				return err
			}
			return a.call(c, func(ctx context.Context, node *local.Client) error {
				w, err := node.Why(ctx, id)
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(w)
				}
				fields := [][2]string{{"segment", w.CID}, {"held", onOffText(w.Held)}, {"because", w.Reason}}
				if w.Held {
					fields = append(fields, [][2]string{{"since", when(*w.Since)}, {"size", size(w.Size)}, {"label", w.Label}}...)
				}
				a.printFields(fields...)
				return nil
			})
		},
	}
}

func onOffText(on bool) string {
	if on {
		return "yes"
	}
	return "no"
}

func (a *app) replicaOrders() *cobra.Command {
	limit := 20
	c := &cobra.Command{
		Use: "orders", Short: "List the newest orders that this host carried out, or refused", Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			if limit < 1 {
				return usageError("--limit is a number from 1 on")
			}
			return a.call(c, func(ctx context.Context, node *local.Client) error {
				list, err := node.Orders(ctx, limit)
				if err != nil {
					return err
				}
				t := newTable(a.stdout, "AT", "ORDER", "VERB", "OUTCOME", "CID", "REASON")
				for _, o := range list {
					if a.json {
						if err := a.printJSON(o); err != nil {
							return err
						}
					}
					appendRow(t, when(o.At), strconv.FormatUint(o.Seq, 10), o.Verb, o.Outcome, o.CID, o.Reason)
				}
				if !a.json {
					t.Render()
				}
				return nil
			})
		},
	}
	c.Flags().IntVar(&limit, "limit", limit, "how many")
	return c
}

func (a *app) replicaResume() *cobra.Command {
	return &cobra.Command{
		Use: "resume", Short: "End a pause", Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c, func(ctx context.Context, node *local.Client) error {
				if err := node.Pause(ctx, time.Time{}); err != nil {
					return err
				}
				return a.done("resumed", "now", "resumed %s\n")
			})
		},
	}
}

func (a *app) replicaAppeal() *cobra.Command {
	var withdraw bool
	c := &cobra.Command{
		Use: "appeal TEXT", Short: "Tell the operator what you have to say against this host's standing", Args: atMost("what you have to say, in quotes"),
		Long: `appeal tells the operator what you have to say, until it is answered by a reinstatement, or
you take it back with --withdraw.`,
		RunE: func(c *cobra.Command, args []string) error {
			text := strings.Join(strings.Fields(strings.Join(args, " ")), " ")
			switch {
			case withdraw && len(args) > 0:
				return usageError("give what you have to say, or --withdraw, not both")
			case !withdraw && text == "":
				return usageError("say something, in quotes; --withdraw takes back what was said")
			}
			return a.call(c, func(ctx context.Context, node *local.Client) error {
				if err := node.Appeal(ctx, text); err != nil {
					return err
				}
				if withdraw {
					return a.wished(ctx, node, "appeal", "", "the appeal is taken back%s\n")
				}
				return a.wished(ctx, node, "appeal", text, "the operator is told: %s\n")
			})
		},
	}
	c.Flags().BoolVar(&withdraw, "withdraw", false, "take back what was said")
	return c
}

// wished says what the host asked of its origin, and whether that hears it now.
func (a *app) wished(ctx context.Context, node *local.Client, did, what, words string) error {
	s, err := node.Status(ctx)
	if note := untold(s); err == nil && note != "" && !a.json {
		_, err = fmt.Fprintf(a.stdout, "noted; %s: %s\n%s\n", did, printable(firstOf(what, "none")), printable(note))
		return err
	}
	return a.done(did, what, words)
}

func (a *app) replicaLeave() *cobra.Command {
	var drain, stay bool
	c := &cobra.Command{
		Use: "leave", Short: "Ask the origin to give all that this host holds to others", Args: none,
		Long: `leave announces that this host goes. It takes nothing new, and goes on serving what it has
until whoever can take over holds it; then the origin has it dropped. It keeps what the
origin cannot do without. With --drain the command waits for that, and the home holds
nothing when it ends with 0. --stay takes it back.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if drain && stay {
				return usageError("give --drain or --stay, not both")
			}
			return a.call(c, func(ctx context.Context, node *local.Client) error {
				if err := node.Leave(ctx, !stay); err != nil {
					return err
				}
				switch {
				case stay:
					return a.stays(ctx, node)
				case drain:
					return a.drained(ctx, node)
				}
				return a.wished(ctx, node, "leaving", "yes", "the origin is asked to move what is held; leaving: %s\n")
			})
		},
	}
	c.Flags().BoolVar(&drain, "drain", false, "wait until this host holds nothing")
	c.Flags().BoolVar(&stay, "stay", false, "take it back")
	return c
}

// stays tells that a host does not leave, and whether it is drained all the
// same.
func (a *app) stays(ctx context.Context, node *local.Client) error {
	s, err := node.Status(ctx)
	if err != nil {
		return err
	}
	if s.Draining {
		return a.done("leaving", "no", "leaving: %s; but the operator drains this host, and what it holds goes to others all the same\n")
	}
	return a.wished(ctx, node, "leaving", "no", "this host stays; leaving: %s\n")
}

const (
	// drainLook is how often a drain looks how far it is.
	drainLook = 500 * time.Millisecond
	// drainHint is after how many looks without progress it says what may be
	// the matter.
	drainHint = 40
)

// drained waits until the node holds nothing and the origin knows.
func (a *app) drained(ctx context.Context, node *local.Client) error {
	tick := time.NewTicker(drainLook)
	defer tick.Stop()
	alone := ""
	for told, looks := int64(-1), 1; ; looks++ {
		s, err := node.Status(ctx)
		if note := untold(s); err == nil && !a.json && (note == "") != (alone == "") {
			alone, looks = note, 0
			fmt.Fprintln(a.stderr, printable(firstOf(note, "the line to the origin is up")))
		}
		switch {
		case err != nil:
			return err
		case s.Removed != nil:
			return local.Refuse(http.StatusForbidden, local.Removed, "the origin removed this host from the swarm: nobody takes over what it holds")
		case !s.Leaving:
			return &failure{exit: exitConflict, code: "stays", what: "somebody told this host to stay", next: "type `musen replica leave --drain` again"}
		case s.Held == 0 && s.Waiting == 0 && s.Working == 0 && s.Unsent == 0:
			return a.done("drained", s.PeerID, "this host holds nothing any more: %s may be stopped\n")
		case a.json:
		case s.Held != told:
			looks = 0
			fmt.Fprintf(a.stderr, "%s to go\n", several(s.Held, "segment"))
		case looks == drainHint && alone == "":
			fmt.Fprintln(a.stderr, "the origin cannot do without them, and nobody else holds them yet; Ctrl-C ends the waiting, not the leaving")
		}
		told = s.Held
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
