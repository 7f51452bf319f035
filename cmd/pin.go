package cmd

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/spf13/cobra"

	"github.com/musenai/musen/gateway/admin/wire/swarm"
)

func (a *app) pinCommand() *cobra.Command {
	c := &cobra.Command{Use: "pin", Short: "Show and mend the copies of segments", Args: none, RunE: showHelp}
	c.AddCommand(a.pinStatus(), a.pinRecover(), a.pinRebalance(), a.pinService())
	return c
}

// waitFlags are the flags of a command that waits for copies.
type waitFlags struct {
	level   string
	timeout time.Duration
}

// levels are what a segment can be, each better than the one before.
func levels() []string { return []string{"none", "stored", "replicated", "durable"} }

func (w *waitFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&w.level, "wait", "", "wait until it is stored (here), replicated (as many peers as the station asks for say that they hold it) or durable (they proved it)")
	c.Flags().DurationVar(&w.timeout, "wait-timeout", time.Minute, "how long to wait, at most 1h")
}

func (w *waitFlags) check(c *cobra.Command) error {
	switch given := c.Flags().Changed("wait-timeout"); {
	case w.level == "" && given:
		return usageError("--wait-timeout says how long --wait waits; give that too")
	case w.level != "" && !slices.Contains(levels()[1:], w.level):
		return usageError("--wait must be stored, replicated or durable, not %q", w.level)
	case w.timeout < time.Second || w.timeout > time.Hour:
		return usageError("--wait-timeout must be from 1s to 1h")
	}
	return nil
}

// reached returns an error unless a segment has the level that was waited for.
func (w *waitFlags) reached(id, level, reason string) error {
	if w.level == "" || slices.Index(levels(), level) >= slices.Index(levels(), w.level) {
		return nil
	}
	what := fmt.Sprintf("%s is %s, not %s, after %s", printable(id), printable(level), w.level, w.timeout)
	if reason != "" {
		what += ": " + printable(reason)
	}
	return &failure{exit: exitNotReplicated, code: "not_replicated", what: what, next: "the node goes on making copies by itself; `musen pin status " + id + "` shows them, and `musen peer list` the peers"}
}

func (a *app) pinStatus() *cobra.Command {
	var wait waitFlags
	c := &cobra.Command{
		Use: "status CID", Short: "Show who holds a segment, by proof", Args: args("a CID", 1),
		Long: "status shows each copy of a segment: who holds it, whether that was proved and when, what\nis not as it should be, and when the node tries again. Of a segment that was removed it\nshows who has yet to delete it. With --wait it exits with 9 if the level was not reached.",
		RunE: func(c *cobra.Command, args []string) error {
			id, err := parseCID(args[0])
			if err == nil {
				err = wait.check(c)
			}
			if err != nil {
				return err
			}
			return a.copiesOf(c, id, wait)
		},
	}
	wait.add(c)
	return c
}

// copiesOf shows the copies of a segment, and fails unless they are as good as
// was waited for.
func (a *app) copiesOf(c *cobra.Command, id cid.Cid, wait waitFlags) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	h, err := api.Copies(c.Context(), id, wait.level, wait.timeout)
	if err != nil {
		return noSegment(err, id)
	}
	if err := a.printHealth(h); err != nil {
		return err
	}
	return wait.reached(h.CID, h.Level, h.Reason)
}

// printHealth writes the copies of a segment.
func (a *app) printHealth(h swarm.Health) error {
	if a.json {
		return a.printJSON(h)
	}
	level, problem := h.Level, localTimes(h.Reason)
	if h.Gone {
		level = "removed"
	}
	a.printFields([][2]string{
		{"cid", h.CID}, {"station", h.StationName}, {"title", h.Title}, {"level", level}, {"wanted", wanted(h.Want)},
		{"problem", problem}, {"next try", when(h.Next)},
	}...)
	t := newTable(a.stdout, "NAME", "ROLE", "SITE", "STATE", "COUNTS", "SINCE", "PROVED", "LAST AUDIT", "REASON")
	for _, c := range h.Copies {
		counts := "no"
		if c.Counts {
			counts = "yes"
		}
		appendRow(t, firstOf(c.Name, c.Peer), c.Role, c.Site, c.State, counts, when(c.Since), when(c.Proved), c.Outcome, localTimes(c.Reason))
	}
	if len(h.Copies) > 0 {
		t.Render()
	}
	return nil
}

// wanted spells how many copies there shall be.
func wanted(w swarm.Want) string {
	s := fmt.Sprintf("%d..%d copies", w.Min, w.Max)
	if w.Min == w.Max {
		s = strconv.Itoa(w.Min) + " copies"
		if w.Min == 1 {
			s = "1 copy"
		}
	}
	if w.Spread == swarm.SpreadSite && w.Max > 1 {
		s += " on different sites"
	}
	if w.Community > 0 {
		s += fmt.Sprintf(", and %d on community replicas", w.Community)
	}
	return s
}

func (a *app) pinRecover() *cobra.Command {
	return &cobra.Command{
		Use: "recover [CID...]", Short: "Try again now what has failed, of some segments or of all",
		Long: "recover tries again at once what waits for its next try. Who holds a copy of a segment that\nis named, this node included, is asked to prove it besides. It does not wait; `musen pin\nstatus CID` shows the proofs.",
		RunE: func(c *cobra.Command, args []string) error {
			ids, err := parseCIDs(args)
			if err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			r, err := api.Recover(c.Context(), ids...)
			if err != nil && len(ids) == 1 {
				return noSegment(err, ids[0])
			}
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(r)
			}
			_, err = fmt.Fprintf(a.stdout, "trying again for %s\n", several(int64(r.Segments), "segment"))
			return err
		},
	}
}

