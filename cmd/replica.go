package cmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musenai/musen/config"
	"github.com/musenai/musen/internal/host"
	"github.com/musenai/musen/internal/host/local"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/member"
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
	case err != nil:
		return h, err
	case cfg.Role == config.RoleOrigin:
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
		return &failure{exit: exitByStatus(refused.Status), code: refused.Code, what: refused.Detail, cause: err}
	}
	return err
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

func (a *app) printHost(s local.Status) {
	fields := [][2]string{
		{"peer ID", s.PeerID}, {"is", s.Role + " " + s.Name}, {"site", s.Site}, {"realm", s.Realm},
		{"serves", servesText(s)}, {"http", s.HTTP},
	}
	for _, o := range s.Origins {
		line := "down"
		if o.Up {
			line = "up since " + when(o.Since)
		}
		fields = append(fields, [2]string{"line", line + ", to " + o.Peer})
	}
	if s.Removed != nil {
		fields = append(fields, [2]string{"removed", when(*s.Removed) + ": the origin ended the membership of this host, and takes no other by this identity; stop the node, and delete the home or join anew with another invite"})
	}
	fields = append(fields, [2]string{"standing", standingText(s.Standing)}, [2]string{"last audit", auditText(s)})
	disk := size(s.Used) + " taken, " + size(max(0, s.Free)) + " free"
	if s.Free < 0 {
		disk = fmt.Sprintf("%s taken, %s more than is offered: the origin was asked to move it", size(s.Used), size(-s.Free))
	}
	fields = append(fields, [][2]string{
		{"held", strconv.FormatInt(s.Held, 10) + " segments"}, {"disk", disk}, {"served", size(s.Served)},
		{"waiting", waitingText(s)}, {"last check", scrubText(s)},
		{"leaving", yes(s.Leaving)}, {"appeal", s.Appeal},
	}...)
	a.printFields(append(fields, contractFields(s.Contract)...)...)
}

// servesText says whether a host serves, and if not, why.
func servesText(s local.Status) string {
	switch {
	case s.Removed != nil:
		return "no: it is no member any more"
	case s.Paused != nil:
		return "no: paused until " + when(*s.Paused)
	case s.Opens != nil:
		return "no: outside its hours until " + when(*s.Opens)
	case !s.CaughtUp:
		return "no: it has not heard yet from the origin what was removed while it was away"
	}
	return "yes"
}

// standingText is what the origin thinks of a host, and why.
func standingText(st *local.Standing) string {
	if st == nil {
		return "not told by the origin since the start"
	}
	text := st.Is
	if st.Since != nil {
		text += " since " + when(*st.Since)
	}
	if st.Reason != "" {
		text += ": " + st.Reason
	}
	return text
}

// auditText is the last audit, as the origin judged it and as it was seen here.
func auditText(s local.Status) string {
	var parts []string
	if st := s.Standing; st != nil && st.Audit != "" {
		parts = append(parts, st.Audit)
		if st.Audited != nil {
			parts[0] += ", " + when(*st.Audited)
		}
	}
	if s.Audited != nil {
		parts = append(parts, fmt.Sprintf("%d challenges answered since the start, the last %s", s.Audits, when(*s.Audited)))
	}
	return firstOf(strings.Join(parts, "; "), "none yet")
}

func waitingText(s local.Status) string {
	if s.Waiting == 0 && s.Unsent == 0 {
		return ""
	}
	return fmt.Sprintf("%d orders to carry out, %d receipts to send", s.Waiting, s.Unsent)
}

func scrubText(s local.Status) string {
	if s.Scrub == nil {
		return "none finished yet"
	}
	r := s.Scrub
	return fmt.Sprintf("%s: %d blocks read, %d replaced, %d segments lost", when(r.Ended), r.Blocks, r.Healed, r.Lost)
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return ""
}

