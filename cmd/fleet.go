package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog"
	"github.com/musenai/musen/catalog/ledger"
	"github.com/musenai/musen/config"
	"github.com/musenai/musen/gateway/admin"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/gateway/problem"
	"github.com/musenai/musen/internal/keyring"
	"github.com/musenai/musen/node"
)

// lookAround is how often a gateway looks who else is in the fleet.
const lookAround = 2 * time.Second

// isEdge reports whether the node only reads: an origin adds.
func (n *runningNode) isEdge() bool { return n.cfg.Role == config.RoleEdge }

// guard closes the node to all but its peers, and to them what is denied.
func (n *runningNode) guard(o *node.Options) {
	o.Denied = &n.denied
	if n.isEdge() {
		n.sources.Guard(o)
		return
	}
	n.swarm.Guard(o)
}

// member is what the node is to others that share its catalogue; nil without
// PostgreSQL.
func (n *runningNode) member() *catalog.Member {
	f := n.cfg.Fleet
	if n.cfg.Catalogue.PostgresFile == "" {
		return nil
	}
	return &catalog.Member{
		ID: blocks{n.node}.PeerID(), Name: f.Name, Role: n.cfg.Role, Addrs: n.node.Addrs,
		Lease: f.Lease, Poll: f.Poll, Changed: n.reloadKeys, TakenDown: n.enforceLater, Log: n.log,
	}
}

// reloadKeys takes over what another process changed in the keyring.
func (n *runningNode) reloadKeys() {
	if err := n.keys.Reload(); err != nil {
		n.log.Error("the keys of stations that the origin made or destroyed are not known", "err", err)
	}
	if c := n.rotated.Load(); c != nil {
		if err := c.refresh(); err != nil {
			n.log.Error("keys of credentials that the origin rotated are not known", "err", err)
		}
	}
}

// openKeyring opens the keyring of a home: to write, or on an edge to read.
func openKeyring(cfg config.Config) (*keyring.Keyring, error) {
	unlock := keyring.Unlock{PassphraseFile: cfg.Keyring.PassphraseFile, IdentityFile: cfg.Keyring.IdentityFile}
	open := keyring.Open
	if cfg.Role == config.RoleEdge {
		open = keyring.OpenReader
	}
	keys, err := open(cfg.Keyring.Folder, unlock)
	if err != nil {
		return nil, &failure{exit: exitDamaged, code: "keyring", cause: err, next: "mend what is said above, or restore the folder " + keysDir + " from the backup; nothing was changed"}
	}
	return keys, nil
}

// openCatalog opens the catalogue of a home, wherever it is; change edits how.
func openCatalog(ctx context.Context, home string, cfg config.Config, keys *keyring.Keyring, change func(*catalog.Options)) (rows *catalog.Catalog, err error) {
	o := catalogOptions(keys, time.Now)
	change(&o)
	if file := cfg.Catalogue.PostgresFile; file != "" {
		rows, err = catalog.OpenPostgres(ctx, file, o)
	} else {
		rows, err = catalog.Open(ctx, filepath.Join(home, catalogFile), o)
	}
	switch {
	case errors.Is(err, catalog.ErrTaken):
		return nil, &failure{exit: exitConflict, code: "another_" + cfg.Role, cause: err, next: "stop the other, which may be a copy of this home; nothing was changed"}
	case err == nil, errors.Is(err, musen.ErrUnavailable), ctx.Err() != nil:
		return rows, err
	case errors.Is(err, ledger.ErrDamaged):
		return nil, damagedTakedowns(err)
	case errors.Is(err, musen.ErrNoSpace):
		return nil, &failure{exit: exitNoSpace, code: "no_space", cause: err, next: "make room on the disk of the catalogue"}
	}
	return nil, &failure{exit: exitDamaged, code: "catalogue", cause: err, next: "the audio was not touched: with the right catalogue in its place the node starts as before"}
}

// createCatalog makes the catalogue of a new home: in a file of it, or in
// PostgreSQL.
func createCatalog(ctx context.Context, home, postgresFile string, keys *keyring.Keyring) (err error) {
	var rows *catalog.Catalog
	o := catalogOptions(keys, time.Now)
	if postgresFile == "" {
		rows, err = catalog.Create(ctx, filepath.Join(home, catalogFile), o)
	} else {
		rows, err = catalog.CreatePostgres(ctx, postgresFile, o)
	}
	switch {
	case err == nil:
		return rows.Close()
	case postgresFile == "":
		return err
	case errors.Is(err, fs.ErrExist):
		return &failure{exit: exitConflict, code: "catalogue_exists", cause: err, next: "name another database; for a further gateway of the one that is there: musen init --edge"}
	}
	return &failure{exit: exitUsage, code: "catalogue", cause: err, next: "make an empty database, owned by the user of the connection string, and put the string in a file of mode 0600"}
}

// alone refuses a second origin that the lock on the catalogue let through: the
// first may have lost it a moment ago, and takes it again.
func (n *runningNode) alone(ctx context.Context) error {
	all, err := n.rows.Gateways(ctx)
	if err != nil {
		return err
	}
	for _, g := range all {
		if g.Role == config.RoleOrigin && !g.Self && !g.Silent {
			return &failure{exit: exitConflict, code: "another_origin", what: "another origin runs on this catalogue: " + firstOf(g.Name, g.ID), next: "a fleet has one: stop it and wait for " + n.cfg.Fleet.Lease.String() + ", or run this home as an edge"}
		}
	}
	return nil
}

