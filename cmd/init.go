package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/musenai/musen/catalog"
	"github.com/musenai/musen/config"
	"github.com/musenai/musen/internal/keyring"
	"github.com/musenai/musen/node"
)

// Names in a home.
const (
	configFile   = "config.toml"
	keysDir      = "keys"
	identityFile = "keys/identity.txt"
	nodeDir      = "ipfs"
	catalogFile  = "catalogue.db"
	// takedownsFile has what was taken down, apart from the catalogue.
	takedownsFile = "takedowns"
	adminSocket   = "admin.sock"
)

// initOptions say what unlocks a new keyring: a passphrase in a file, or an
// identity that is generated into a file, in the home unless named. An edge has
// the origin's keyring in place of a new one.
type initOptions struct {
	passphraseFile string
	keyFile        string
	postgresFile   string // empty: the catalogue is a file in the home
	edge           bool
	keys           string // of an edge: the folder of the origin's keyring
}

// A newHome is what init made.
type newHome struct {
	Home   string   `json:"home"`
	PeerID string   `json:"peer_id"`
	Unsafe []string `json:"unsafe"` // what the operator should mend
}

func (a *app) initCommand() *cobra.Command {
	var o initOptions
	c := &cobra.Command{
		Use: "init", Short: "Make a home for a node",
		Long: `init makes the home folder: configuration, identity, IPFS repository, catalogue and
keyring, for its owner alone. A folder that holds anything already is not touched.
The keyring opens with the passphrase in --passphrase-file, or with a key file that
init generates.

With --catalogue-postgres-file the catalogue is made in PostgreSQL, so that further
gateways can share it. Each of them is made with --edge: it has the same catalogue, and
the keyring that is there already, shared or copied.`,
		Args: none,
		RunE: func(*cobra.Command, []string) error {
			home, err := a.homeDir()
			if err != nil {
				return err
			}
			made, err := initHome(home, o)
			if err != nil {
				return err
			}
			return a.printHome(made)
		},
	}
	c.Flags().StringVar(&o.passphraseFile, "passphrase-file", "", "a file, mode 0600, whose first line is the keyring's passphrase")
	c.Flags().StringVar(&o.keyFile, "key-file", "", "where the generated key file goes (default: "+identityFile+" in the home); with --edge the one that is there")
	c.Flags().StringVar(&o.postgresFile, "catalogue-postgres-file", "", "a file, mode 0600, with the connection string of the PostgreSQL database for the catalogue")
	c.Flags().BoolVar(&o.edge, "edge", false, "a further gateway on the catalogue and the keyring of an origin")
	c.Flags().StringVar(&o.keys, "keys", "", "with --edge: the folder of the origin's keyring, shared or copied")
	return c
}

func (a *app) printHome(made newHome) error {
	if a.json {
		return a.printJSON(made)
	}
	fmt.Fprintf(a.stdout, "made a home in %s\npeer ID %s\n", made.Home, made.PeerID)
	for _, line := range made.Unsafe {
		fmt.Fprintf(a.stdout, "still unsafe: %s\n", line)
	}
	fmt.Fprintln(a.stdout, "\nstart the node with: "+a.serveLine())
	return nil
}

// serveLine is the command that starts the node of the home that was named.
func (a *app) serveLine() string {
	if a.home == "" {
		return "musen serve"
	}
	home := a.home
	if strings.IndexFunc(home, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("/._-+:@%,=~", r))
	}) >= 0 {
		home = "'" + strings.ReplaceAll(home, "'", `'\''`) + "'"
	}
	return "musen --home " + home + " serve"
}

// initHome makes a home beside its final place and moves it there, so that a
// home is there whole or not at all.
func initHome(home string, o initOptions) (made newHome, err error) {
	if err := checkEmpty(home); err != nil {
		return made, err
	}
	if err := checkPath(home); err != nil {
		return made, err
	}
	ownerOnly()
	parent := filepath.Dir(home)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return made, initFailed(home, err)
	}
	draft, err := os.MkdirTemp(parent, ".musen-init-")
	if err != nil {
		return made, initFailed(home, err)
	}
	defer func() {
		os.RemoveAll(draft)
		err = inPlaceOf(draft, home, err)
	}()
	made = newHome{Home: home}
	if made.PeerID, err = fillHome(draft, home, o); err != nil {
		return made, initFailed(home, err)
	}
	if err := os.Mkdir(filepath.Join(draft, config.Default().Policy.Dir), 0o700); err != nil {
		return made, initFailed(home, err)
	}
	if err := os.Remove(home); err != nil && !errors.Is(err, os.ErrNotExist) {
		return made, initFailed(home, err) // an empty folder gives way; any other stays
	}
	if err := os.Rename(draft, home); err != nil {
		return made, initFailed(home, err)
	}
	if err := syncDir(parent); err != nil {
		return made, initFailed(home, err)
	}
	made.Unsafe, err = unsafeIn(home)
	return made, err
}

func initFailed(home string, err error) error {
	return fmt.Errorf("make a home in %s: %w", home, err)
}

// inPlaceOf makes an error that names the draft of a home name the home: the
// draft is gone when somebody reads it.
func inPlaceOf(draft, home string, err error) error {
	if err == nil {
		return nil
	}
	f := explain(err)
	f.what, f.cause = strings.ReplaceAll(f.Error(), draft, home), err
	return f
}

// checkPath refuses a home whose admin socket would have too long a path.
func checkPath(home string) error {
	cfg := config.Default()
	cfg.Keyring.IdentityFile, cfg.Admin.Socket = identityFile, filepath.Join(home, adminSocket)
	if err := cfg.Check(); err != nil {
		return &failure{exit: exitUsage, code: "bad_home", cause: initFailed(home, err), next: "give a home with a shorter path with --home"}
	}
	return nil
}

