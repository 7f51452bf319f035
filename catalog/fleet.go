package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
)

// A Member is a process in the fleet of those that share one PostgreSQL.
type Member struct {
	ID    string          // peer ID; no other process may have it
	Name  string          // for operators
	Role  string          // origin or edge
	Addrs func() []string // where its node is reached
	Lease time.Duration   // how long it may serve without hearing of changes
	Poll  time.Duration   // how often it asks for changes that it was not told of
	// Changed is called after changes of stations of other processes are in
	// memory; nil: nobody is told.
	Changed func()
	// TakenDown is called with each takedown that another process made or lifted,
	// once it is in memory. It must be quick. nil: nobody is told.
	TakenDown func(t musen.Takedown)
	Log       *slog.Logger
}

// fleet keeps memory up to what other processes commit, tells them how far this
// one is, and knows until when what it holds may be relied on.
type fleet struct {
	Member
	started time.Time
	now     func() time.Time
	asked   atomic.Pointer[time.Time] // when the database was asked what memory now shows
	stop    context.CancelFunc
	running sync.WaitGroup
	nudge   chan struct{} // another look is due
}

// about is what a member tells of itself.
type about struct {
	Name    string   `json:"name"`
	Role    string   `json:"role"`
	Addrs   []string `json:"addrs"`
	Started int64    `json:"started"`
	Lease   int64    `json:"lease"`
}

type gatewayRow struct {
	bun.BaseModel `bun:"table:gateways"`

	ID      string `bun:"id,pk"`
	About   []byte `bun:"about"`
	Seen    int64  `bun:"seen"`
	Applied int64  `bun:"applied"`
}

// A herald is a store that other processes share.
type herald interface {
	// beat records that the member of r is alive and how far it is, and returns
	// the number of the newest change, and the mark of the one up to which the
	// member is. Its time is that of the database.
	beat(ctx context.Context, r gatewayRow) (newest int64, mark string, err error)
	// listen nudges whenever another process may have changed something, until
	// ctx ends. It may miss some.
	listen(ctx context.Context, nudge func(), log *slog.Logger)
	// keepPlace has this process keep its place in the fleet until ctx ends.
	keepPlace(ctx context.Context, every time.Duration)
	// clock is the time of the database.
	clock(ctx context.Context) (time.Time, error)
}

// keepGateways is for how long a member that went away is remembered.
const keepGateways = 7 * 24 * time.Hour

// join makes this process a member. It returns once memory is up to date and
// the others can know.
func (c *Catalog) join(ctx context.Context, h herald, m Member) error {
	f := &fleet{Member: m, started: c.now(), now: c.now, nudge: make(chan struct{}, 1)}
	c.fleet = f
	if err := c.forgetGateways(ctx, h); err != nil {
		return fmt.Errorf("join the fleet: %w", c.store.explain(err))
	}
	if err := c.beat(ctx, h); err != nil {
		return fmt.Errorf("join the fleet: %w", err)
	}
	run, stop := context.WithCancel(context.Background())
	f.stop = stop
	f.running.Go(func() { h.listen(run, f.look, m.Log) })
	f.running.Go(func() { h.keepPlace(run, m.Poll) })
	f.running.Go(func() { c.follow(run, h) })
	return nil
}

// forgetGateways deletes the rows of those that were not heard of for long.
func (c *Catalog) forgetGateways(ctx context.Context, h herald) error {
	now, err := h.clock(ctx)
	if err == nil {
		_, err = c.writer.db.NewDelete().Model((*gatewayRow)(nil)).Where("seen < ?", micros(now.Add(-keepGateways))).Exec(ctx)
	}
	return err
}

// leave ends the membership, so that nobody waits for this process.
func (c *Catalog) leave() {
	if c.fleet == nil || c.fleet.stop == nil {
		return
	}
	c.fleet.stop()
	c.fleet.running.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), c.fleet.Lease)
	defer cancel()
	if _, err := c.writer.db.NewDelete().Model((*gatewayRow)(nil)).Where("id = ?", c.fleet.ID).Exec(ctx); err != nil {
		c.fleet.Log.Warn("the fleet was not told that this gateway stops; it waits for it until its lease is over", "err", c.store.explain(err))
	}
}

// look has the follower look for changes now.
func (f *fleet) look() {
	select {
	case f.nudge <- struct{}{}:
	default:
	}
}

// follow beats whenever it is told that something changed, and each Poll.
func (c *Catalog) follow(ctx context.Context, h herald) {
	f := c.fleet
	tick := time.NewTicker(f.Poll)
	defer tick.Stop()
	var silent bool
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.nudge:
		case <-tick.C:
		}
		err := c.beat(ctx, h)
		if ctx.Err() != nil {
			return
		}
		switch {
		case err != nil && !silent:
			f.Log.Warn("the catalogue cannot be asked for changes; whoever needs a credential is refused when the lease is over", "lease", f.Lease, "err", err)
		case err == nil && silent:
			f.Log.Info("the catalogue can be asked for changes again")
		}
		silent = err != nil
	}
}

