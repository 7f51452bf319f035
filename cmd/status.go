package cmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/spf13/cobra"

	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/gateway/admin/wire/swarm"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status [STATION|CID]", Short: "Show the running node, a station's copies, or a segment's", Args: atMost("one station or CID"),
		Long: "status shows the node, how the copies of its segments are, and which are not as they\nshould be, with the reason and the next try. With a station it shows that one's, with a\nCID who holds the segment.",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.nodeStatus(c)
			}
			id, err := parseCID(args[0])
			switch _, like := cid.Decode(args[0]); {
			case err == nil:
				return a.copiesOf(c, id, waitFlags{})
			case like == nil:
				return err
			}
			return a.stationStatus(c, args[0])
		},
	}
}

func (a *app) nodeStatus(c *cobra.Command) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	s, err := api.Status(c.Context())
	if err != nil {
		return err
	}
	copies, err := withoutSwarm(api.Replication(c.Context(), ""))
	if err != nil {
		return err
	}
	gateways, err := api.Gateways(c.Context())
	if err = unlessRefused(err); err != nil {
		return err
	}
	w := worries{}
	if copies != nil {
		if w, err = findWorries(c.Context(), api, time.Now()); err != nil {
			return err
		}
	}
	if w.Alerts, err = recentAlerts(c.Context(), api, time.Now()); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(struct {
			wire.Status
			Copies *swarm.Replication `json:"copies,omitempty"`
			worries
			Gateways []wire.Gateway `json:"gateways,omitempty"`
		}{s, copies, w, gateways})
	}
	fields := [][2]string{
		{"version", s.Version}, {"realm", s.Realm}, {"peer", s.PeerID}, {"up", (time.Duration(s.Uptime) * time.Second).String()},
		{"stations", strconv.Itoa(s.Stations)}, {"segments", strconv.Itoa(s.Segments)}, {"disk", diskText(s)},
	}
	for _, addr := range s.Addresses {
		fields = append(fields, [2]string{"address", addr})
	}
	for _, w := range s.Warnings {
		fields = append(fields, [2]string{"warning", w})
	}
	fields = append(append(fields, gatewayFields(gateways)...), summary(copies)...)
	a.printFields(append(fields, w.fields(time.Now())...)...)
	a.printUnhealthy(copies)
	return nil
}

// diskText says how much a node takes on the disk, and how much more it may.
func diskText(s wire.Status) string {
	text := size(s.RepoSize) + " taken, " + size(s.StorageFree) + " free"
	if s.StorageMax > 0 {
		text += ", node.storage_max " + size(s.StorageMax)
	}
	return text
}

// worries are the peers and pinning services that are not as they should be.
type worries struct {
	Away     []swarm.Peer `json:"away,omitempty"`
	Draining []swarm.Peer `json:"draining,omitempty"` // and still holding something

	takers   map[string]int  // peers of each role that are there and stay
	Services []swarm.Service `json:"failing_services,omitempty"`
	Alerts   []wire.Alert    `json:"alerts,omitempty"` // of the last day
}

// findWorries asks for all peers and services. What the caller may not see, or
// the node has not got, is left out.
func findWorries(ctx context.Context, api *client.Client, now time.Time) (w worries, err error) {
	peers, err := api.Peers(ctx)
	if err = unlessRefused(err); err != nil {
		return w, err
	}
	w.takers = map[string]int{}
	for _, p := range peers {
		switch parts := p.Draining || p.Leaving; {
		case parts && p.Held > 0:
			w.Draining = append(w.Draining, p)
		case !parts && p.Up:
			w.takers[p.Role]++
		}
		if (p.Role == "storage" || p.Role == "replica") && !p.Up && !p.PausedUntil.After(now) {
			w.Away = append(w.Away, p)
		}
	}
	services, err := api.Services(ctx)
	if err = unlessRefused(err); err != nil {
		return w, err
	}
	for _, s := range services {
		if s.Failed > 0 || s.Reason != "" {
			w.Services = append(w.Services, s)
		}
	}
	return w, nil
}

// unlessRefused is the error of what was asked, but for one that says no.
func unlessRefused(err error) error {
	var refused *client.Error
	if errors.As(err, &refused) {
		return nil
	}
	return err
}

// mostWorries is how many peers, and how many services, are named.
const mostWorries = 10

