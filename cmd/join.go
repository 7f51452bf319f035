package cmd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musenai/musen"
	"github.com/musenai/musen/config"
	"github.com/musenai/musen/internal/host"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/member"
)

// maxInviteText is longer than any invite.
const maxInviteText = 16 << 10

// joinOptions are what a host says about itself.
type joinOptions struct {
	terms  termFlags
	site   string
	name   string
	listen []string
	http   string
	cert   string
	key    string
}

// A joined says what join made.
type joined struct {
	Home     string            `json:"home"`
	Realm    string            `json:"realm"`
	Role     string            `json:"role"`
	Name     string            `json:"name"`
	Site     string            `json:"site"`
	PeerID   string            `json:"peer_id"`
	Contract contract.Contract `json:"contract"`
}

func (a *app) joinCommand() *cobra.Command {
	var o joinOptions
	c := &cobra.Command{
		Use: "join INVITE|-", Short: "Make a home that carries ciphertext for somebody's stations",
		Long: `join takes the place that an invite offers and makes a home of its role: a replica, which
is trusted with nothing, or a storage node. Neither ever has a key: it stores and serves
sealed audio that it cannot open. The invite is a secret, and works once; with - it is read
from standard input. A folder that holds anything already is not touched.

A replica says what it offers, and its own node keeps to that:

  musen join INVITE --disk 200GB --up 20Mbit --hours 22:00-07:00 --site attic
  musen serve`,
		Args: args("an invite, or - to read it from standard input", 1),
		RunE: func(c *cobra.Command, args []string) error {
			home, err := a.homeDir()
			if err != nil {
				return err
			}
			inv, err := a.readInvite(args[0])
			if err != nil {
				return err
			}
			if err := absolute(&o.cert, &o.key); err != nil {
				return err
			}
			made, err := joinHome(c.Context(), home, inv, o)
			if err != nil {
				return err
			}
			a.warnOfRoom(home, made.Contract, 0)
			return a.printJoined(made)
		},
	}
	o.terms.add(c, "")
	c.Flags().StringVar(&o.site, "site", "", "where this machine is; machines of one site may fail together (the invite may say it already)")
	c.Flags().StringVar(&o.name, "name", "", "what this host is called (the invite may say it already)")
	c.Flags().StringArrayVar(&o.listen, "listen", nil, "multiaddr to listen on for peers, such as /ip4/0.0.0.0/udp/4001/quic-v1; may be repeated (default: loopback)")
	c.Flags().StringVar(&o.http, "http", "", "host and port of a listener that serves ciphertext over HTTP (default: off)")
	c.Flags().StringVar(&o.cert, "tls-cert", "", "file of the TLS certificate chain of that listener, PEM")
	c.Flags().StringVar(&o.key, "tls-key", "", "file of the certificate's private key, PEM")
	return c
}

func (a *app) printJoined(j joined) error {
	if a.json {
		return a.printJSON(j)
	}
	a.printFields([][2]string{
		{"joined", j.Realm}, {"as", j.Role + " " + j.Name}, {"site", j.Site}, {"home", j.Home}, {"peer ID", j.PeerID},
	}...)
	fmt.Fprintln(a.stdout, "\nstart the node with: "+a.serveLine())
	return nil
}

// readInvite reads an invite, which is never shown again. A line that was
// wrapped on its way is taken together.
func (a *app) readInvite(arg string) (member.Invite, error) {
	text := arg
	if arg == "-" {
		b, err := io.ReadAll(io.LimitReader(a.stdin, maxInviteText))
		if err != nil {
			return member.Invite{}, fmt.Errorf("read the invite: %w", err)
		}
		text = string(b)
	}
	if text = strings.Join(strings.Fields(text), ""); text == "" {
		what := "the invite is empty"
		if arg == "-" {
			what += ": there was nothing on standard input"
		}
		return member.Invite{}, &failure{exit: exitUsage, code: "invite", what: what, next: "give the whole line that `musen peer invite` printed; if there is a file of it, see whether that is empty"}
	}
	inv, err := member.ParseInvite(text)
	if err != nil {
		return inv, &failure{exit: exitUsage, code: "invite", cause: err, next: "copy the whole line that `musen peer invite` printed, or ask for another"}
	}
	return inv, nil
}

