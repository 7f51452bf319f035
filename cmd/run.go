package cmd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog"
	"github.com/musenai/musen/catalog/ledger"
	"github.com/musenai/musen/config"
	"github.com/musenai/musen/gateway"
	"github.com/musenai/musen/gateway/admin"
	"github.com/musenai/musen/internal/audit"
	"github.com/musenai/musen/internal/deny"
	"github.com/musenai/musen/internal/denylist"
	"github.com/musenai/musen/internal/fleet"
	"github.com/musenai/musen/internal/keyring"
	"github.com/musenai/musen/internal/swarm"
	"github.com/musenai/musen/internal/watch"
	"github.com/musenai/musen/node"
	"github.com/musenai/musen/policy/folder"
)

// serveOptions say how a node is run. Empty addresses and files are the
// configuration's.
type serveOptions struct {
	home            string
	public          string
	admin           string
	metrics         string
	tlsCert, tlsKey string
	readyFile       string
	logTo           io.Writer    // where a log as configured goes
	log             *slog.Logger // instead of that
}

// flags are the options as settings.
func (o serveOptions) flags() map[string]string {
	f := map[string]string{}
	for key, value := range map[string]string{
		"public.address": o.public, "admin.address": o.admin, "metrics.address": o.metrics,
		"public.tls_cert": o.tlsCert, "public.tls_key": o.tlsKey,
	} {
		if value != "" {
			f[key] = value
		}
	}
	return f
}

// A runningNode is a whole node: origin and edge over Kubo, catalogue and
// keyring, and its listeners.
type runningNode struct {
	cfg   config.Config
	log   *slog.Logger
	ready readyInfo

	node        *node.Node
	keys        *keyring.Keyring
	rows        *catalog.Catalog
	takedowns   *ledger.Ledger
	enforced    chan musen.Takedown // of other gateways, for the origin to act on
	gate        gate
	credentials *credentials
	rotated     atomic.Pointer[credentials] // the same, for who hears of a rotation
	rules       *folder.Folder
	audit       *audit.Log
	lists       *denylist.List
	denied      deny.Sources // what is served to nobody: by lists, and by what joins it
	auditWatch  *auditWatch
	home        string
	watch       *watch.Watch
	alarm       *alarm
	origin      *musen.Origin
	edge        *musen.Edge
	swarm       *swarm.Swarm   // of an origin
	sources     *fleet.Sources // of an edge

	public  *gateway.Server
	admin   *admin.Server
	metrics *http.Server

	failed   chan error     // a listener that ended by itself
	closers  []func() error // run last to first
	readyOut string
}

// startNode starts the node of a home. When it returns the node is ready, and
// must be stopped; on an error nothing is left running.
func startNode(ctx context.Context, o serveOptions) (n *runningNode, err error) {
	ownerOnly()
	n = &runningNode{log: o.log, failed: make(chan error, 4), enforced: make(chan musen.Takedown, 1024)}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
			n = nil
		}
	}()
	if n.cfg, err = loadConfig(o.home, o.flags()); err != nil {
		return n, err
	}
	if n.log == nil {
		n.log = newLog(o.logTo, n.cfg.Log)
	}
	if err = n.openStores(ctx, o.home); err != nil {
		return n, err
	}
	if err = n.makeFlows(); err != nil {
		return n, err
	}
	if err = n.startRole(ctx, o.home); err != nil {
		return n, err
	}
	if err = n.startWatch(); err != nil {
		return n, err
	}
	n.closers = append(n.closers, follow(n.lists))
	n.startReports()
	if err = n.listen(o.home); err != nil {
		return n, err
	}
	n.watchAudit()
	if o.readyFile != "" {
		n.readyOut = o.readyFile
		if err = n.ready.write(o.readyFile); err != nil {
			return n, err
		}
	}
	n.log.Info("ready", "public", n.ready.Public, "admin", n.ready.Admin, "metrics", n.ready.Metrics, "version", version())
	return n, nil
}

// startRole starts what an origin does besides serving, and what any node does
// with others that share its catalogue.
func (n *runningNode) startRole(ctx context.Context, home string) error {
	if n.isEdge() {
		return n.startFleet(ctx)
	}
	if err := n.alone(ctx); err != nil { // recovery would undo the adds of another
		return err
	}
	if err := n.origin.Recover(ctx); err != nil {
		return err
	}
	if err := n.startSwarm(ctx, home); err != nil {
		return err
	}
	n.enforceTakedowns()
	return n.startFleet(ctx)
}

