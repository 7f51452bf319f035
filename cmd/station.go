package cmd

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/gateway/admin/wire/swarm"
)

func (a *app) stationCommand() *cobra.Command {
	c := &cobra.Command{Use: "station", Short: "Create, list and change stations", Args: none, RunE: showHelp}
	c.AddCommand(a.stationCreate(), a.stationList(), a.stationShow(), a.stationSet(), a.stationRemove())
	return c
}

func (a *app) stationCreate() *cobra.Command {
	var description string
	downloads := onOff(true)
	var want wantFlags
	c := &cobra.Command{
		Use: "create NAME", Short: "Create a station, with keys of its own", Args: args("the station's name", 1),
		RunE: func(c *cobra.Command, args []string) error {
			replication, err := want.change(c)
			if err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			s, err := api.CreateStation(c.Context(), wire.NewStation{
				Name: args[0], Description: description, Downloads: (*bool)(&downloads), Replication: replication,
			})
			if err != nil {
				return err
			}
			return a.printStation(s)
		},
	}
	c.Flags().StringVar(&description, "description", "", "what the station plays")
	c.Flags().Var(&downloads, "downloads", "whether listeners may save segments as files")
	want.add(c)
	return c
}

// wantFlags are the flags that say how many copies a station wants.
type wantFlags struct {
	replicas  span
	spread    string
	community int
}

func (w *wantFlags) add(c *cobra.Command) {
	c.Flags().Var(&w.replicas, "replicas", "how many copies of each segment, on this node and trusted peers, such as 2..3")
	c.Flags().StringVar(&w.spread, "spread", swarm.SpreadNone, "what copies must be spread over: site or none")
	c.Flags().IntVar(&w.community, "community", 0, "how many further copies on community replicas")
}

// change is what the flags that were given change, or nil.
func (w *wantFlags) change(c *cobra.Command) (*swarm.WantChange, error) {
	var change swarm.WantChange
	if c.Flags().Changed("replicas") {
		change.Min, change.Max = &w.replicas.low, &w.replicas.high
	}
	if c.Flags().Changed("spread") {
		if w.spread != swarm.SpreadSite && w.spread != swarm.SpreadNone {
			return nil, usageError("--spread must be site or none, not %q", w.spread)
		}
		change.Spread = &w.spread
	}
	if c.Flags().Changed("community") {
		change.Community = &w.community
	}
	if change == (swarm.WantChange{}) {
		return nil, nil
	}
	return &change, nil
}

func (a *app) stationList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the stations", Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			stations, err := api.Stations(c.Context())
			if err != nil {
				return err
			}
			t := newTable(a.stdout, "NAME", "ID", "LABEL", "COPIES", "DOWNLOADS", "CREATED", "DESCRIPTION")
			for _, s := range stations {
				if a.json {
					if err := a.printJSON(s); err != nil {
						return err
					}
				}
				d := onOff(s.Downloads)
				appendRow(t, s.Name, s.ID, s.Label, wanted(s.Replication), d.String(), when(s.Created), s.Description)
			}
			if !a.json {
				t.Render()
			}
			return nil
		},
	}
}

func (a *app) stationShow() *cobra.Command {
	return &cobra.Command{
		Use: "show STATION", Short: "Show one station", Args: args("a station's name or id", 1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			s, err := api.Station(c.Context(), args[0])
			if err != nil {
				return noStation(err, args[0])
			}
			return a.printStation(s)
		},
	}
}

func (a *app) stationSet() *cobra.Command {
	var name, description string
	var downloads onOff
	var want wantFlags
	c := &cobra.Command{
		Use: "set STATION", Short: "Change a station", Args: args("a station's name or id", 1),
		RunE: func(c *cobra.Command, args []string) (err error) {
			var change wire.StationChange
			if change.Replication, err = want.change(c); err != nil {
				return err
			}
			if c.Flags().Changed("name") {
				change.Name = &name
			}
			if c.Flags().Changed("description") {
				change.Description = &description
			}
			if c.Flags().Changed("downloads") {
				change.Downloads = (*bool)(&downloads)
			}
			if change == (wire.StationChange{}) {
				return usageError("nothing to change: give --name, --description, --downloads, --replicas, --spread or --community")
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			ctx, reach := client.AskReach(c.Context())
			s, err := api.ChangeStation(ctx, args[0], change)
			if err != nil {
				return noStation(err, args[0])
			}
			if told := reach.Told(); a.json && told != nil {
				return a.printJSON(struct {
					wire.Station
					Reach *wire.Reach `json:"reach"`
				}{s, told})
			}
			if err := a.printStation(s); err != nil || reach.Told() == nil {
				return err
			}
			_, err = fmt.Fprintf(a.stdout, "changed%s\n", reached(reach.Told()))
			return err
		},
	}
	c.Flags().StringVar(&name, "name", "", "a new name")
	c.Flags().StringVar(&description, "description", "", "what the station plays")
	c.Flags().Var(&downloads, "downloads", "whether listeners may save segments as files")
	want.add(c)
	return c
}

func (a *app) stationRemove() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use: "remove STATION", Short: "Remove a station and destroy its keys", Args: args("a station's name or id", 1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			ctx, reach := client.AskReach(c.Context())
			err = api.RemoveStation(ctx, args[0], force)
			if refused, ok := errors.AsType[*client.Error](err); ok && refused.Code == "station_not_empty" {
				return &failure{exit: exitConflict, code: refused.Code, what: "station " + args[0] + " has segments", cause: err, next: "`musen ls " + args[0] + "` lists them; --force removes them with it"}
			}
			if err != nil {
				return noStation(err, args[0])
			}
			if a.json {
				return a.printJSON(removal{Removed: args[0], Reach: reach.Told()})
			}
			fmt.Fprintf(a.stdout, "removed station %s and destroyed its keys%s\n", args[0], reached(reach.Told()))
			return nil
		},
	}
	c.Flags().BoolVar(&force, "force", false, "remove its segments first")
	return c
}

func (a *app) printStation(s wire.Station) error {
	if a.json {
		return a.printJSON(s)
	}
	d := onOff(s.Downloads)
	a.printFields([][2]string{
		{"station", s.Name}, {"id", s.ID}, {"label", s.Label}, {"description", s.Description}, {"downloads", d.String()},
		{"wanted", wanted(s.Replication)},
		{"epoch", strconv.FormatUint(s.Epoch, 10)}, {"created", when(s.Created)},
	}...)
	return nil
}
