package cmd

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog"
	"github.com/musenai/musen/internal/swarm"
	"github.com/musenai/musen/internal/wants"
	"github.com/musenai/musen/pin"
	"github.com/musenai/musen/pin/keep"
)

// startSwarm begins to keep copies of segments on other peers.
func (n *runningNode) startSwarm(ctx context.Context) error {
	c := n.cfg.Pin
	err := n.swarm.Start(ctx, n.node, swarm.Options{
		Realm: n.keys.Realm(), Site: c.Site, Catalogue: wants.New(n.rows),
		Pinset:   pin.Timing{Ping: c.PingInterval, Check: c.PingInterval},
		Copies:   keep.Timing{Pass: c.ReconcileInterval, Cycle: c.AuditCycle, TrustedGrace: 3 * c.PingInterval},
		Deadline: c.AuditDeadline, Now: time.Now, Rand: rand.Reader, Log: n.log,
	})
	if err != nil {
		return err
	}
	n.closers = append(n.closers, n.swarm.Close)
	n.origin.Copies = wants.Copies(n.swarm.Keeper())
	n.edge.Damaged = n.swarm.Keeper().Found
	return nil
}

// stations is the catalogue's stations; a change of what copies one wants
// reaches its segments at once.
type stations struct {
	*catalog.Catalog
	keeper *keep.Keeper
}

// UpdateStation implements admin.Stations.
func (s stations) UpdateStation(ctx context.Context, st musen.Station) error {
	old, err := s.Station(ctx, st.ID)
	if err != nil {
		return err
	}
	if err := s.Catalog.UpdateStation(ctx, st); err != nil || old.Replication == st.Replication {
		return err
	}
	for segment, err := range s.Live(ctx) {
		if err != nil {
			return err
		}
		if segment.Station == st.ID {
			s.keeper.Keep(wants.Of(segment, st))
		}
	}
	return nil
}
