package cmd

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/musenai/musen/config"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/internal/denylist"
)

// openDenylists reads the denylists of a home. A node does not start while it
// does not know what to deny.
func openDenylists(cfg config.Denylist, log *slog.Logger, tell func(denylist.State), read func(before, after denylist.State)) (*denylist.List, error) {
	l, err := denylist.Open(denylist.Options{Files: cfg.Files, Now: time.Now, Log: log, Tell: tell, Read: read})
	if err != nil {
		return nil, &failure{exit: exitUsage, code: "denylist", cause: err, next: "mend the file or put it back, or take it out of denylist.files: a node does not start while it does not know what to deny"}
	}
	return l, nil
}

// follow reads denylists that change, until stop.
func follow(l *denylist.List) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.Watch(ctx)
	}()
	return func() error {
		cancel()
		<-ended
		return nil
	}
}

// openDenied knows what is denied, from before anything is served.
func (n *runningNode) openDenied() (err error) {
	if n.lists, err = openDenylists(n.cfg.Denylist, n.log, n.tellFaults, n.recordDenylist); err != nil {
		return err
	}
	n.denied.Add(n.lists)
	return nil
}

// faultyList is what the operator's own system is told of a denylist.
type faultyList struct {
	File   string         `json:"file"`
	Faults int            `json:"faults"`
	First  denylist.Fault `json:"first"`
}

// tellFaults tells the operator's own system of a denylist that has faults.
func (n *runningNode) tellFaults(s denylist.State) {
	if n.alarm.sender != nil {
		n.alarm.sender.Send("musen.denylist", faultyList{File: s.File, Faults: s.Faulted, First: s.Faults[0]})
	}
}

func (a *app) denylistCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "denylist", Short: "Show the denylists that this node follows", Args: none,
		Long: `denylist shows the files in denylist.files, how many rules of each are in force, and what is
wrong with a file. It works in every home, those of storage nodes and replicas included.`,
		RunE: func(c *cobra.Command, _ []string) error {
			lists, err := a.denylists(c.Context())
			if err != nil {
				return err
			}
			return a.printDenylists(lists)
		},
	}
	c.AddCommand(a.denylistCheck())
	return c
}

// denylists are those of the running node of the home, whatever its role.
func (a *app) denylists(ctx context.Context) ([]denylist.State, error) {
	if h, err := a.hostHome(); err == nil {
		s, err := h.node.Status(ctx)
		return s.Denylists, h.failure(err)
	}
	api, err := a.api()
	if err != nil {
		return nil, err
	}
	return api.Denylists(ctx)
}

func (a *app) printDenylists(lists []denylist.State) error {
	t := newTable(a.stdout, "FILE", "RULES", "PASSED OVER", "READ", "FAULTS")
	for _, l := range lists {
		if a.json {
			if err := a.printJSON(l); err != nil {
				return err
			}
		}
		read := ""
		if !l.Loaded.IsZero() {
			read = when(l.Loaded)
		}
		appendRow(t, l.File, strconv.Itoa(l.Rules), strconv.Itoa(l.Passed), read, strconv.Itoa(l.Faulted))
	}
	if a.json {
		return nil
	}
	if len(lists) == 0 {
		_, err := fmt.Fprintln(a.stdout, "no denylist: name files in denylist.files")
		return err
	}
	t.Render()
	for _, l := range lists {
		for _, f := range l.Faults {
			fmt.Fprintf(a.stdout, "%s: %s\n", printable(l.File), printable(f.String()))
		}
	}
	return nil
}

func (a *app) denylistCheck() *cobra.Command {
	return &cobra.Command{
		Use: "check CID", Short: "Say whether the running node denies a block, and by which rule", Args: args("a CID", 1),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := parseCID(args[0])
			if err != nil {
				return err
			}
			if h, err := a.hostHome(); err == nil {
				w, err := h.node.Why(c.Context(), id)
				if err != nil {
					return h.failure(err)
				}
				v := wire.Denial{CID: w.CID, Denied: w.Denied, Reason: "nothing denies it"}
				if w.Denied {
					v.Reason = w.Reason
				}
				return a.printDenial(v)
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			v, err := api.Denial(c.Context(), id)
			if err != nil {
				return err
			}
			return a.printDenial(v)
		},
	}
}

func (a *app) printDenial(v wire.Denial) error {
	if a.json {
		return a.printJSON(v)
	}
	a.printFields([][2]string{{"block", v.CID}, {"denied", onOffText(v.Denied)}, {"because", v.Reason}}...)
	return nil
}
