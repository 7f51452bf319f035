package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/gateway/admin/wire/swarm"
)

// listStations answers with the stations that the caller may use.
func (s *Server) listStations(c *gin.Context, in call) error {
	all, err := s.Stations.Stations(c.Request.Context())
	if err != nil {
		return err
	}
	list := wire.Stations{Stations: []wire.Station{}}
	for _, station := range all {
		if in.mayUse(station) {
			list.Stations = append(list.Stations, wire.FromStation(station))
		}
	}
	return s.answer(c, http.StatusOK, list)
}

func (s *Server) createStation(c *gin.Context, in call) error {
	var n wire.NewStation
	if err := s.readJSON(c, &n); err != nil {
		return err
	}
	if err := checkWant(n.Replication); err != nil {
		return err
	}
	station := musen.Station{
		Name: n.Name, Description: n.Description, Downloads: n.Downloads == nil || *n.Downloads,
		Replication: n.Replication.Apply(musen.NoReplication()),
	}
	if err := checkStation(station); err != nil {
		return err
	}
	station, err := s.Origin.CreateStation(c.Request.Context(), station)
	if err != nil {
		return err
	}
	in.about("station %q (%s)", station.Name, station.ID)
	c.Header("Location", prefix+"/stations/"+station.ID)
	return s.answer(c, http.StatusCreated, wire.FromStation(station))
}

// checkWant refuses a spread that is none; the numbers are checkStation's.
func checkWant(w *swarm.WantChange) error {
	if w != nil && w.Spread != nil && *w.Spread != swarm.SpreadNone && *w.Spread != swarm.SpreadSite {
		return errField.with("The spread is neither none nor site.")
	}
	return nil
}

func checkStation(s musen.Station) error {
	if err := musen.CheckStationName(s.Name); err != nil {
		return errField.with("The name is not acceptable: %v.", err)
	}
	if err := s.Replication.Check(); err != nil {
		return errField.with("The replication is not acceptable: %v.", err)
	}
	if !isText(s.Description) {
		return errField.with("The description is not one line of text of at most %d bytes, without characters that change its direction.", maxText)
	}
	return nil
}

func (s *Server) getStation(c *gin.Context, in call) error {
	return s.answer(c, http.StatusOK, wire.FromStation(in.station))
}

func (s *Server) changeStation(c *gin.Context, in call) error {
	var change wire.StationChange
	if err := s.readJSON(c, &change); err != nil {
		return err
	}
	station := in.station
	if change.Name != nil {
		station.Name = *change.Name
	}
	if change.Description != nil {
		station.Description = *change.Description
	}
	if change.Downloads != nil {
		station.Downloads = *change.Downloads
	}
	if err := checkWant(change.Replication); err != nil {
		return err
	}
	station.Replication = change.Replication.Apply(station.Replication)
	if err := checkStation(station); err != nil {
		return err
	}
	in.about("station %q (%s)", station.Name, station.ID)
	ctx := c.Request.Context()
	if err := s.Stations.UpdateStation(ctx, station); err != nil {
		return err
	}
	_ = s.settle(c) // downloads that are off are off everywhere
	return s.answer(c, http.StatusOK, wire.FromStation(station))
}

// removeStation removes a station without live segments, or with force its
// segments first. When it fails midway, what is left is a smaller station.
func (s *Server) removeStation(c *gin.Context, in call) error {
	if err := noBody(c.Request); err != nil {
		return err
	}
	p := parameters{values: c.Request.URL.Query()}
	force := p.flag("force")
	if p.err != nil {
		return p.err
	}
	ctx := c.Request.Context()
	what := fmt.Sprintf("remove station %q (%s)", in.station.Name, in.station.ID)
	if force {
		what += " with all its segments"
	}
	if err := in.confirm(c, what); err != nil {
		return err
	}
	if err := s.empty(ctx, in.station, force); err != nil {
		return err
	}
	if err := s.Origin.RemoveStation(ctx, in.station.ID); err != nil {
		return err
	}
	_ = s.settle(c)
	return s.done(c)
}

// empty removes the segments of a station if force, and refuses otherwise if
// there are any.
func (s *Server) empty(ctx context.Context, station musen.Station, force bool) error {
	for {
		live, _, err := s.Segments.Segments(ctx, station.ID, "", maxPage)
		if err != nil {
			return err
		}
		if len(live) == 0 {
			return s.shredTakenDown(ctx, station, force)
		}
		if !force {
			return errNotEmpty
		}
		for _, segment := range live {
			if err := s.Origin.Remove(ctx, segment.CID); err != nil {
				return err
			}
		}
	}
}

// shredTakenDown removes what was taken down of a station if force, and refuses
// otherwise if its key is kept of anything.
func (s *Server) shredTakenDown(ctx context.Context, station musen.Station, force bool) error {
	for cursor, more := "", true; more; more = cursor != "" {
		page, next, err := s.Takedowns.Takedowns(ctx, cursor, maxPage)
		if err != nil {
			return err
		}
		for _, t := range page {
			if t.Station != station.ID || !t.InForce() || !t.Shredded.IsZero() {
				continue
			}
			if !force {
				return errNotEmpty
			}
			if err := s.Origin.Remove(ctx, t.CID); err != nil && !errors.Is(err, musen.ErrGone) {
				return err
			}
		}
		cursor = next
	}
	return nil
}
