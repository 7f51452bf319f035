package cmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/musenai/musen/config"
	"github.com/musenai/musen/gateway/admin"
	"github.com/musenai/musen/internal/denylist"
	"github.com/musenai/musen/internal/host"
	"github.com/musenai/musen/internal/host/local"
	"github.com/musenai/musen/node"
	"github.com/musenai/musen/pin"
	"github.com/musenai/musen/pin/member"
)

// A runningHost is the node of a home without keys, and the socket of its
// commands.
type runningHost struct {
	cfg      config.Config
	log      *slog.Logger
	host     *host.Host
	lists    *denylist.List
	unfollow func() error // lists
	commands *local.Server
	failed   chan error
	readyOut string
}

// hostFlags are the options as settings of a home without keys.
func (o serveOptions) hostFlags() (map[string]string, error) {
	if o.admin != "" || o.metrics != "" {
		return nil, usageError("a home without keys has no admin or metrics listener: leave out --admin and --metrics")
	}
	f := map[string]string{}
	for key, value := range map[string]string{"replica.address": o.public, "replica.tls_cert": o.tlsCert, "replica.tls_key": o.tlsKey} {
		if value != "" {
			f[key] = value
		}
	}
	return f, nil
}

// startHost starts the node of a storage or replica home. When it returns the
// node is ready, and must be stopped; on an error nothing is left running.
func startHost(ctx context.Context, o serveOptions) (n *runningHost, err error) {
	ownerOnly()
	n = &runningHost{log: o.log, failed: make(chan error, 2)}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.stop())
			n = nil
		}
	}()
	flags, err := o.hostFlags()
	if err != nil {
		return n, err
	}
	if n.cfg, err = loadConfig(o.home, flags); err != nil {
		return n, err
	}
	if n.log == nil {
		n.log = newLog(o.logTo, n.cfg.Log)
	}
	if err = n.open(ctx, o.home); err != nil {
		return n, err
	}
	if err = n.listen(); err != nil {
		return n, err
	}
	ready := readyInfo{Public: n.host.HTTP(), Admin: "unix:" + n.cfg.Replica.Socket, Peer: n.host.Peer()}
	if o.readyFile != "" {
		n.readyOut = o.readyFile
		if err = ready.write(o.readyFile); err != nil {
			return n, err
		}
	}
	n.log.Info("ready", "role", n.cfg.Role, "public", ready.Public, "commands", ready.Admin, "version", version())
	return n, nil
}

// open opens the host of a home.
func (n *runningHost) open(ctx context.Context, home string) error {
	if err := host.CheckHome(home); err != nil {
		return damagedHome(home, err)
	}
	book, err := member.OpenBook(filepath.Join(home, host.MembershipFile))
	if err != nil {
		return err
	}
	if role := string(book.Membership().Role); role != n.cfg.Role {
		return &failure{exit: exitUsage, code: "role", what: fmt.Sprintf("this home has joined as a %s, and its configuration says %s", role, n.cfg.Role), next: "set role in " + configFile + " to what it joined as"}
	}
	if n.lists, err = openDenylists(n.cfg.Denylist, n.log, nil, nil); err != nil {
		return err
	}
	o := host.Options{
		Book: book, Lists: n.lists, ContractFile: filepath.Join(home, host.ContractFile), Node: n.nodeOptions(home),
		Timing: host.Timing{
			Pin:       pin.Timing{Ping: n.cfg.Pin.PingInterval, Check: n.cfg.Pin.PingInterval},
			ScrubRate: int64(n.cfg.Pin.ScrubRate),
		},
		Version: version(), Now: time.Now, Log: n.log,
	}
	if r := n.cfg.Replica; r.Address != "" {
		l, err := listenTCP("public", r.Address)
		if err != nil {
			return err
		}
		o.HTTP = &host.HTTP{Listener: l, CertFile: r.TLSCert, KeyFile: r.TLSKey}
	}
	n.unfollow = follow(n.lists)
	n.host, err = host.Open(ctx, o)
	var broken *host.Damage
	switch {
	case errors.Is(err, node.ErrLocked):
		return &failure{exit: exitConflict, code: "home_in_use", what: "another node runs in " + home, next: "stop it first, or give this one a home of its own with --home", cause: err}
	case errors.As(err, &broken):
		return damagedHome(home, err)
	}
	return err
}

// damagedHome says what to do about a home that is lost or broken in part.
func damagedHome(home string, err error) error {
	next := "restore it"
	var d *host.Damage
	if errors.As(err, &d) {
		next = "restore " + d.Part + " in " + home
	}
	next += ", if there is a copy; or ask for another invite, and join anew with an empty home: what this one held is elsewhere too, and is fetched again"
	if d != nil && d.Part == host.ContractFile {
		role := config.RoleReplica
		if cfg, err := loadConfig(home, nil); err == nil {
			role = cfg.Role
		}
		next = "say again all that this host offers, with the node stopped: `" + offerAll(role) + "`"
	}
	return &failure{exit: exitDamaged, code: "damaged_home", cause: err, next: next}
}

func (n *runningHost) nodeOptions(home string) node.Options {
	c := n.cfg.Node
	cache := int64(c.BlockCache)
	if cache == 0 {
		cache = -1 // the setting 0B means none
	}
	return node.Options{
		Dir: filepath.Join(home, host.NodeDir), Listen: c.Listen, Announce: c.Announce, Relay: c.Relay, Relays: c.Relays,
		StorageMax: int64(c.StorageMax), CacheBytes: cache, FetchTimeout: c.FetchTimeout, Logger: n.log,
	}
}

// listen opens the socket of the commands.
func (n *runningHost) listen() error {
	l, err := admin.ListenUnix(n.cfg.Replica.Socket)
	if err != nil {
		return err
	}
	n.commands = local.NewServer(n.host, n.log)
	go func() {
		if err := n.commands.Serve(l); err != nil {
			n.failed <- err
		}
	}()
	return nil
}

// wait returns when ctx ends, or with the error that ended a listener.
func (n *runningHost) wait(ctx context.Context) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-n.failed:
			return err
		case err := <-n.host.Failed():
			return err
		case <-hup:
			if err := n.host.ReloadCertificate(); err != nil {
				n.log.Error("read the TLS certificate again; the old one stays", "err", err)
			}
			n.lists.Reload()
		}
	}
}

// stop drains the listeners and closes the host. Answers that are not sent when
// shutdown_timeout is over are cut; that is no error.
func (n *runningHost) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), n.cfg.ShutdownTimeout)
	defer cancel()
	if n.readyOut != "" {
		os.Remove(n.readyOut)
	}
	var errs []error
	if n.commands != nil {
		if err := n.commands.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			errs = append(errs, err)
		}
	}
	if n.host != nil {
		errs = append(errs, n.host.Drain(ctx), n.host.Close())
	}
	if n.unfollow != nil {
		errs = append(errs, n.unfollow())
	}
	return errors.Join(errs...)
}

// serveHost runs the node of a home without keys until ctx ends.
func serveHost(ctx context.Context, o serveOptions) error {
	n, err := startHost(ctx, o)
	if err != nil {
		return err
	}
	err = n.wait(ctx)
	n.log.Info("stopping", "within", n.cfg.ShutdownTimeout)
	return errors.Join(err, n.stop())
}
