package cmd

import (
	"context"
	"crypto/rand"
	"errors"
	"path/filepath"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog"
	"github.com/musenai/musen/internal/swarm"
	"github.com/musenai/musen/internal/wants"
	"github.com/musenai/musen/pin"
	"github.com/musenai/musen/pin/keep"
	"github.com/musenai/musen/pin/member"
)

// ledgerMark is where the home of an origin notes how far the ledger of its
// peers is. It is in the folder of the node, so that it is backed up and put
// back with the ledger.
const ledgerMark = nodeDir + "/ledger.json"

// damagedLedger says what to do about a ledger that lost something.
func damagedLedger(home string, err error) error {
	return &failure{exit: exitDamaged, code: "damaged_home", cause: err, next: "nothing was changed. Restore the folder " + nodeDir + " of " + home + " from the backup, whole. Without one, delete " + ledgerMark +
		" in the home and start again: the node goes on with the peers that are left in its ledger, and all others must be invited anew"}
}

// startSwarm begins to keep copies of segments on other peers.
func (n *runningNode) startSwarm(ctx context.Context, home string) error {
	c := n.cfg.Pin
	err := n.swarm.Start(ctx, n.node, swarm.Options{
		Realm: n.keys.Realm(), Site: c.Site, Mark: filepath.Join(home, ledgerMark), Catalogue: wants.New(n.rows),
		Pinset:   pin.Timing{Ping: c.PingInterval, Check: c.PingInterval},
		Copies:   keep.Timing{Pass: c.ReconcileInterval, Cycle: c.AuditCycle, TrustedGrace: 3 * c.PingInterval},
		Deadline: c.AuditDeadline, Now: time.Now, Rand: rand.Reader, Log: n.log,
	})
	if errors.Is(err, member.ErrDamaged) {
		return damagedLedger(home, err)
	}
	if err != nil {
		return err
	}
	n.closers = append(n.closers, n.swarm.Close)
	n.origin.Copies = wants.Copies(n.swarm.Keeper())
	n.edge.Damaged, n.edge.Sound = n.swarm.Keeper().Found, n.swarm.Keeper().Sound
	if n.node.Bare() {
		n.log.Warn("the folder of the blocks is missing: what peers hold is fetched again, what they do not is lost, as musen status will say")
		n.swarm.Keeper().DoubtOwn()
	}
	return nil
}

// stations is the catalogue's stations; a change of what copies one wants
// reaches its segments at once. On an edge keeper is nil: the origin comes upon
// the change when it next compares all.
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
	if err := s.Catalog.UpdateStation(ctx, st); err != nil || old.Replication == st.Replication || s.keeper == nil {
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
