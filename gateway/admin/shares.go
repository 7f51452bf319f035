package admin

import (
	"context"
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/gateway/problem"
	"github.com/musenai/musen/internal/password"
	"github.com/musenai/musen/policy"
)

// Shares keeps shares, durably on return.
type Shares interface {
	PutShare(ctx context.Context, s musen.Share, secret string) error
	// Share returns musen.ErrNotFound when there is none.
	Share(ctx context.Context, id string) (musen.Share, error)
	// Shares are those of a station, newest first.
	Shares(ctx context.Context, station string) ([]musen.Share, error)
	RevokeShare(ctx context.Context, id string) error
	// SetSharePassword ends the sessions that the password before has opened.
	SetSharePassword(ctx context.Context, id, hash string) error
	// RegenerateShare ends all shares, sessions and links of the station of s, and
	// puts s in their place, with what the newest that was live had, or else
	// the newest.
	RegenerateShare(ctx context.Context, s musen.Share, secret string) (musen.Share, error)
}

// Passwords hashes passwords.
type Passwords interface {
	Hash(ctx context.Context, password string) (string, error)
}

// listShares answers with the shares of a station.
func (s *Server) listShares(c *gin.Context, in call) error {
	list := wire.Shares{Shares: []wire.Share{}}
	if err := s.addShares(c.Request.Context(), &list, in.station); err != nil {
		return err
	}
	return s.answer(c, http.StatusOK, list)
}

// listAllShares answers with the shares of every station that the caller may
// use.
func (s *Server) listAllShares(c *gin.Context, in call) error {
	stations, err := s.Stations.Stations(c.Request.Context())
	if err != nil {
		return err
	}
	list := wire.Shares{Shares: []wire.Share{}}
	for _, station := range stations {
		if !in.mayUse(station) {
			continue
		}
		if err := s.addShares(c.Request.Context(), &list, station); err != nil {
			return err
		}
	}
	return s.answer(c, http.StatusOK, list)
}

func (s *Server) addShares(ctx context.Context, list *wire.Shares, station musen.Station) error {
	all, err := s.Shares.Shares(ctx, station.ID)
	for _, share := range all {
		list.Shares = append(list.Shares, wire.FromShare(share, station, s.Now()))
	}
	return err
}

// createShare answers with a new share, once its record is durable.
func (s *Server) createShare(c *gin.Context, in call) error {
	var n wire.NewShare
	if err := s.readJSON(c, &n); err != nil {
		return err
	}
	share, secret, err := s.newShare(n, in.station)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	if n.Password != "" {
		if share.Password, err = s.hash(ctx, n.Password); err != nil {
			return err
		}
	}
	if err := s.Shares.PutShare(ctx, share, secret); err != nil {
		return err
	}
	in.about("share %s %s", share.ID, s.place(ctx, share.Station))
	_ = s.settle(c) // whichever gateway the link is opened at knows it
	c.Header("Location", prefix+"/shares/"+share.ID)
	return s.answer(c, http.StatusCreated, s.made(share, in.station, secret))
}

// newShare makes a share as it is asked for, without its password.
func (s *Server) newShare(n wire.NewShare, station musen.Station) (share musen.Share, secret string, err error) {
	ttl, err := lifetime(n.TTL, s.Limits.ShareTTL, s.Limits.MaxShareTTL)
	if err != nil {
		return share, "", err
	}
	session, err := lifetime(n.SessionTTL, s.Limits.SessionTTL, s.Limits.MaxSessionTTL)
	if err != nil {
		return share, "", err
	}
	if n.MaxUses < 0 || n.MaxUses > maxUses {
		return share, "", errField.with("The max_uses is not from 0 to %d.", maxUses)
	}
	if share, secret, err = musen.NewShare(s.Rand, station); err != nil {
		return share, "", err
	}
	share.Created = s.Now()
	share.Expires = share.Created.Add(ttl)
	share.SessionTTL, share.MaxUses, share.Downloads = session, n.MaxUses, n.Downloads == nil || *n.Downloads
	return share, secret, nil
}

// maxUses is how many uses a share may be limited to.
const maxUses = 1_000_000

// hash hashes a password that is to be set.
func (s *Server) hash(ctx context.Context, word string) (string, error) {
	if err := password.Check(word); err != nil {
		return "", errField.with("The password is not acceptable: %v.", err)
	}
	hash, err := s.Passwords.Hash(ctx, word)
	if errors.Is(err, password.ErrBusy) {
		return "", problem.Busy
	}
	return hash, err
}

// made shapes a share with its link.
func (s *Server) made(share musen.Share, station musen.Station, secret string) wire.MadeShare {
	return wire.MadeShare{Share: wire.FromShare(share, station, s.Now()), URL: s.PublicURL + "/s/" + secret}
}

// findShare finds the share in the path and its station, for who has leave for
// that.
func (s *Server) findShare(c *gin.Context, in call) (share musen.Share, station musen.Station, err error) {
	ctx, id := c.Request.Context(), c.Param("share")
	if share, err = s.Shares.Share(ctx, id); err == nil {
		station, err = s.Stations.Station(ctx, share.Station)
	}
	if err != nil {
		return share, station, in.absent(err, "There is no share %.80q here.", id)
	}
	return share, station, in.require(station)
}

// revokeShare ends a share with its sessions and their links, at once.
func (s *Server) revokeShare(c *gin.Context, in call) error {
	share, _, err := s.findShare(c, in)
	if err == nil {
		err = noBody(c.Request)
	}
	if err != nil {
		return err
	}
	if err := s.Shares.RevokeShare(c.Request.Context(), share.ID); err != nil {
		return err
	}
	_ = s.settle(c) // done means done on every gateway
	return s.done(c)
}

// setSharePassword gives a share another password.
func (s *Server) setSharePassword(c *gin.Context, in call) error {
	share, station, err := s.findShare(c, in)
	if err != nil {
		return err
	}
	var req wire.SharePassword
	if err := s.readJSON(c, &req); err != nil {
		return err
	}
	ctx := c.Request.Context()
	hash, err := s.hash(ctx, req.Password)
	if err != nil {
		return err
	}
	if err := s.Shares.SetSharePassword(ctx, share.ID, hash); err != nil {
		return err
	}
	_ = s.settle(c)
	if share, err = s.Shares.Share(ctx, share.ID); err != nil {
		return err
	}
	return s.answer(c, http.StatusOK, wire.FromShare(share, station, s.Now()))
}

// regenerateShare ends every share, session and link of a station, and answers
// with a new share once that is in force on every gateway that is heard of.
func (s *Server) regenerateShare(c *gin.Context, in call) error {
	if err := noBody(c.Request); err != nil {
		return err
	}
	share, secret, err := s.newShare(wire.NewShare{}, in.station)
	if err != nil {
		return err
	}
	ctx, begun := c.Request.Context(), s.Now()
	if share, err = s.Shares.RegenerateShare(ctx, share, secret); err != nil {
		return err
	}
	station := in.station
	station.Epoch = share.Epoch
	reach := s.reach(c, begun)
	made := s.made(share, station, secret)
	if !s.Engine.Decide(in.grant, policy.ManageShares, resource(station)).Allowed() {
		made.URL = "" // who may only end what there is gets no way in
	}
	return s.answer(c, http.StatusCreated, wire.Regenerated{MadeShare: made, Epoch: share.Epoch, Reach: reach})
}
