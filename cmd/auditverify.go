package cmd

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musenai/musen/catalog"
	"github.com/musenai/musen/config"
	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/internal/audit"
)

func (a *app) auditVerify() *cobra.Command {
	var checkpoints []string
	var key string
	c := &cobra.Command{
		Use: "verify [--checkpoint FILE]... [--key KEY]", Short: "Check that no record was changed, taken out or cut off",
		Long: `verify reads the audit log in the home, whether or not the node runs, and names the first
record that is not as it was written. What the catalogue knows of the log is compared, and
checkpoints that were kept elsewhere: without those, nobody can tell whether the log and
the catalogue were put back together.`,
		Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			home, err := a.homeDir()
			if err != nil {
				return err
			}
			cfg, err := loadConfig(home, nil)
			if err != nil {
				return err
			}
			if !cfg.HasKeys() {
				return hostsHome(home, cfg.Role)
			}
			if key != "" && len(checkpoints) == 0 {
				return usageError("--key is for checkpoints: name some with --checkpoint")
			}
			v := verifier{home: home, cfg: cfg, key: strings.TrimSpace(key)}
			known, err := v.checkpoints(checkpoints)
			if err != nil {
				return err
			}
			head, err := v.catalogue(c.Context())
			if err == nil && head.Size > 0 {
				known = append(known, audit.Known{Head: head, Where: "the catalogue"})
			}
			if err != nil {
				fmt.Fprintf(a.stderr, "musen: not compared with what the catalogue knows: %v\n", err)
			}
			r, err := audit.Verify(filepath.Join(home, auditDir), known...)
			if err != nil {
				return err
			}
			return a.printAudit(r, known)
		},
	}
	c.Flags().StringArrayVar(&checkpoints, "checkpoint", nil, "a `FILE` with a checkpoint that was kept")
	c.Flags().StringVar(&key, "key", "", "the `KEY` of the checkpoints, the line that musen audit checkpoint --key printed (default: the keyring's)")
	return c
}

// verified is what verify found, as JSON.
type verified struct {
	Records  uint64   `json:"records"`
	Head     string   `json:"head"`
	Files    int      `json:"files"`
	Torn     int      `json:"torn,omitempty"`
	Compared []string `json:"compared"`
	Faults   []string `json:"faults"`
}

func (a *app) printAudit(r audit.Report, known []audit.Known) error {
	out := verified{Records: r.Head.Size, Head: hex.EncodeToString(r.Head.Hash[:]), Files: r.Files, Torn: r.Torn, Compared: []string{}, Faults: []string{}}
	for _, k := range known {
		out.Compared = append(out.Compared, k.Where)
	}
	for _, f := range r.Faults {
		out.Faults = append(out.Faults, f.String())
	}
	if a.json {
		if err := a.printJSON(out); err != nil {
			return err
		}
	} else {
		for _, f := range out.Faults {
			fmt.Fprintln(a.stdout, printable(f))
		}
		if r.Torn > 0 {
			fmt.Fprintf(a.stdout, "the last %d bytes are a record that was not written whole, or is being written\n", r.Torn)
		}
	}
	if len(out.Faults) > 0 {
		return &failure{exit: exitDamaged, code: "audit_log", what: "the audit log is not as it was written: " + out.Faults[0],
			next: "keep a copy of the folder " + auditDir + " as it is, and find out who could write there"}
	}
	if !a.json {
		compared := ""
		if len(out.Compared) > 0 {
			compared = ", and what was kept in " + strings.Join(out.Compared, ", ") + " is in it"
		}
		fmt.Fprintf(a.stdout, "%s in %s: as they were written%s\n", several(int64(r.Head.Size), "record"), several(int64(r.Files), "file"), compared)
	}
	return nil
}

// A verifier finds what to compare an audit log with.
type verifier struct {
	home string
	cfg  config.Config
	key  string // of checkpoints; empty: the keyring's
}

// checkpoints reads those in files, and verifies their signatures.
func (v verifier) checkpoints(files []string) (known []audit.Known, err error) {
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, &failure{exit: exitUsage, code: "no_file", cause: err, next: "name a file that `musen audit checkpoint` printed"}
		}
		key := v.key
		if key == "" {
			keys, err := openKeyring(v.cfg)
			if err != nil {
				return nil, err
			}
			if key, err = audit.VerifierKey(audit.CheckpointOrigin(string(text)), keys.AuditKey().Public().(ed25519.PublicKey)); err != nil {
				return nil, badCheckpoint(file, err)
			}
		}
		c, err := audit.OpenCheckpoint(string(text), key)
		if err != nil && v.key != "" {
			return nil, badCheckpoint(file, fmt.Errorf("with the key of --key, which is the line that musen audit checkpoint --key printed: %w", err))
		}
		if err != nil {
			return nil, badCheckpoint(file, err)
		}
		if peer, err := peerOf(v.home); err == nil && !strings.HasSuffix(c.Origin, "/"+peer) {
			return nil, badCheckpoint(file, fmt.Errorf("it is of the log of another node, %s", c.Origin))
		}
		known = append(known, audit.Known{Head: c.Head, Where: file})
	}
	return known, nil
}

func badCheckpoint(file string, err error) error {
	return &failure{exit: exitUsage, code: "bad_checkpoint", cause: fmt.Errorf("read the checkpoint %s: %w", file, err), next: "name a file that `musen audit checkpoint` printed, of this node"}
}

// catalogue is the head that the catalogue knows, which the running node tells,
// or else is looked up.
func (v verifier) catalogue(ctx context.Context) (head audit.Head, err error) {
	api := client.New(v.cfg.Admin.Socket)
	defer api.Close()
	p, err := api.AuditCheckpoint(ctx)
	if err == nil && p.Catalogue != nil {
		head, _ = p.Catalogue.Head()
	}
	if err == nil {
		return head, nil
	}
	if !errors.Is(err, client.ErrNotRunning) {
		return head, err
	}
	keys, err := openKeyring(v.cfg)
	if err != nil {
		return head, err
	}
	peer, err := peerOf(v.home)
	if err != nil {
		return head, err
	}
	rows, err := openCatalog(ctx, v.home, v.cfg, keys, func(*catalog.Options) {})
	if err != nil {
		return head, err
	}
	head, err = keptHead(ctx, rows, auditOrigin(keys.Realm(), peer))
	return head, errors.Join(err, rows.Close())
}

// peerOf is the peer ID of the node of a home.
func peerOf(home string) (string, error) {
	b, err := os.ReadFile(filepath.Join(home, nodeDir, "config"))
	if err != nil {
		return "", err
	}
	var c struct{ Identity struct{ PeerID string } }
	if err := json.Unmarshal(b, &c); err != nil {
		return "", err
	}
	return c.Identity.PeerID, nil
}
