package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

func (a *app) serveCommand() *cobra.Command {
	var o serveOptions
	c := &cobra.Command{
		Use: "serve", Short: "Run the node",
		Long: `serve runs the node of a home, whatever its role, until SIGINT or SIGTERM: then it takes no
more requests, lets streams and adds finish for as long as shutdown_timeout says, and exits
with 0. SIGHUP reads the TLS certificate, the policies and the denylists again.`,
		Args: none,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if o.home, err = a.homeDir(); err != nil {
				return err
			}
			if err = absolute(&o.tlsCert, &o.tlsKey, &o.readyFile); err != nil {
				return err
			}
			o.logTo = a.stderr
			cfg, err := loadConfig(o.home, o.flags())
			if err != nil {
				return err
			}
			if !cfg.HasKeys() {
				return serveHost(c.Context(), o)
			}
			n, err := startNode(c.Context(), o)
			if err != nil {
				return err
			}
			return errors.Join(n.wait(c.Context()), n.stop())
		},
	}
	c.Flags().StringVar(&o.public, "public", "", "host and port of the public listener; port 0 picks one (default: the configuration's)")
	c.Flags().StringVar(&o.admin, "admin", "", "host and port of an admin listener besides the socket, on this machine only")
	c.Flags().StringVar(&o.metrics, "metrics", "", "host and port of the metrics listener, on this machine only")
	c.Flags().StringVar(&o.tlsCert, "tls-cert", "", "file of the TLS certificate chain, PEM")
	c.Flags().StringVar(&o.tlsKey, "tls-key", "", "file of the certificate's private key, PEM")
	c.Flags().StringVar(&o.readyFile, "ready-file", "", "write the addresses to this file, as JSON, once the node is ready")
	return c
}

// absolute makes paths that were typed absolute: in the configuration they
// would be relative to the home.
func absolute(paths ...*string) (err error) {
	for _, p := range paths {
		if *p == "" {
			continue
		}
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	return nil
}

// A readyInfo tells where a node that is ready can be reached. Empty: not
// there.
type readyInfo struct {
	Public  string   `json:"public"`
	Admin   string   `json:"admin"`
	Metrics string   `json:"metrics"`
	Peer    []string `json:"peer"`
}

// write puts the file in its place whole.
func (r readyInfo) write(path string) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".ready-")
	if err != nil {
		return readyFailed(path, err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append(b, '\n'))
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return readyFailed(path, err)
	}
	return nil
}

func readyFailed(path string, err error) error {
	err = fmt.Errorf("write the ready file: %w", err)
	if errors.Is(err, syscall.ENOSPC) {
		return &failure{exit: exitNoSpace, code: "no_space", cause: err, next: "make room on the disk of " + path}
	}
	return &failure{exit: exitUsage, code: "ready_file", cause: err, next: "name a file in a folder that is there and may be written with --ready-file"}
}

// wait returns when ctx ends, or with the error that ended a listener.
func (n *runningNode) wait(ctx context.Context) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-n.failed:
			return err
		case <-hup:
			if err := n.public.ReloadCertificate(); err != nil {
				n.log.Error("read the TLS certificate again; the old one stays", "err", err)
			}
			_ = n.rules.Reload() // it tells by itself
			n.lists.Reload()
		}
	}
}