// openStores opens what lies on the disk. The IPFS repository comes first: its
// lock is the lock of the home.
func (n *runningNode) openStores(ctx context.Context, home string) (err error) {
	if err = n.openDenied(); err != nil {
		return err
	}
	n.swarm, n.sources = swarm.New(), fleet.New()
	if n.node, err = openNode(ctx, home, n.cfg.Node, n.log, n.guard); err != nil {
		return err
	}
	n.closers = append(n.closers, n.node.Close)
	if n.keys, err = openKeyring(n.cfg); err != nil {
		return err
	}
	n.keys.LogTo(n.log)
	if n.takedowns, err = openTakedowns(home); err != nil {
		return err
	}
	n.closers = append(n.closers, n.takedowns.Close)
	n.rows, err = openCatalog(ctx, home, n.cfg, n.keys, func(o *catalog.Options) {
		o.Member, o.Ledger, o.Log = n.member(), n.takedowns, n.log
	})
	if err != nil {
		return err
	}
	n.denied.Add(n.rows)
	n.closers = append(n.closers, n.rows.Close)
	if err = n.openAudit(ctx, home); err != nil {
		return err
	}
	if err = n.openGate(); err != nil {
		return err
	}
	n.watchPolicies()
	n.recordStart()
	n.followUses()
	return nil
}

// watchPolicies loads policies again when they change, until the node stops.
func (n *runningNode) watchPolicies() {
	n.rules = folder.New(folder.Options{Place: n.gate.place, Engine: n.gate.engine, Now: time.Now, Log: n.log, Changed: n.recordPolicy})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := n.rules.Watch(ctx); err != nil {
			n.log.Warn("policies that change are read on SIGHUP only", "err", err)
		}
	}()
	n.closers = append(n.closers, func() error {
		cancel()
		<-ended
		return nil
	})
}

// makeFlows makes the two flows of the node over its stores.
func (n *runningNode) makeFlows() (err error) {
	n.origin = &musen.Origin{
		Records: n.rows, Blocks: blocks{n.node}, Keys: n.keys, MaxSegment: int64(n.cfg.Admin.MaxSegment),
		Rand: rand.Reader, Now: time.Now, Log: n.log,
	}
	asked, err := n.consent()
	if err != nil {
		return err
	}
	n.edge, err = musen.NewEdge(musen.EdgeOptions{
		Directory: n.rows, Blocks: blocks{n.node}, Keys: n.keys, Policy: n.gate.engine, Consent: asked, Denied: &n.denied, Log: n.log,
	})
	return err
}

// listen opens the listeners and serves on them.
func (n *runningNode) listen(home string) error {
	if err := n.servePublic(); err != nil {
		return err
	}
	if err := n.serveAdmin(home); err != nil {
		return err
	}
	n.ready.Peer = n.node.Addrs()
	return n.serveMetrics()
}

func (n *runningNode) servePublic() (err error) {
	p := n.cfg.Public
	n.public, err = gateway.New(gateway.Options{
		Opener: gateway.FromEdge(n.edge), Verifier: n.gate.verifier,
		Blocks: n.node.Offline(), Index: n.rows, Denied: &n.denied, Pages: n.pages(), KeySet: n.credentials.keySet,
		Ready:    func(context.Context) error { return n.rows.Current() },
		CertFile: p.TLSCert, KeyFile: p.TLSKey, Proxies: p.TrustedProxies, ClientHeader: p.ClientHeader, RegionHeader: p.RegionHeader, AppealURL: p.AppealURL,
		PseudonymLife: n.cfg.Limits.PseudonymLife, Rates: rates(n.cfg.Limits), Subjects: n.rows, Watch: n.watch,
		Limits: gateway.Limits{
			Streams: p.MaxStreams, SubjectStreams: p.MaxStreamsPerSubject, LimitedStreams: n.cfg.Limits.LimitedStreams,
			URLBytes: int(p.MaxURL), HeaderBytes: int(p.MaxHeaderBytes), HeaderTimeout: p.ReadHeaderTimeout,
			IdleTimeout: p.IdleTimeout, WriteTimeout: p.WriteStall, Recheck: n.cfg.RecheckInterval,
		},
		Log: n.log, Now: time.Now, Rand: rand.Reader,
	})
	if err != nil && p.TLSCert != "" {
		return &failure{exit: exitUsage, code: "tls", cause: err, next: "check the files that public.tls_cert and public.tls_key name, or --tls-cert and --tls-key"}
	}
	if err != nil {
		return err
	}
	l, err := listenTCP("public", p.Address)
	if err != nil {
		return err
	}
	scheme := "http://"
	if p.TLSCert != "" {
		scheme = "https://"
	}
	n.ready.Public = scheme + l.Addr().String()
	n.serve(func() error { return n.public.Serve(l) })
	return nil
}

// pages are the parts of the routes for people.
func (n *runningNode) pages() *gateway.Pages {
	base, _ := url.Parse(n.cfg.Public.BaseURL) // the configuration was checked
	return &gateway.Pages{
		Shares: n.rows, Library: n.rows, Policy: n.gate.engine, Minter: n.gate.issuer,
		Passwords: n.gate.passwords, LinkTTL: n.cfg.Policy.LinkTTL, Base: strings.TrimSuffix(base.EscapedPath(), "/"),
		Reports: n.rows, KeepReports: n.cfg.Reports.Keep, Guidelines: n.cfg.Reports.Guidelines,
	}
}

