package cmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/musenai/musen/config"
	"github.com/musenai/musen/internal/host"
	"github.com/musenai/musen/internal/host/local"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/member"
)

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
			changed, used, err := h.setContract(c.Context(), terms)
			if err != nil {
				return h.failure(err)
			}
			a.warnOfRoom(h.dir, changed, used)
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

// setContract changes the contract of the node, or of its file if none runs. It
// returns the new one, and what the node takes of it already, 0 if that is not
// known.
func (h hostHome) setContract(ctx context.Context, terms termFlags) (c contract.Contract, used int64, err error) {
	file := filepath.Join(h.dir, host.ContractFile)
	s, err := h.node.Status(ctx)
	running, now := !errors.Is(err, local.ErrNotRunning), s.Contract
	if !running {
		now, err = h.contract(file, terms)
	}
	if err != nil {
		return now, 0, err
	}
	changed, err := terms.apply(now)
	switch {
	case err != nil:
		return now, 0, err
	case h.role == config.RoleReplica && changed.Disk == 0:
		return now, 0, usageError("a replica offers some disk; to stop, `musen replica leave --drain`")
	case running:
		return changed, s.Used, h.node.SetContract(ctx, changed)
	}
	return changed, 0, contract.Save(file, changed)
}

// contract reads the contract of a node that does not run. One that is lost is
// written anew, if all that was in it is said again.
func (h hostHome) contract(file string, terms termFlags) (contract.Contract, error) {
	c, err := contract.Load(file)
	if !errors.Is(err, contract.ErrInvalid) && !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	if err := h.joined(); err != nil {
		return c, err
	}
	if missing := terms.missing(h.role); len(missing) > 0 {
		damage := &host.Damage{Part: host.ContractFile, Err: err}
		return c, &failure{exit: exitDamaged, code: "damaged_home", cause: damage, next: "what was offered is lost: give " + strings.Join(missing, ", ") + " too, such as `" + offerAll(h.role) + "`"}
	}
	return contract.Contract{}, nil
}

// joined returns an error unless the home has a place in a swarm.
func (h hostHome) joined() error {
	if _, err := member.LoadMembership(filepath.Join(h.dir, host.MembershipFile)); err != nil {
		return damagedHome(h.dir, &host.Damage{Part: host.MembershipFile, Err: err})
	}
	return nil
}

func (a *app) replicaPause() *cobra.Command {
	c := &cobra.Command{
		Use: "pause DURATION", Short: "Serve nothing for a while, such as 8h or 3d", Args: args("a duration, such as 3d, 8h or 90m", 1),
		Long: `pause stops serving and tells the origin until when, so that the absence is excused and no
audit fails. What is held stays. A pause has at most 30d. A duration is written in days,
hours, minutes and seconds: 3d, 8h, 90m, 1d12h.`,
		RunE: func(c *cobra.Command, args []string) error {
			d, err := parsePeriod(args[0])
			if err != nil {
				return usageError("%s", err)
			}
			if d < time.Second || d > maxPause {
				return badPause(args[0])
			}
			until := time.Now().Add(d).Truncate(time.Second)
			return a.call(c, func(ctx context.Context, node *local.Client) error {
				if err := node.Pause(ctx, until); err != nil {
					return err
				}
				if a.json {
					return a.printJSON(map[string]string{"paused_until": until.Format(time.RFC3339)})
				}
				fmt.Fprintln(a.stdout, "paused until", when(until))
				if s, err := node.Status(ctx); err == nil && untold(s) != "" {
					fmt.Fprintln(a.stdout, printable(untold(s)))
				}
				return nil
			})
		},
	}
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		if _, given, found := strings.Cut(err.Error(), " in -"); found && given != "" && given[0] >= '0' && given[0] <= '9' {
			return badPause("-" + given)
		}
		return c.Parent().FlagErrorFunc()(c, err)
	})
	return c
}

// maxPause is the longest pause that an origin excuses.
const maxPause = 30 * 24 * time.Hour

func badPause(given string) error {
	return &failure{exit: exitUsage, code: "bad_pause", what: fmt.Sprintf("a pause lasts from 1s to 30d, not %.40s", given),
		next: "for longer, pause again before the pause ends; to be away for good, `musen replica leave --drain`"}
}

// offerAll is a command that says all that a host of a role offers.
func offerAll(role string) string {
	if role == config.RoleStorage {
		return "musen replica set --disk 0B --up unlimited"
	}
	return "musen replica set --disk 200GB --up 20Mbit --hours always --stations all"
}

// warnOfRoom tells whoever offers more disk than there is. used is what the node
// takes of the offer already.
func (a *app) warnOfRoom(home string, c contract.Contract, used int64) {
	var st syscall.Statfs_t
	if c.Disk == 0 || syscall.Statfs(home, &st) != nil {
		return
	}
	if room := used + int64(st.Bavail)*int64(st.Bsize); c.Disk > room {
		fmt.Fprintf(a.stderr, "warning: %s are offered, and there is room for %s: the replica takes no more than that, and the origin reckons with that\n", c.DiskText(), size(room))
	}
}
