package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/gateway/admin/wire/swarm"
	"github.com/musenai/musen/policy"
)

// Takedowns keeps takedowns, durably on return, and finds what they are about.
type Takedowns interface {
	// TakeDown refuses what t names, or the segment that it is a block of. It
	// returns musen.ErrExists when that is taken down already, and what it knows
	// with any error after which the takedown is in force at this node.
	TakeDown(ctx context.Context, t musen.Takedown, shred bool) (musen.Takedown, error)
	// Lift returns musen.ErrGone when there is no key any more.
	Lift(ctx context.Context, mh multihash.Multihash, reason, actor string) (musen.Takedown, error)
	// Takedown returns musen.ErrNotFound when there never was one.
	Takedown(ctx context.Context, mh multihash.Multihash) (musen.Takedown, error)
	// Takedowns are those after a cursor, the newest first, also lifted ones. A
	// cursor that it did not make is musen.ErrInvalid.
	Takedowns(ctx context.Context, cursor string, limit int) (page []musen.Takedown, next string, err error)
	// SegmentOfBlock returns musen.ErrNotFound when the block is none of a segment.
	SegmentOfBlock(ctx context.Context, mh multihash.Multihash) (musen.Segment, error)
}

var (
	errTakenDown = refusal{409, "taken_down_already", "", "See `musen takedown show CID`."}
	errNotDown   = refusal{409, "not_taken_down", "", "See `musen takedown show CID`."}
	errShredded  = refusal{409, "shredded", "", "It cannot be put back: add the audio again."}
)

// takeDown refuses a segment at once, on every gateway. It needs nobody else, so
// that it is quick; with shred, which cannot be undone, it does.
func (s *Server) takeDown(c *gin.Context, in call) error {
	var req wire.NewTakedown
	if err := s.readJSON(c, &req); err != nil {
		return err
	}
	id, err := parseCID(req.CID)
	if err != nil {
		return err
	}
	ctx, begun := c.Request.Context(), s.Now()
	if in.station, err = s.stationOf(ctx, id.Hash()); err != nil {
		return err
	}
	if err := in.requireTakedown(in.station); err != nil {
		return err
	}
	in.about("segment %v of station %s", id, in.station.ID)
	t := musen.Takedown{CID: id, Category: req.Category, Reason: req.Reason, Actor: in.grant.Subject(), Created: s.Now()}
	if err := checkTakedown(&t); err != nil {
		return err
	}
	if req.Shred {
		switch {
		case !in.may(policy.ManageSegments, in.station):
			return errForbidden
		case in.station.ID == "":
			return errField.with("No segment of a station here has %v, so there is no key to destroy: leave shred out.", id)
		}
		if err := in.confirm(c, fmt.Sprintf("take %v down %s and destroy its key: %s, %s", id, s.place(ctx, in.station.ID), t.Category, t.Reason)); err != nil {
			return err
		}
	}
	t, err = s.Takedowns.TakeDown(ctx, t, req.Shred)
	if errors.Is(err, musen.ErrExists) {
		return errTakenDown.with("%v is taken down already.", id)
	}
	if err != nil { // it is in force at least here
		s.enforce(ctx, t)
		return err
	}
	return s.enforced(c, in, t, begun)
}

// enforced has what was recorded done, and answers once it is in force on every
// gateway that is heard of.
func (s *Server) enforced(c *gin.Context, in call, t musen.Takedown, begun time.Time) error {
	ctx := c.Request.Context()
	s.Log.LogAttrs(ctx, slog.LevelWarn, "takedown "+t.State(), slog.String("cid", t.CID.String()), slog.String("category", t.Category), slog.String("by", in.grant.Kind()))
	answer := s.describeTakedown(ctx, t, in.station)
	answer.Reach = s.reach(c, begun)
	s.enforce(ctx, t)
	answer.Copies = s.purging(ctx, t)
	return s.answer(c, http.StatusOK, answer)
}

// enforce has copies follow a takedown. What fails here is mended when all copies
// are compared the next time.
func (s *Server) enforce(ctx context.Context, t musen.Takedown) {
	if err := s.Origin.Enforce(ctx, t); err != nil {
		s.Log.ErrorContext(ctx, "copies of what was taken down were not told", "cid", t.CID.String(), "err", err)
	}
}

func checkTakedown(t *musen.Takedown) error {
	if t.Category == "" {
		t.Category = "other"
	}
	if !musen.IsTakedownCategory(t.Category) {
		return errField.with("The category %.40q is none of %s.", t.Category, strings.Join(musen.TakedownCategories(), ", "))
	}
	return checkReason(t.Reason)
}

func checkReason(reason string) error {
	if reason == "" || !isText(reason) {
		return errField.with("The reason is not one line of text of 1 to %d bytes, without characters that change its direction.", maxText)
	}
	return nil
}

// stationOf is the station that a block belongs to, or the zero station if it is
// of none that is here.
func (s *Server) stationOf(ctx context.Context, mh multihash.Multihash) (musen.Station, error) {
	segment, err := s.Takedowns.SegmentOfBlock(ctx, mh)
	if errors.Is(err, musen.ErrNotFound) {
		return musen.Station{}, nil
	}
	if err != nil {
		return musen.Station{}, err
	}
	return s.stationIfThere(ctx, segment.Station)
}