// rates are the limits on requests as configured.
func rates(l config.Limits) gateway.Rates {
	return gateway.Rates{
		Client: l.Client, Refused: l.Refused, Sealed: l.Sealed, Credential: l.Credential,
		Subject: l.Subject, Share: l.Share, Station: l.Station, Limited: l.Limited, Burst: l.Burst,
	}
}

func (n *runningNode) serveAdmin(home string) (err error) {
	o := admin.Options{
		Takedowns: n.rows,
		Stations:  stations{n.rows, n.swarm.Keeper()}, Segments: n.rows, Tokens: n.rows, Keys: n.credentials,
		Subjects: n.rows, Receipts: n.rows, Roles: n.rows, Alerts: n.watch,
		Approvals: n.rows, Audit: n.audit,
		Shares: n.rows, Passwords: n.gate.passwords, Denied: &n.denied, Denylists: n.lists,
		AuditHeads: n.audit, AuditState: n.auditWatch.state(n.audit),
		Reviews: n.rows, Uses: n.rows,
		Reports: n.rows,
		Origin:  n.adds(), Checker: checker{n.edge, mender{n.node, n.rows}}, Node: blocks{n.node},
		Engine: n.gate.engine, Verifier: n.gate.verifier, Issuer: n.gate.issuer,
		Digest: func() hash.Hash { return n.keys.Lookup() }, Now: time.Now, Rand: rand.Reader, Log: n.log,
		Policies: n.rules, Version: version(), Realm: n.keys.Realm(), PublicURL: firstOf(n.cfg.Public.BaseURL, n.ready.Public),
		MaxSegment: int64(n.cfg.Admin.MaxSegment), Runners: runners(n.cfg.Issuers),
		Limits: admin.Limits{
			ReviewEvery: n.cfg.Policy.ReviewEvery, AuditReviewEvery: n.cfg.Audit.ReviewEvery,
			ReviewWithin: n.cfg.Reports.ReviewWithin,
			LinkTTL:      n.cfg.Policy.LinkTTL, MaxTokenTTL: n.cfg.Policy.MaxTokenTTL,
			ShareTTL: n.cfg.Share.TTL, SessionTTL: n.cfg.Share.SessionTTL,
		},
	}
	if !n.isEdge() {
		o.Members, o.Invites, o.Services = members{n.swarm}, members{n.swarm}, services{n.swarm.Services()}
		o.Copies = health{n.swarm.Keeper(), n.swarm.Ledger(), n.swarm}
	}
	if n.cfg.Catalogue.PostgresFile != "" {
		o.Fleet = n.rows
	}
	if n.admin, err = admin.New(o); err != nil {
		return err
	}
	socket, err := admin.ListenUnix(n.cfg.Admin.Socket)
	if err != nil {
		return err
	}
	n.serve(func() error { return n.admin.Serve(socket, admin.Local) })
	n.ready.Admin = "unix:" + n.cfg.Admin.Socket
	if n.cfg.Admin.Address == "" {
		return nil
	}
	l, err := listenTCP("admin", n.cfg.Admin.Address)
	if err != nil {
		return err
	}
	n.ready.Admin = "http://" + l.Addr().String()
	n.serve(func() error { return n.admin.Serve(l, admin.Bearer) })
	return nil
}

// listenTCP listens, and says which setting to change when it cannot.
func listenTCP(section, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, &failure{exit: exitConflict, code: "listen", cause: fmt.Errorf("open the %s listener: %w", section, err), next: "stop what listens there, or give another address with --" + section + " (port 0 picks a free one)"}
	}
	return l, nil
}

// serve runs a listener until it is shut down.
func (n *runningNode) serve(run func() error) {
	go func() {
		if err := run(); err != nil {
			n.failed <- err
		}
	}()
}

// stop drains the listeners, then closes the stores. Streams and adds that are
// not done when shutdown_timeout is over are cut; that is no error.
func (n *runningNode) stop() error {
	n.log.Info("stopping", "within", n.cfg.ShutdownTimeout)
	return n.close()
}

func (n *runningNode) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), n.cfg.ShutdownTimeout)
	defer cancel()
	var errs []error
	if n.readyOut != "" {
		os.Remove(n.readyOut)
	}
	drained := make(chan error, 3)
	shutdowns := n.shutdowns()
	for _, shutdown := range shutdowns {
		go func() { drained <- shutdown(ctx) }()
	}
	for range shutdowns {
		if err := <-drained; err != nil && !errors.Is(err, context.DeadlineExceeded) {
			errs = append(errs, err)
		}
	}
	for i := len(n.closers) - 1; i >= 0; i-- {
		errs = append(errs, n.closers[i]())
	}
	return errors.Join(errs...)
}

// shutdowns are those of the listeners that were made.
func (n *runningNode) shutdowns() (all []func(context.Context) error) {
	if n.public != nil {
		all = append(all, n.public.Shutdown)
	}
	if n.admin != nil {
		all = append(all, n.admin.Shutdown)
	}
	if n.metrics != nil {
		all = append(all, n.metrics.Shutdown)
	}
	return all
}