// joinHome makes a home beside its final place and moves it there, so that a
// home is there whole or not at all. The draft of one that was not finished is
// taken up again: the place may be its already.
func joinHome(ctx context.Context, home string, inv member.Invite, o joinOptions) (made joined, err error) {
	cfg, terms, err := o.check(home, inv)
	if err != nil {
		return made, err
	}
	if err := checkEmpty(home); err != nil {
		return made, err
	}
	ownerOnly()
	parents := absentParents(home)
	if err := os.MkdirAll(filepath.Dir(home), 0o755); err != nil {
		return made, initFailed(home, err)
	}
	draft, fresh, err := openDraft(home, inv)
	if err != nil {
		return made, initFailed(home, err)
	}
	defer func() {
		if err = inPlaceOf(draft, home, err); err != nil {
			removeEmpty(parents) // unless the draft is to be gone on with
		}
	}()
	m, err := host.Join(ctx, draft, inv, member.Offer{Name: o.name, Site: o.site, Contract: terms, Version: version()})
	if err != nil {
		if fresh && errors.Is(err, member.ErrUnknown) || errors.Is(err, member.ErrExpired) || errors.Is(err, member.ErrUsed) {
			os.RemoveAll(draft) // the invite will never be good for it
		}
		return made, joinFailed(inv, err)
	}
	cfg.Pin.Site = m.Site
	if err := finishDraft(draft, home, cfg); err != nil {
		return made, initFailed(home, err)
	}
	return joined{Home: home, Realm: m.Realm, Role: string(m.Role), Name: m.Name, Site: m.Site, PeerID: m.Self.String(), Contract: terms}, nil
}

// check is all that can be wrong before the origin is asked.
func (o joinOptions) check(home string, inv member.Invite) (cfg config.Config, terms contract.Contract, err error) {
	terms, err = o.terms.apply(contract.Contract{})
	switch {
	case err != nil:
		return cfg, terms, err
	case inv.Name != "" && o.name != "" && o.name != inv.Name:
		return cfg, terms, usageError("the invite says that this host is called %q: leave out --name %q, or ask for another invite", inv.Name, o.name)
	case inv.Site != "" && o.site != "" && o.site != inv.Site:
		return cfg, terms, usageError("the invite says that this host is at %q: leave out --site %q, or ask for another invite", inv.Site, o.site)
	case inv.Role == member.Replica && terms.Disk == 0:
		return cfg, terms, usageError("say how much disk this replica may take, such as --disk 200GB")
	case inv.Role == member.Storage && (terms.Hours != contract.Hours{} || len(terms.Label) > 0):
		return cfg, terms, usageError("a storage node is always there for all stations: leave out --hours and --stations")
	}
	cfg = config.Default()
	cfg.Role, cfg.Pin.Site = string(inv.Role), firstOf(inv.Site, o.site)
	cfg.Replica.Address, cfg.Replica.TLSCert, cfg.Replica.TLSKey = o.http, o.cert, o.key
	if len(o.listen) > 0 {
		cfg.Node.Listen = o.listen
	}
	placed := cfg
	placed.Replica.Socket = filepath.Join(home, cfg.Replica.Socket)
	if err := placed.Check(); err != nil {
		return cfg, terms, &failure{exit: exitUsage, code: "usage", cause: err, next: "see `musen join --help`"}
	}
	return cfg, terms, nil
}

// draftPrefix begins the names of the drafts of a home.
func draftPrefix(home string) string { return ".musen-join-" + filepath.Base(home) + "-" }

// absentParents are the folders above a home that are not there, the nearest
// first.
func absentParents(home string) (dirs []string) {
	for dir := filepath.Dir(home); ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
			return dirs
		}
		dirs = append(dirs, dir)
	}
}

// removeEmpty removes folders, each within the next, up to one that holds
// anything.
func removeEmpty(dirs []string) {
	for _, dir := range dirs {
		if os.Remove(dir) != nil {
			return
		}
	}
}

// openDraft makes the draft of a home that joins by an invite, or finds it;
// fresh: it made one. A draft for another invite is of no use any more.
func openDraft(home string, inv member.Invite) (draft string, fresh bool, err error) {
	sum := sha256.Sum256([]byte(inv.ID))
	parent := filepath.Dir(home)
	draft = filepath.Join(parent, draftPrefix(home)+hex.EncodeToString(sum[:8]))
	entries, err := os.ReadDir(parent)
	if err != nil {
		return "", false, err
	}
	for _, e := range entries {
		if old := filepath.Join(parent, e.Name()); strings.HasPrefix(e.Name(), draftPrefix(home)) && old != draft {
			if err := os.RemoveAll(old); err != nil {
				return "", false, err
			}
		}
	}
	if err = os.Mkdir(draft, 0o700); errors.Is(err, os.ErrExist) {
		return draft, false, nil
	}
	return draft, true, err
}

// finishDraft writes the configuration and moves the draft to its place.
func finishDraft(draft, home string, cfg config.Config) error {
	path := filepath.Join(draft, configFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // of an earlier try
	}
	if err := writeConfig(path, cfg); err != nil {
		return err
	}
	if err := os.Remove(home); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // an empty folder gives way; any other stays
	}
	if err := os.Rename(draft, home); err != nil {
		return err
	}
	return syncDir(filepath.Dir(home))
}

