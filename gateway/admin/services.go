package admin

import (
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen/gateway/admin/wire/swarm"
)

const noService = "There is no pinning service %.80q here."

func (s *Server) listServices(c *gin.Context, _ call) error {
	services, err := partOf(s.Services)
	if err != nil {
		return err
	}
	all, err := services.Services(c.Request.Context())
	if err != nil {
		return err
	}
	return s.answer(c, http.StatusOK, swarm.Services{Services: append([]swarm.Service{}, all...)})
}

// addService adds a pinning service. What it is told of the token is where the
// node finds it.
func (s *Server) addService(c *gin.Context, in call) error {
	services, err := partOf(s.Services)
	if err != nil {
		return err
	}
	var n swarm.NewService
	if err := s.readJSON(c, &n); err != nil {
		return err
	}
	switch {
	case n.Name == "" || !isName(n.Name):
		return errField.with("The name is not one line of text of 1 to %d bytes, without characters that change its direction.", maxName)
	case n.Endpoint == "" || !isText(n.Endpoint):
		return errField.with("The endpoint is not the URL of a pinning service.")
	case !filepath.IsAbs(n.TokenFile) || !isLine(n.TokenFile):
		return errField.with("The token_file is not the absolute path of a file on this node.")
	}
	if err := in.confirm(c, fmt.Sprintf("add pinning service %q at %q, with what stands in %q", n.Name, n.Endpoint, n.TokenFile)); err != nil {
		return err
	}
	in.about("service %q", n.Name)
	added, err := services.AddService(c.Request.Context(), n)
	if err != nil {
		return said(err, noService, n.Name)
	}
	c.Header("Location", prefix+"/services/"+url.PathEscape(added.Name))
	return s.answer(c, http.StatusCreated, added)
}

func (s *Server) removeService(c *gin.Context, in call) error {
	services, err := partOf(s.Services)
	if err == nil {
		err = noBody(c.Request)
	}
	if err != nil {
		return err
	}
	name := c.Param("service")
	if err := in.confirm(c, fmt.Sprintf("remove pinning service %q", name)); err != nil {
		return err
	}
	if err := services.RemoveService(c.Request.Context(), name); err != nil {
		return said(err, noService, name)
	}
	return s.done(c)
}
