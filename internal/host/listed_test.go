package host

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/internal/denylist"
	"github.com/musenai/musen/node"
	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
)

// subscription is a denylist in a file.
type subscription struct {
	*denylist.List
	t    testing.TB
	path string
}

func subscribe(t testing.TB) *subscription {
	t.Helper()
	s := &subscription{t: t, path: filepath.Join(t.TempDir(), "bad.deny")}
	must(t, os.WriteFile(s.path, []byte("# nothing\n"), 0o600))
	var err error
	s.List, err = denylist.Open(denylist.Options{Files: []string{s.path}, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	return s
}

// name makes the list name these and no others.
func (s *subscription) name(roots ...cid.Cid) {
	s.t.Helper()
	text := "# list\n"
	for _, c := range roots {
		text += "/ipfs/" + c.String() + "\n"
	}
	must(s.t, os.WriteFile(s.path, []byte(text), 0o600))
	s.Reload()
}

// P104, H50, H52: what a denylist of a host names it serves to nobody, by
// Bitswap or HTTP, does not take, and does not count as held: the origin is
// told. It stays on the disk, over a restart, and is served again, without one,
// when it is named no more.
func TestListedIsNotServed(t *testing.T) {
	for _, role := range []member.Role{member.Replica, member.Storage} {
		t.Run(string(role), func(t *testing.T) {
			o, list := newOrigin(t), subscribe(t)
			terms := contract.Contract{}
			if role == member.Replica {
				terms.Disk = room
			}
			g := o.join(role, "one", terms, func(opts *Options) { opts.Lists, opts.Timing.Lists = list, 50*time.Millisecond })
			g.ready()
			bad, good, unseen := o.add(1, 600_000), o.add(2, 1000), o.add(3, 1000)
			for _, root := range []cid.Cid{bad, good} {
				o.order(g.id, control.Hold, root, 1000)
				o.receipt(g.id, control.Hold, root, control.Done)
			}
			served := func(root cid.Cid, want bool) {
				t.Helper()
				status, _ := g.get(root, "car")
				if status != map[bool]int{true: 200, false: 410}[want] {
					t.Errorf("%s over HTTP: %d", root, status)
				}
			}
			served(bad, true)
			list.name(bad, unseen)
			served(bad, false)
			served(good, true)
			o.receipt(g.id, control.Hold, bad, control.Lost)
			o.order(g.id, control.Hold, unseen, 1000)
			o.receipt(g.id, control.Hold, unseen, control.Outside)
			w, err := g.Why(t.Context(), bad)
			if err != nil || !w.Held || !w.Denied || !strings.Contains(w.Reason, list.path+":2") {
				t.Errorf("why: %+v, %v", w, err)
			}
			if w, err = g.Why(t.Context(), unseen); err != nil || w.Held || !w.Denied {
				t.Errorf("why: %+v, %v", w, err)
			}
			must(t, o.node.Purge(t.Context(), bad))
			if err := g.wants(o.node, bad); !errors.Is(err, node.ErrNotFound) {
				t.Errorf("by Bitswap: %v", err)
			}
			g.end()
			g.start()
			g.ready()
			served(bad, false)
			served(good, true)
			o.receipt(g.id, control.Hold, bad, control.Lost)

			list.name()
			served(bad, true)
			if role == member.Replica { // it says so when it is asked
				o.order(g.id, control.Hold, bad, 600_000)
			}
			o.receipt(g.id, control.Hold, bad, control.Done)
			must(t, g.wants(o.node, bad))
			if st, err := g.Status(t.Context()); err != nil || len(st.Denylists) != 1 || st.Held != 2 {
				t.Errorf("%+v, %v", st, err)
			}
		})
	}
}

// What the pinset gives a storage peer while a list names it is not taken, and
// the origin hears why; it is taken when it is named no more.
func TestListedInThePinset(t *testing.T) {
	o, list := newOrigin(t), subscribe(t)
	bad := o.add(1, 1000)
	list.name(bad)
	g := o.join(member.Storage, "one", contract.Contract{}, func(opts *Options) { opts.Lists = list })
	g.ready()
	o.pin(o.cluster(g.id), bad, g.id)
	o.receipt(g.id, control.Hold, bad, control.Failed)
	list.name()
	o.receipt(g.id, control.Hold, bad, control.Done)
	g.proves(bad, audit.Proved)
}