// startFleet begins what a node does with others that share its catalogue.
func (n *runningNode) startFleet(ctx context.Context) error {
	if n.cfg.Catalogue.PostgresFile == "" {
		return nil
	}
	all, err := n.rows.Gateways(ctx)
	if err != nil {
		return err
	}
	n.meet(ctx, all)
	run, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	n.closers = append(n.closers, func() error {
		stop()
		<-done
		return nil
	})
	go func() {
		defer close(done)
		n.lookAround(run)
	}()
	return nil
}

// lookAround acts on who comes to the fleet and goes.
func (n *runningNode) lookAround(ctx context.Context) {
	tick := time.NewTicker(lookAround)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if all, err := n.rows.Gateways(ctx); err == nil { // else the lease says so
			n.meet(ctx, all)
		}
		if n.isEdge() {
			n.keepRoom(ctx)
		}
	}
}

// meet connects an edge with the origin, and lets edges in at the origin.
func (n *runningNode) meet(ctx context.Context, all []musen.Gateway) {
	sources := n.cfg.Fleet.Peers
	for _, g := range all {
		switch {
		case n.isEdge() && g.Role == config.RoleOrigin && len(n.cfg.Fleet.Peers) == 0:
			sources = append(sources, g.Addrs...)
		case !n.isEdge() && g.Role == config.RoleEdge:
			if err := n.swarm.AdmitGateway(ctx, g.ID, g.Name); err != nil {
				n.log.Warn("let a gateway fetch blocks", "gateway", firstOf(g.Name, g.ID), "err", err)
			}
		}
	}
	if !n.isEdge() || len(sources) == 0 {
		return
	}
	if err := n.sources.Follow(n.node, sources); err != nil {
		n.log.Error("connect with the nodes that blocks are read from", "err", err)
	}
}

// keepRoom empties the cache of an edge when the room for it is nearly gone: it
// pins nothing, so that everything goes that is not read right now.
func (n *runningNode) keepRoom(ctx context.Context) {
	st, err := n.node.Stat()
	if err == nil && !crowded(st) {
		return
	}
	var blocks int
	var freed int64
	if err == nil {
		blocks, freed, err = n.node.GC(ctx)
	}
	if err != nil && ctx.Err() == nil {
		n.log.Error("make room for blocks that are fetched", "err", err)
		return
	}
	n.log.Info("made room for blocks that are fetched", "blocks", blocks, "bytes", freed)
}

// leastCache is what a cache has at least when it is emptied: where the disk is
// full of something else, emptying it again and again is of no use.
const leastCache = 64 << 20

// crowded reports whether less than a sixteenth of what blocks may take is left.
func crowded(s node.Stat) bool {
	return s.Used > leastCache && s.Room() < (s.Used+s.Room())/16
}

// adds is what takes audio in at this node: the origin, or none.
func (n *runningNode) adds() admin.Origin {
	if n.isEdge() {
		return elsewhere{n.rows}
	}
	return n.origin
}

// elsewhere stands for an origin that is another process: whoever wants to add
// is told where.
type elsewhere struct{ rows *catalog.Catalog }

func (e elsewhere) refuse(ctx context.Context) error {
	where := "the origin of this fleet"
	if all, err := e.rows.Gateways(ctx); err == nil {
		for _, g := range all {
			if g.Role == config.RoleOrigin {
				where = "the origin, " + firstOf(g.Name, g.ID)
			}
		}
	}
	return problem.WithDetail(problem.NotOrigin, fmt.Sprintf("This is an edge, which does not do that. Do it at %s.", where))
}

// CreateStation implements admin.Origin.
func (e elsewhere) CreateStation(ctx context.Context, _ musen.Station) (musen.Station, error) {
	return musen.Station{}, e.refuse(ctx)
}

// RemoveStation implements admin.Origin.
func (e elsewhere) RemoveStation(ctx context.Context, _ string) error { return e.refuse(ctx) }

// Add implements admin.Origin.
func (e elsewhere) Add(ctx context.Context, _ musen.AddRequest, _ io.Reader) (musen.Segment, bool, error) {
	return musen.Segment{}, false, e.refuse(ctx)
}

// Remove implements admin.Origin.
func (e elsewhere) Remove(ctx context.Context, _ cid.Cid) error { return e.refuse(ctx) }

// Enforce implements admin.Origin: the origin hears of it by the catalogue.
func (e elsewhere) Enforce(context.Context, musen.Takedown) error { return nil }

// reached says where a change is in force, after what was changed.
func reached(r *wire.Reach) string {
	if r == nil {
		return ""
	}
	words := fmt.Sprintf("; in force on %d of %d gateways after %s", r.InForce, r.Gateways, (time.Duration(r.Took * float64(time.Second))).Round(100*time.Microsecond))
	if r.Silent > 0 {
		words += fmt.Sprintf(", %d silent and letting nobody in", r.Silent)
	}
	return words
}

// removal is what was removed, as it is printed.
type removal struct {
	Removed string      `json:"removed"`
	Note    string      `json:"note,omitempty"`
	Reach   *wire.Reach `json:"reach,omitempty"`
}

// gatewayFields are the gateways of a fleet for a person.
func gatewayFields(all []wire.Gateway) (fields [][2]string) {
	for _, g := range all {
		words := firstOf(g.Name, g.ID) + " (" + g.Role + ")"
		switch {
		case g.Self:
			words += ", this one"
		case g.Silent:
			words += ", silent since " + when(g.Seen) + ": lets nobody in"
		case g.Behind:
			words += ", behind"
		}
		fields = append(fields, [2]string{"gateway", words})
	}
	return fields
}