// stationIfThere is a station by its id, or the zero station if it was removed.
func (s *Server) stationIfThere(ctx context.Context, id string) (musen.Station, error) {
	if id == "" {
		return musen.Station{}, nil
	}
	station, err := s.Stations.Station(ctx, id)
	if errors.Is(err, musen.ErrNotFound) {
		err = nil
	}
	return station, err
}

// requireTakedown returns an error unless the caller has leave for a station, or
// for the node if what is taken down is of none. Who has none for the node is
// told what would be told of a station that the grant does not cover.
func (c call) requireTakedown(station musen.Station) error {
	err := c.require(station)
	if err != nil && station.ID == "" {
		return musen.ErrNotFound
	}
	return err
}

// findTakedown finds the takedown in the path, for who has leave for it.
func (s *Server) findTakedown(c *gin.Context, in *call) (musen.Takedown, error) {
	id, err := parseCID(c.Param("cid"))
	if err != nil {
		return musen.Takedown{}, err
	}
	ctx := c.Request.Context()
	t, err := s.Takedowns.Takedown(ctx, id.Hash())
	if err != nil {
		return t, in.absent(err, "%.128q was never taken down.", id.String())
	}
	if in.station, err = s.stationIfThere(ctx, t.Station); err != nil {
		return t, err
	}
	return t, in.requireTakedown(in.station)
}

func (s *Server) getTakedown(c *gin.Context, in call) error {
	t, err := s.findTakedown(c, &in)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	answer := s.describeTakedown(ctx, t, in.station)
	answer.Copies = s.purging(ctx, t)
	return s.answer(c, http.StatusOK, answer)
}

// liftTakedown puts back what was taken down.
func (s *Server) liftTakedown(c *gin.Context, in call) error {
	var req wire.Lift
	if err := s.readJSON(c, &req); err != nil {
		return err
	}
	t, err := s.findTakedown(c, &in)
	if err != nil {
		return err
	}
	if err := checkReason(req.Reason); err != nil {
		return err
	}
	switch {
	case !t.InForce():
		return errNotDown.with("The takedown of %v was lifted before.", t.CID)
	case !t.Shredded.IsZero():
		return errShredded.with("The key of %v was destroyed.", t.CID)
	}
	ctx, begun := c.Request.Context(), s.Now()
	if err := in.confirm(c, fmt.Sprintf("lift the takedown of %v %s: %s", t.CID, s.place(ctx, in.station.ID), req.Reason)); err != nil {
		return err
	}
	if t, err = s.Takedowns.Lift(ctx, t.CID.Hash(), req.Reason, in.grant.Subject()); err != nil {
		return err
	}
	return s.enforced(c, in, t, begun)
}

// listTakedowns answers with the takedowns that the caller has leave for. A page
// may be short of some that are others' business.
func (s *Server) listTakedowns(c *gin.Context, in call) error {
	p := parameters{values: c.Request.URL.Query()}
	limit, cursor := p.number("limit", 1, maxPage), p.values.Get("cursor")
	if p.err != nil {
		return p.err
	}
	ctx := c.Request.Context()
	found, next, err := s.Takedowns.Takedowns(ctx, cursor, limit)
	if errors.Is(err, musen.ErrInvalid) {
		return badParameter("cursor", "is not the cursor of a page before")
	}
	if err != nil {
		return err
	}
	page := wire.Takedowns{Takedowns: []wire.Takedown{}, Next: next}
	for _, t := range found {
		station, err := s.stationIfThere(ctx, t.Station)
		if err != nil {
			return err
		}
		if in.mayUse(station) {
			page.Takedowns = append(page.Takedowns, s.describeTakedown(ctx, t, station))
		}
	}
	return s.answer(c, http.StatusOK, page)
}

// describeTakedown adds what the catalogue still knows of the segment.
func (s *Server) describeTakedown(ctx context.Context, t musen.Takedown, station musen.Station) wire.Takedown {
	w := wire.FromTakedown(t, station)
	if t.Segment == "" {
		return w
	}
	if segment, err := s.Segments.Segment(ctx, t.CID.Hash()); err == nil { // one that is damaged has no title to tell
		w.Title = segment.Title
	}
	return w
}

// purging is how far the copies of what was taken down are gone; nil where this
// is not known, as at an edge, or there is nothing to be gone.
func (s *Server) purging(ctx context.Context, t musen.Takedown) *swarm.Purging {
	copies, err := partOf(s.Copies)
	if err != nil || !t.InForce() {
		return nil
	}
	p := &swarm.Purging{Confirmed: []swarm.Purged{}, Waiting: []swarm.Copy{}}
	h, err := copies.Health(ctx, t.CID)
	switch {
	case err == nil && !h.Gone: // it will be in a moment
	case err == nil:
		p.Waiting, p.Reason = append(p.Waiting, h.Copies...), h.Reason
	case !errors.Is(err, musen.ErrNotFound): // else nobody is waited for any more
		s.Log.WarnContext(ctx, "it is not known which copies are purged", "err", err)
		return nil
	}
	confirmed, err := copies.Purged(ctx, t.CID, t.Created)
	if err != nil {
		s.Log.WarnContext(ctx, "it is not known which copies are purged", "err", err)
		return nil
	}
	for _, c := range confirmed {
		if !slices.ContainsFunc(p.Waiting, func(w swarm.Copy) bool { return w.Peer == c.Peer }) { // from an earlier takedown
			p.Confirmed = append(p.Confirmed, c)
		}
	}
	return p
}