// beat tells the others how far this process is, and brings memory up to what
// they changed. Only then the lease begins anew, at the time when it asked.
func (c *Catalog) beat(ctx context.Context, h herald) error {
	f := c.fleet
	ctx, cancel := context.WithTimeout(ctx, f.Lease/2)
	defer cancel()
	for {
		applied, _ := c.mirrors.progress()
		r, err := c.gatewayRow(applied.number)
		if err != nil {
			return err
		}
		asked := f.now()
		newest, mark, err := h.beat(ctx, r)
		if err != nil {
			return c.store.explain(err)
		}
		if newest < applied.number || mark != applied.mark && newest-applied.number < keepMarks {
			return fmt.Errorf("the catalogue lacks change %d, which this gateway had from it: a backup or a standby without the last revocations took its place; make them again and restart this gateway: %w", applied.number, musen.ErrUnavailable)
		}
		if newest > applied.number {
			if err := c.refresh(ctx); err != nil {
				return err
			}
			if f.Changed != nil {
				f.Changed()
			}
		}
		f.asked.Store(&asked)
		if newest == applied.number {
			return nil
		}
	}
}

// gatewayRow is what the others are told of this process.
func (c *Catalog) gatewayRow(applied int64) (r gatewayRow, err error) {
	f := c.fleet
	a := about{Name: f.Name, Role: f.Role, Started: micros(f.started), Lease: int64(f.Lease)}
	if f.Addrs != nil {
		a.Addrs = f.Addrs()
	}
	b, err := json.Marshal(a)
	if err != nil {
		return r, err
	}
	r.ID, r.Applied = f.ID, applied
	r.About, err = c.box.seal(cell{"gateways", r.ID, "about"}, string(b))
	return r, err
}

// Current returns an error that wraps policy.ErrStale while what memory holds
// may be out of date: in a fleet, when the database could not be asked for
// longer than the lease. It is cheap.
func (c *Catalog) Current() error {
	f := c.fleet
	if f == nil {
		return nil
	}
	if asked := f.asked.Load(); asked != nil {
		now := f.now()
		// By both clocks: the monotonic one stands still while a machine sleeps.
		if now.Sub(*asked) <= f.Lease && now.Round(0).Sub(asked.Round(0)) <= f.Lease {
			return nil
		}
	}
	return fmt.Errorf("the catalogue could not be asked for changes for longer than %s: %w", f.Lease, policy.ErrStale)
}

// Gateways are the members of the fleet, as far as they were heard of in the
// last days, by name; none without a fleet.
func (c *Catalog) Gateways(ctx context.Context) ([]musen.Gateway, error) {
	if c.fleet == nil {
		return nil, nil
	}
	all, err := c.gateways(ctx)
	return all, c.failed(err, "list gateways")
}

func (c *Catalog) gateways(ctx context.Context) ([]musen.Gateway, error) {
	now, err := c.store.(herald).clock(ctx)
	if err != nil {
		return nil, err
	}
	var rows []gatewayRow
	err = c.reads.NewSelect().Model(&rows).Where("seen > ?", micros(now.Add(-keepGateways))).Order("id").Scan(ctx)
	if err != nil {
		return nil, err
	}
	_, own := c.mirrors.progress()
	all := make([]musen.Gateway, len(rows))
	for i, r := range rows {
		var a about
		text, err := c.box.open(cell{"gateways", r.ID, "about"}, r.About)
		if err == nil {
			err = json.Unmarshal([]byte(text), &a)
		}
		if err != nil {
			return nil, fmt.Errorf("row of gateway %q: %w", r.ID, err)
		}
		all[i] = musen.Gateway{
			ID: r.ID, Name: a.Name, Role: a.Role, Addrs: a.Addrs, Started: instant(a.Started), Seen: instant(r.Seen),
			Silent: now.Sub(instant(r.Seen)) > time.Duration(a.Lease), Behind: r.Applied < own, Self: r.ID == c.fleet.ID,
		}
		if all[i].Self {
			all[i].Behind = false // its own changes are in its memory
		}
	}
	return all, nil
}

// Settle waits until every gateway has applied all that this process changed,
// or its lease is over so that it refuses until it has. It never waits for
// longer than the longest lease, but for a database that does not answer.
func (c *Catalog) Settle(ctx context.Context) (musen.Reach, error) {
	if c.fleet == nil {
		return musen.Reach{Gateways: 1, InForce: 1}, nil
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		all, err := c.gateways(ctx)
		if err != nil {
			return musen.Reach{}, c.failed(err, "ask how far the gateways are")
		}
		r := musen.Reach{Gateways: len(all)}
		for _, g := range all {
			switch {
			case !g.Behind:
				r.InForce++
			case g.Silent:
				r.Silent++
			}
		}
		if r.InForce+r.Silent == r.Gateways {
			return r, nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
}