// fields are the worries for a person.
func (w worries) fields(now time.Time) (fields [][2]string) {
	for _, p := range w.Away[:min(len(w.Away), mostWorries)] {
		words := firstOf(p.Name, p.ID) + " (" + p.Role + "), " + line(p, now)
		if !p.Since.IsZero() {
			words += ", since " + when(p.Since)
		}
		fields = append(fields, [2]string{"away", words})
	}
	if n := len(w.Away) - mostWorries; n > 0 {
		fields = append(fields, [2]string{"away", fmt.Sprintf("and %d more; `musen peer list` shows them", n)})
	}
	for _, p := range w.Draining[:min(len(w.Draining), mostWorries)] {
		words := fmt.Sprintf("%s (%s), %s to go", firstOf(p.Name, p.ID), p.Role, several(p.Held, "segment"))
		if w.takers[p.Role] == 0 {
			words += "; no other peer of that role is there to take over"
		}
		fields = append(fields, [2]string{"draining", words})
	}
	for _, s := range w.Services[:min(len(w.Services), mostWorries)] {
		words := s.Name + ", " + several(int64(s.Failed), "segment") + " failed"
		if s.Reason != "" {
			words += ": " + s.Reason
		}
		if !s.Next.IsZero() {
			words += "; next try " + when(s.Next)
		}
		fields = append(fields, [2]string{"service", words})
	}
	for _, x := range w.Alerts[:min(len(w.Alerts), mostWorries)] {
		fields = append(fields, [2]string{"alert", alertWords(x)})
	}
	return fields
}

// recentAlerts are those of the last day.
func recentAlerts(ctx context.Context, api *client.Client, now time.Time) ([]wire.Alert, error) {
	all, err := api.Alerts(ctx)
	old := func(x wire.Alert) bool { return now.Sub(x.At) > 24*time.Hour }
	return slices.DeleteFunc(all, old), unlessRefused(err)
}

// alertWords is an alert for a person.
func alertWords(x wire.Alert) string {
	words := when(x.At) + " " + x.Rule
	switch {
	case x.Subject != "":
		words += " by " + x.Subject
	case x.Credential != "":
		words += " with " + x.Credential
	case x.Share != "":
		words += " at share " + x.Share
	case x.About != "":
		words += " of " + x.About
	}
	return fmt.Sprintf("%s: more than %d in %s", words, x.Threshold, time.Duration(x.Window)*time.Second)
}

func (a *app) stationStatus(c *cobra.Command, station string) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	s, err := api.Station(c.Context(), station)
	if err != nil {
		return noStation(err, station)
	}
	copies, err := withoutSwarm(api.Replication(c.Context(), s.ID))
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(struct {
			wire.Station
			Copies *swarm.Replication `json:"copies,omitempty"`
		}{s, copies})
	}
	fields := [][2]string{{"station", s.Name}, {"label", s.Label}, {"wanted", wanted(s.Replication)}}
	a.printFields(append(fields, summary(copies)...)...)
	a.printUnhealthy(copies)
	return nil
}

// withoutSwarm returns nil where a node has no swarm to tell of.
func withoutSwarm(r swarm.Replication, err error) (*swarm.Replication, error) {
	var refused *client.Error
	if errors.As(err, &refused) && refused.Code == "no_swarm" {
		return nil, nil
	}
	return &r, err
}

// summary is how the copies of many segments are, for a person.
func summary(r *swarm.Replication) [][2]string {
	if r == nil {
		return nil
	}
	fields := [][2]string{
		{"replicated", fmt.Sprintf("%d of %d segments", r.Replicated, r.Segments)},
		{"durable", fmt.Sprintf("%d of %d segments", r.Durable, r.Segments)},
		{"copies", fmt.Sprintf("%d, of which %d proved", r.Copies, r.Proved)},
	}
	for _, f := range []struct {
		name      string
		n         int
		one, more string // what there is one of, and what else is to be said
	}{
		{"lost", r.Segments - r.Stored - r.Away, "segment", " without a whole copy"},
		{"unreachable", r.Away, "segment", " without a whole copy, until a peer that is away is back"},
		{"unhealthy", r.Unhealthy, "segment", ""},
		{"fewer", r.Fewer, "segment", " with fewer copies than could be"},
		{"purging", r.Purging, "removed segment", " that not all peers have deleted yet"},
		{"strangers", r.Strangers, "pin", " of no segment, left alone"},
	} {
		if f.n > 0 {
			fields = append(fields, [2]string{f.name, several(int64(f.n), f.one) + f.more})
		}
	}
	return fields
}

// printUnhealthy writes the segments that are not as they should be, each with
// the reason and the next try.
func (a *app) printUnhealthy(r *swarm.Replication) {
	if r == nil || len(r.List) == 0 {
		return
	}
	t := newTable(a.stdout, "CID", "STATION", "LEVEL", "NEXT TRY", "PROBLEM")
	for _, h := range r.List {
		appendRow(t, h.CID, h.StationName, h.Level, when(h.Next), localTimes(h.Reason))
	}
	t.Render()
	if r.Unhealthy > len(r.List) {
		fmt.Fprintf(a.stdout, "and %d more\n", r.Unhealthy-len(r.List))
	}
}