// contractFields are a contract in the words in which it is given.
func contractFields(c contract.Contract) [][2]string {
	stations := strings.Join(c.Label, ", ")
	return [][2]string{
		{"offers disk", c.DiskText()}, {"upload", c.UpText()}, {"hours", c.Hours.String()}, {"stations", firstOf(stations, "all")},
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

func (a *app) replicaSet() *cobra.Command {
	var terms termFlags
	c := &cobra.Command{
		Use: "set", Short: "Change what this host offers, at once", Args: none,
		Long: `set changes the contract of this host. It takes effect at once: with less disk nothing new
is taken, and the origin is asked to move what is too much; nothing is deleted before it
did. It also works while the node does not run.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if !terms.given() {
				return usageError("nothing to change: give --disk, --up, --hours or --stations")
			}
			h, err := a.hostHome()
			if err != nil {
				return err
			}
			if _, err := terms.apply(contract.Contract{}); err != nil {
				return err
			}
			changed, err := h.setContract(c.Context(), terms)
			if err != nil {
				return h.failure(err)
			}
			if a.json {
				return a.printJSON(changed)
			}
			a.printFields(contractFields(changed)...)
			return nil
		},
	}
	terms.add(c, " (default: as it is)")
	return c
}

// setContract changes the contract of the node, or of its file if none runs: a
// file that is lost is written anew.
func (h hostHome) setContract(ctx context.Context, terms termFlags) (contract.Contract, error) {
	file := filepath.Join(h.dir, host.ContractFile)
	s, err := h.node.Status(ctx)
	running, now := !errors.Is(err, local.ErrNotRunning), s.Contract
	if !running {
		now, err = contract.Load(file)
		if errors.Is(err, contract.ErrInvalid) || errors.Is(err, fs.ErrNotExist) {
			now, err = contract.Contract{}, h.joined()
		}
	}
	if err != nil {
		return now, err
	}
	changed, err := terms.apply(now)
	switch {
	case err != nil:
		return now, err
	case h.role == config.RoleReplica && changed.Disk == 0:
		return now, usageError("a replica offers some disk; to stop, `musen replica leave --drain`")
	case running:
		return changed, h.node.SetContract(ctx, changed)
	}
	return changed, contract.Save(file, changed)
}

// joined returns an error unless the home has a place in a swarm.
func (h hostHome) joined() error {
	if _, err := member.LoadMembership(filepath.Join(h.dir, host.MembershipFile)); err != nil {
		return damagedHome(h.dir, &host.Damage{Part: host.MembershipFile, Err: err})
	}
	return nil
}

func (a *app) replicaPause() *cobra.Command {
	return &cobra.Command{
		Use: "pause DURATION", Short: "Serve nothing for a while, such as 8h or 3d", Args: args("a duration, such as 3d, 8h or 90m", 1),
		Long: `pause stops serving and tells the origin until when, so that the absence is excused and no
audit fails. What is held stays. A pause has at most 30d. A duration is written in days,
hours, minutes and seconds: 3d, 8h, 90m, 1d12h.`,
		RunE: func(c *cobra.Command, args []string) error {
			d, err := parsePeriod(args[0])
			if err != nil {
				return usageError("%s", err)
			}
			if d < time.Second {
				return usageError("a pause has at least 1s, not %s", d)
			}
			until := time.Now().Add(d).Truncate(time.Second)
			return a.call(c, func(ctx context.Context, node *local.Client) error {
				if err := node.Pause(ctx, until); err != nil {
					return err
				}
				return a.done("paused_until", until.Format(time.RFC3339), "paused until %s\n")
			})
		},
	}
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
					return a.done("appeal", "", "the appeal is taken back%s\n")
				}
				return a.done("appeal", text, "the operator is told: %s\n")
			})
		},
	}
	c.Flags().BoolVar(&withdraw, "withdraw", false, "take back what was said")
	return c
}

// stalled says why a drain may make no progress.
func stalled(s local.Status) string {
	for _, o := range s.Origins {
		if !o.Up {
			return "there is no line to the origin now; Ctrl-C ends the waiting, not the leaving"
		}
	}
	return "the origin cannot do without them, and nobody else holds them yet; Ctrl-C ends the waiting, not the leaving"
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
					return a.done("leaving", "no", "this host stays; leaving: %s\n")
				case drain:
					return a.drained(ctx, node)
				}
				return a.done("leaving", "yes", "the origin is asked to move what is held; leaving: %s\n")
			})
		},
	}
	c.Flags().BoolVar(&drain, "drain", false, "wait until this host holds nothing")
	c.Flags().BoolVar(&stay, "stay", false, "take it back")
	return c
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
	for told, looks := int64(-1), 1; ; looks++ {
		s, err := node.Status(ctx)
		switch {
		case err != nil:
			return err
		case !s.Leaving:
			return &failure{exit: exitConflict, code: "stays", what: "somebody told this host to stay", next: "type `musen replica leave --drain` again"}
		case s.Held == 0 && s.Waiting == 0 && s.Working == 0 && s.Unsent == 0:
			return a.done("drained", s.PeerID, "this host holds nothing any more: %s may be stopped\n")
		case a.json:
		case s.Held != told:
			looks = 0
			fmt.Fprintf(a.stderr, "%d segments to go\n", s.Held)
		case looks == drainHint:
			fmt.Fprintln(a.stderr, stalled(s))
		}
		told = s.Held
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