// joinFailed says what to do about it.
func joinFailed(inv member.Invite, err error) error {
	next := "check that the origin runs and can be reached from here, and then type the same again: the invite is still good"
	switch {
	case errors.Is(err, member.ErrExpired):
		return &failure{exit: exitRefused, code: "join", what: "the invite expired at " + when(inv.Expires), cause: err, next: "ask the operator for another invite"}
	case errors.Is(err, member.ErrUsed):
		next = "ask the operator for another invite"
	case errors.Is(err, member.ErrUnknown):
		return &failure{exit: exitRefused, code: "join", what: "the origin does not know this invite: it was used, withdrawn or expired", cause: err, next: "ask the operator for another invite"}
	case errors.Is(err, member.ErrTaken):
		next = "give this host another name with --name"
	case errors.Is(err, member.ErrInvite):
		next = "type the same again; if that does not help, ask the operator for another invite"
	}
	return &failure{exit: exitRefusedOr(err), code: "join", cause: err, next: next}
}

// exitRefusedOr is the exit code of an enrolment that failed.
func exitRefusedOr(err error) int {
	for _, refused := range []error{member.ErrExpired, member.ErrUsed, member.ErrInvite, member.ErrTaken, member.ErrInvalid} {
		if errors.Is(err, refused) {
			return exitRefused
		}
	}
	return exitFailed
}

// termFlags are the flags that say what a host offers.
type termFlags struct {
	cmd                       *cobra.Command
	disk, up, hours, stations string
}

// add makes the flags; what is left out is so by default.
func (f *termFlags) add(c *cobra.Command, leftOut string) {
	f.cmd = c
	c.Flags().StringVar(&f.disk, "disk", "", "the most that the node may take on the disk, such as 200GB"+leftOut)
	c.Flags().StringVar(&f.up, "up", "", "the most that it may send, in bits per second, such as 20Mbit, or unlimited"+leftOut)
	c.Flags().StringVar(&f.hours, "hours", "", "when it serves, by this machine's clock, such as 22:00-07:00, or always"+leftOut)
	c.Flags().StringVar(&f.stations, "stations", "", "labels of the stations that it carries, with commas between them, or all"+leftOut)
}

// given reports whether any of the flags was.
func (f *termFlags) given() bool {
	for _, name := range []string{"disk", "up", "hours", "stations"} {
		if f.cmd.Flags().Changed(name) {
			return true
		}
	}
	return false
}

// missing are the flags that were not given of those that say all that a host
// of a role offers.
func (f *termFlags) missing(role string) (names []string) {
	all := []string{"disk", "up", "hours", "stations"}
	if role == config.RoleStorage {
		all = all[:2]
	}
	for _, name := range all {
		if !f.cmd.Flags().Changed(name) {
			names = append(names, "--"+name)
		}
	}
	return names
}

// apply changes a contract by what was given.
func (f *termFlags) apply(c contract.Contract) (contract.Contract, error) {
	var err error
	set := func(name string, do func() error) {
		if err == nil && f.cmd.Flags().Changed(name) {
			err = do()
		}
	}
	set("disk", func() (err error) { c.Disk, err = contract.ParseDisk(f.disk); return err })
	set("up", func() (err error) { c.Up, err = contract.ParseRate(f.up); return err })
	set("hours", func() (err error) { c.Hours, err = contract.ParseHours(f.hours); return err })
	set("stations", func() (err error) { c.Label, err = labels(f.stations); return err })
	if err == nil {
		err = c.Check()
	}
	var told *failure
	if err != nil && !errors.As(err, &told) {
		return c, &failure{exit: exitUsage, code: "usage", cause: err, next: "see `" + f.cmd.CommandPath() + " --help`"}
	}
	return c, err
}

// labels reads a list of them; all of them is none.
func labels(s string) (out []string, err error) {
	if s == "all" {
		return nil, nil
	}
	for l := range strings.SplitSeq(s, ",") {
		l = strings.TrimSpace(l)
		if musen.CheckLabel(l) != nil {
			next := "ask the operator for it: `musen station show STATION` and `musen station list` print it, in the operator's home; or give --stations all"
			if s == "none" {
				next = "to carry nothing for a while, `musen replica pause 8h`; to carry nothing more, `musen replica leave --drain`"
			}
			return nil, &failure{exit: exitUsage, code: "bad_label", what: fmt.Sprintf("%.80q is not the label of a station, which is 16 letters and digits such as 56xzcvvw2lgcpf3j", l), next: next}
		}
		if !slices.Contains(out, l) {
			out = append(out, l)
		}
	}
	return out, nil
}