// checkEmpty refuses a home that holds anything.
func checkEmpty(home string) error {
	entries, err := os.ReadDir(home)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case errors.Is(err, syscall.ENOTDIR):
		return &failure{exit: exitConflict, code: "home_exists", what: home + " is, or lies below, what is no folder", next: "give another home with --home", cause: err}
	case err != nil:
		return initFailed(home, err)
	case len(entries) > 0:
		return &failure{exit: exitConflict, code: "home_exists", what: home + " is not empty", next: "it may be a home already: start it with `musen serve`, or give another one with --home"}
	}
	return nil
}

// fillHome makes all that a home holds, in draft; home is where it will lie.
func fillHome(draft, home string, o initOptions) (peerID string, err error) {
	cfg := config.Default()
	if err := o.absolute(); err != nil {
		return "", err
	}
	cfg.Catalogue.PostgresFile = o.postgresFile
	if o.edge {
		return fillEdge(draft, cfg, o)
	}
	unlock, err := newUnlock(draft, home, o, &cfg.Keyring)
	if err != nil {
		return "", err
	}
	if err := keyring.Create(filepath.Join(draft, keysDir), unlock); err != nil {
		return "", o.failed(err)
	}
	keys, err := keyring.Open(filepath.Join(draft, keysDir), unlock)
	if err != nil {
		return "", err
	}
	if err := createCatalog(context.Background(), draft, o.postgresFile, keys); err != nil {
		return "", err
	}
	if peerID, err = node.Init(filepath.Join(draft, nodeDir)); err != nil {
		return "", err
	}
	return peerID, writeConfig(filepath.Join(draft, configFile), cfg)
}

// absolute makes the paths that were typed so, and refuses options that do not
// go together.
func (o *initOptions) absolute() error {
	switch {
	case !o.edge && o.keys != "":
		return usageError("--keys names the keyring of an origin for an edge: give --edge too")
	case o.edge && (o.keys == "" || o.postgresFile == "" || (o.passphraseFile == "") == (o.keyFile == "")):
		return usageError("an edge needs --keys, --catalogue-postgres-file, and --passphrase-file or --key-file")
	}
	return absolute(&o.keys, &o.postgresFile)
}

// fillEdge makes the home of an edge. It opens keyring and catalogue, so that a
// mistake shows now.
func fillEdge(draft string, cfg config.Config, o initOptions) (peerID string, err error) {
	cfg.Role, cfg.Keyring = config.RoleEdge, config.Keyring{Folder: o.keys, PassphraseFile: o.passphraseFile, IdentityFile: o.keyFile}
	if err := absolute(&cfg.Keyring.PassphraseFile, &cfg.Keyring.IdentityFile); err != nil {
		return "", err
	}
	keys, err := openKeyring(cfg)
	if err != nil {
		return "", err
	}
	rows, err := openCatalog(context.Background(), draft, cfg, keys, func(*catalog.Options) {})
	if err != nil {
		return "", err
	}
	if err := rows.Close(); err != nil {
		return "", err
	}
	if peerID, err = node.Init(filepath.Join(draft, nodeDir)); err != nil {
		return "", err
	}
	return peerID, writeConfig(filepath.Join(draft, configFile), cfg)
}

// failed says what to do about a keyring that cannot be made.
func (o initOptions) failed(err error) error {
	if errors.Is(err, syscall.ENOSPC) || o.passphraseFile == "" {
		return err
	}
	return &failure{exit: exitUsage, code: "passphrase", cause: err, next: "give a file of mode 0600, yours, whose first line is a passphrase of at least 12 characters"}
}

// newUnlock chooses what opens the keyring and says so in the configuration. A
// generated key file in the home is named relative to it.
func newUnlock(draft, home string, o initOptions, cfg *config.Keyring) (u keyring.Unlock, err error) {
	switch {
	case o.passphraseFile != "" && o.keyFile != "":
		return u, usageError("give --passphrase-file or --key-file, not both")
	case o.passphraseFile != "":
		u.PassphraseFile, err = filepath.Abs(o.passphraseFile)
		cfg.PassphraseFile = u.PassphraseFile
		return u, err
	case o.keyFile != "":
		if u.IdentityFile, err = filepath.Abs(o.keyFile); err != nil {
			return u, err
		}
		cfg.IdentityFile = u.IdentityFile
	default:
		u.IdentityFile, cfg.IdentityFile = filepath.Join(draft, identityFile), identityFile
		if err := os.Mkdir(filepath.Join(draft, keysDir), 0o700); err != nil {
			return u, err
		}
	}
	err = keyring.GenerateIdentity(u.IdentityFile)
	switch {
	case errors.Is(err, os.ErrExist):
		err = &failure{exit: exitConflict, code: "key_file_exists", cause: err, next: "name a file that is not there with --key-file"}
	case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission):
		err = &failure{exit: exitUsage, code: "key_file", cause: err, next: "name a file in a folder that is there and is yours with --key-file"}
	}
	return u, err
}

func writeConfig(path string, cfg config.Config) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(cfg.WriteTOML(f), f.Sync(), f.Close(), syncDir(filepath.Dir(path)))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// unsafeIn lists what an operator should still mend in a home.
func unsafeIn(home string) ([]string, error) {
	cfg, err := loadConfig(home, nil)
	if err != nil {
		return nil, err
	}
	keys, err := openKeyring(cfg)
	if err != nil {
		return nil, err
	}
	lines := keys.Unsafe()
	if cfg.Public.TLSCert == "" {
		lines = append(lines, "the public listener has no TLS, so it serves this machine only: set public.tls_cert and public.tls_key, or public.trusted_proxies, before you open it to others")
	}
	return lines, nil
}
