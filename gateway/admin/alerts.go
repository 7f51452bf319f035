package admin

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/internal/watch"
)

// Alerts tells what looked like abuse; *watch.Watch does.
type Alerts interface {
	// Recent are the last ones, the newest first.
	Recent() []watch.Alert
}

func (s *Server) listAlerts(c *gin.Context, _ call) error {
	list := wire.Alerts{Alerts: []wire.Alert{}}
	for _, a := range s.Alerts.Recent() {
		list.Alerts = append(list.Alerts, wire.FromAlert(a))
	}
	return s.answer(c, http.StatusOK, list)
}
