package admin

import (
	"fmt"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen/gateway/admin/wire/swarm"
)

const (
	noPeer    = "There is no peer %.80q here."
	noInvite  = "There is no open invite %.80q here."
	maxPeerID = 128 // bytes
)

// maxInviteTTL is the longest time that an invite is good for.
const maxInviteTTL = 30 * 24 * time.Hour

func (s *Server) listPeers(c *gin.Context, _ call) error {
	members, err := partOf(s.Members)
	if err != nil {
		return err
	}
	peers, err := members.Peers(c.Request.Context())
	if err != nil {
		return err
	}
	return s.answer(c, http.StatusOK, swarm.Peers{Peers: append([]swarm.Peer{}, peers...)})
}

func (s *Server) admitPeer(c *gin.Context, in call) error {
	members, err := partOf(s.Members)
	if err != nil {
		return err
	}
	var a swarm.Admission
	if err := s.readJSON(c, &a); err != nil {
		return err
	}
	switch {
	case a.ID == "" || len(a.ID) > maxPeerID:
		return errField.with("The id is not that of a peer.")
	case !isName(a.Name):
		return errField.with("The name is not one line of text of at most %d bytes, without characters that change its direction.", maxName)
	}
	in.about("peer %q, name %q", a.ID, a.Name)
	p, err := members.Admit(c.Request.Context(), a)
	if err != nil {
		return said(err, noPeer, a.ID)
	}
	c.Header("Location", prefix+"/peers/"+p.ID)
	return s.answer(c, http.StatusCreated, p)
}

func (s *Server) removePeer(c *gin.Context, in call) error {
	members, err := partOf(s.Members)
	if err == nil {
		err = noBody(c.Request)
	}
	if err != nil {
		return err
	}
	ctx, name := c.Request.Context(), c.Param("peer")
	all, err := members.Peers(ctx)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("remove peer %q", name)
	for _, p := range all {
		if p.ID == name || p.Name == name {
			what = fmt.Sprintf("remove %s %q (%s)", p.Role, p.Name, p.ID)
		}
	}
	if err := in.confirm(c, what); err != nil {
		return err
	}
	if err := members.RemovePeer(ctx, name); err != nil {
		return said(err, noPeer, name)
	}
	return s.done(c)
}

func (s *Server) drainPeer(c *gin.Context, _ call) error {
	members, err := partOf(s.Members)
	if err == nil {
		err = noBody(c.Request)
	}
	if err != nil {
		return err
	}
	name := c.Param("peer")
	p, err := members.DrainPeer(c.Request.Context(), name)
	if err != nil {
		return said(err, noPeer, name)
	}
	return s.answer(c, http.StatusOK, p)
}

func (s *Server) reinstatePeer(c *gin.Context, _ call) error {
	members, err := partOf(s.Members)
	if err != nil {
		return err
	}
	var r swarm.Reinstatement
	if err := s.readJSON(c, &r); err != nil {
		return err
	}
	if r.Reason == "" || !isText(r.Reason) {
		return errField.with("The reason is not one line of text of 1 to %d bytes, without characters that change its direction.", maxText)
	}
	name := c.Param("peer")
	p, err := members.Reinstate(c.Request.Context(), name, r.Reason)
	if err != nil {
		return said(err, noPeer, name)
	}
	return s.answer(c, http.StatusOK, p)
}

// invite answers with an invite, which is a secret: it stands in this one
// answer and nowhere else.
func (s *Server) invite(c *gin.Context, in call) error {
	invites, err := partOf(s.Invites)
	if err != nil {
		return err
	}
	var r swarm.InviteRequest
	if err := s.readJSON(c, &r); err != nil {
		return err
	}
	switch {
	case r.Role != "storage" && r.Role != "replica":
		return errField.with("The role is neither storage nor replica.")
	case !isName(r.Name) || !isName(r.Site):
		return errField.with("The name or the site is not one line of text of at most %d bytes, without characters that change its direction.", maxName)
	case r.TTL < 0 || r.TTL > int64(maxInviteTTL/time.Second):
		return badTTL(maxInviteTTL)
	}
	in.about("invite of a %s, name %q, site %q", r.Role, r.Name, r.Site)
	made, err := invites.Invite(c.Request.Context(), r)
	if err != nil {
		return said(err, noPeer, r.Name)
	}
	return s.answer(c, http.StatusCreated, made)
}

func (s *Server) listInvites(c *gin.Context, _ call) error {
	invites, err := partOf(s.Invites)
	if err != nil {
		return err
	}
	open, err := invites.Invites(c.Request.Context())
	if err != nil {
		return err
	}
	return s.answer(c, http.StatusOK, swarm.OpenInvites{Invites: append([]swarm.OpenInvite{}, open...)})
}

func (s *Server) withdrawInvite(c *gin.Context, _ call) error {
	invites, err := partOf(s.Invites)
	if err == nil {
		err = noBody(c.Request)
	}
	if err != nil {
		return err
	}
	id := c.Param("invite")
	if err := invites.Withdraw(c.Request.Context(), id); err != nil {
		return said(err, noInvite, id)
	}
	return s.done(c)
}
