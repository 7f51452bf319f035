package cmd

import (
	"fmt"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/spf13/cobra"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/gateway/admin/wire/swarm"
)

func (a *app) takedownCommand() *cobra.Command {
	var n wire.NewTakedown
	c := &cobra.Command{
		Use: "takedown CID --reason TEXT", Short: "Refuse a segment at once on every gateway, and have its copies purged",
		Long: `takedown refuses the segment that a CID belongs to, in any spelling of its root or of a block
of it; a CID that belongs to none is neither served nor accepted. Nobody can hear it from
now on, streams that play it end, and no block of it leaves this node. Copies on other peers
are purged. It outlives restarts, and catalogues that are put back from a backup.

Key and blocks are kept here: takedown lift puts it back. With --shred the key is destroyed,
for good.`,
		Args: args("a CID", 1),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := parseCID(args[0])
			if err != nil {
				return err
			}
			if n.Reason == "" {
				return usageError("say why with --reason")
			}
			n.CID = id.String()
			api, err := a.api()
			if err != nil {
				return err
			}
			t, err := api.TakeDown(c.Context(), n)
			if err != nil {
				return err
			}
			return a.printTakedown(t)
		},
	}
	c.Flags().StringVar(&n.Category, "category", "", "what who could listen is told: "+strings.Join(musen.TakedownCategories(), ", ")+" (default: other)")
	c.Flags().StringVar(&n.Reason, "reason", "", "why, for those who look at it later")
	c.Flags().BoolVar(&n.Shred, "shred", false, "destroy the key too; there is no way back")
	c.AddCommand(a.takedownLift(), a.takedownShow(), a.takedownList())
	return c
}

func (a *app) takedownLift() *cobra.Command {
	var l wire.Lift
	c := &cobra.Command{
		Use: "lift CID --reason TEXT", Short: "Put back what was taken down, and have its copies made again", Args: args("a CID", 1),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := parseCID(args[0])
			if err != nil {
				return err
			}
			if l.Reason == "" {
				return usageError("say why with --reason")
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			t, err := api.LiftTakedown(c.Context(), id, l)
			if err != nil {
				return noTakedown(err, id)
			}
			return a.printTakedown(t)
		},
	}
	c.Flags().StringVar(&l.Reason, "reason", "", "why, for those who look at it later")
	return c
}

func (a *app) takedownShow() *cobra.Command {
	return &cobra.Command{
		Use: "show CID", Short: "Show a takedown, and which peers have purged their copies", Args: args("a CID", 1),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := parseCID(args[0])
			if err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			t, err := api.Takedown(c.Context(), id)
			if err != nil {
				return noTakedown(err, id)
			}
			return a.printTakedown(t)
		},
	}
}

func noTakedown(err error, id cid.Cid) error {
	return absent(err, id.String()+" was never taken down", "`musen takedown list` lists what was")
}

func (a *app) takedownList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List what was taken down, the newest first", Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			t := newTable(a.stdout, "CID", "STATION", "STATE", "CATEGORY", "SINCE", "BY", "REASON")
			for d, err := range api.Takedowns(c.Context()) {
				if err != nil {
					return err
				}
				if a.json {
					if err := a.printJSON(d); err != nil {
						return err
					}
					continue
				}
				appendRow(t, d.CID, d.StationName, takedownState(d), d.Category, when(d.Created), d.Actor, d.Reason)
			}
			if !a.json {
				t.Render()
			}
			return nil
		},
	}
}

// takedownState is a state in words.
func takedownState(t wire.Takedown) string { return strings.ReplaceAll(t.State, "_", " ") }

func (a *app) printTakedown(t wire.Takedown) error {
	if a.json {
		return a.printJSON(t)
	}
	station := firstOf(t.StationName, t.Station)
	if station == "" {
		station = "none: no segment of it is known here"
	}
	fields := [][2]string{
		{"cid", t.CID}, {"state", takedownState(t)}, {"station", station}, {"title", t.Title}, {"category", t.Category},
		{"reason", t.Reason}, {"by", t.Actor}, {"since", when(t.Created)}, {"shredded", when(t.Shredded)},
		{"lifted", when(t.Lifted)}, {"lifted by", t.LiftedBy}, {"because", t.LiftReason},
	}
	if t.Lifted.IsZero() {
		fields = append(fields, [2]string{"denied", several(int64(t.Blocks), "block")})
	}
	if t.Reach != nil {
		fields = append(fields, [2]string{"reach", strings.TrimPrefix(reached(t.Reach), "; ")})
	}
	a.printFields(append(fields, purgeFields(t.Copies)...)...)
	return nil
}

// purgeFields say which peers have purged their copies, and which have not.
func purgeFields(p *swarm.Purging) (fields [][2]string) {
	if p == nil {
		return nil
	}
	for _, c := range p.Confirmed {
		fields = append(fields, [2]string{"purged by", fmt.Sprintf("%s, %s", firstOf(c.Name, c.Peer), when(c.At))})
	}
	for _, c := range p.Waiting {
		words := firstOf(c.Name, c.Peer)
		if c.Reason != "" {
			words += ": " + c.Reason
		}
		fields = append(fields, [2]string{"waiting for", words})
	}
	return fields
}