func (a *app) pinRebalance() *cobra.Command {
	return &cobra.Command{
		Use: "rebalance", Short: "Move copies to where they would be put today", Args: none,
		Long: "rebalance moves copies, as after new peers joined. A copy is dropped only once enough\nothers are proved. It does not wait; `musen status` shows how far it is.",
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			r, err := api.Rebalance(c.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(r)
			}
			_, err = fmt.Fprintf(a.stdout, "%d copies are on their way\n", r.Moved)
			return err
		},
	}
}

func (a *app) pinService() *cobra.Command {
	c := &cobra.Command{Use: "service", Short: "Have pinning services keep further copies", Args: none, RunE: showHelp}
	c.AddCommand(a.serviceAdd(), a.serviceList(), a.serviceRemove())
	return c
}

func (a *app) serviceAdd() *cobra.Command {
	var n swarm.NewService
	c := &cobra.Command{
		Use: "add NAME --endpoint URL --token-file FILE", Short: "Add a service with the IPFS Pinning Service API", Args: args("a name for the service", 1),
		Long: "add has a pinning service keep a copy of every segment, of the ciphertext alone. What it\nsays that it holds is shown, and never counts as proved.",
		RunE: func(c *cobra.Command, args []string) error {
			n.Name = args[0]
			if u, err := url.Parse(n.Endpoint); err != nil || u.Host == "" {
				return usageError("give the address of the service with --endpoint, such as https://pins.example/api/v1")
			}
			if n.TokenFile == "" {
				return usageError("give the file with the service's token with --token-file; the token itself is never typed")
			}
			if err := absolute(&n.TokenFile); err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			s, err := api.AddService(c.Context(), n)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(s)
			}
			_, err = fmt.Fprintf(a.stdout, "added pinning service %s\n", printable(s.Name))
			return err
		},
	}
	c.Flags().StringVar(&n.Endpoint, "endpoint", "", "address of the service's API")
	c.Flags().StringVar(&n.TokenFile, "token-file", "", "file with its token, one line, mode 0600, which the node reads again whenever it is used")
	return c
}

func (a *app) serviceList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the pinning services and how they are", Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			all, err := api.Services(c.Context())
			if err != nil {
				return err
			}
			t := newTable(a.stdout, "NAME", "ENDPOINT", "STATE", "HELD", "WAITING", "FAILED", "TOKEN FILE", "NEXT TRY", "PROBLEM")
			for _, s := range all {
				if a.json {
					if err := a.printJSON(s); err != nil {
						return err
					}
				}
				appendRow(t, s.Name, s.Endpoint, stateOf(s), strconv.Itoa(s.Held), strconv.Itoa(s.Waiting), strconv.Itoa(s.Failed), filepath.ToSlash(s.TokenFile), when(s.Next), s.Reason)
			}
			if !a.json {
				t.Render()
			}
			return nil
		},
	}
}

// stateOf spells whether a service is used.
func stateOf(s swarm.Service) string {
	state := "in use"
	if s.Leaving {
		state = "leaving"
	}
	if s.Removing > 0 {
		state += fmt.Sprintf(", %d to unpin", s.Removing)
	}
	return state
}

func (a *app) serviceRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Leave a pinning service and unpin what it holds", Args: args("the service's name", 1),
		Long: "remove has a pinning service unpin all that it holds of this node. Until the service has\nconfirmed that, it is listed as leaving. Removing it once more forgets it at once; what it\nholds then stays pinned there, sealed.",
		RunE: func(c *cobra.Command, args []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			find := func() (s swarm.Service, err error) {
				all, err := api.Services(c.Context())
				if i := slices.IndexFunc(all, func(s swarm.Service) bool { return s.Name == args[0] }); i >= 0 {
					s = all[i]
				}
				return s, err
			}
			before, err := find()
			if err != nil {
				return err
			}
			if err := api.RemoveService(c.Context(), args[0]); err != nil {
				return absent(err, "there is no pinning service "+strconv.Quote(args[0]), "`musen pin service list` lists them")
			}
			after, err := find()
			if err != nil {
				return err
			}
			return a.printLeft(args[0], before, after)
		},
	}
}

// printLeft tells what became of a service that was removed, from how it was
// before and after that; zero: it was not there.
func (a *app) printLeft(name string, before, after swarm.Service) error {
	left := struct {
		Removed  string `json:"removed"`
		State    string `json:"state"`    // leaving, left or forgotten
		Segments int    `json:"segments"` // that may be pinned there
	}{name, "left", 0}
	words := "left pinning service %s; nothing of this node is pinned there\n"
	switch name = printable(name); {
	case after.Name != "":
		left.State, left.Segments = "leaving", after.Removing
		words = fmt.Sprintf("leaving pinning service %%s: %s to unpin there; it is listed as leaving until it has confirmed that\n", several(int64(after.Removing), "segment"))
	case before.Leaving:
		left.State, left.Segments = "forgotten", before.Removing
		words = fmt.Sprintf("forgot pinning service %%s; %s may stay pinned there, sealed\n", several(int64(before.Removing), "segment"))
	}
	if a.json {
		return a.printJSON(left)
	}
	_, err := fmt.Fprintf(a.stdout, words, name)
	return err
}
