package host

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/internal/host/scrub"
	"github.com/musenai/musen/node"
	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
)

// A journal is a log that a test reads while it is written.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// A replica whose blocks are gone tells the origin so at once, counts them no
// more, and takes them again as it is ordered; also if it ended in between.
func TestLostBlocksAreTold(t *testing.T) {
	for what, between := range map[string]func(t *testing.T, dir string){
		"with their folder": func(*testing.T, string) {},
		"before a crash": func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, bareFile), nil, 0o600))
			n, err := node.Open(t.Context(), node.Options{Dir: dir, CacheBytes: -1})
			must(t, err)
			must(t, n.Close())
		},
	} {
		t.Run(what, func(t *testing.T) {
			o := newOrigin(t)
			g := o.join(member.Replica, "one", contract.Contract{Disk: room})
			var roots []cid.Cid
			for i := range byte(3) {
				root := o.add(i, 600_000)
				o.order(g.id, control.Hold, root, 600_000)
				o.receipt(g.id, control.Hold, root, control.Done)
				roots = append(roots, root)
			}
			g.end()
			dir := filepath.Join(g.home, NodeDir)
			must(t, os.RemoveAll(filepath.Join(dir, blocksDir)))
			between(t, dir)
			log := new(journal)
			g.opts.Log = slog.New(slog.NewTextHandler(log, nil))
			g.start()
			if s, err := g.Status(t.Context()); err != nil || s.Held != 0 {
				t.Errorf("held %d, %v", s.Held, err)
			}
			for _, root := range roots {
				o.receipt(g.id, control.Hold, root, control.Lost)
			}
			o.until("a reason that says missing", func() bool {
				last := o.receipts[g.id][len(o.receipts[g.id])-1]
				return strings.Contains(last.Reason, "missing")
			})
			for _, root := range roots {
				o.order(g.id, control.Hold, root, 600_000)
			}
			for _, root := range roots {
				o.receipt(g.id, control.Hold, root, control.Done)
				g.proves(root, audit.Proved)
			}
			if s, err := g.Status(t.Context()); err != nil || s.Held != 3 {
				t.Errorf("held %d, %v", s.Held, err)
			}
			g.end()
			if strings.Contains(log.String(), "sweep the disk") || strings.Contains(log.String(), "no peer has") {
				t.Errorf("the log:\n%s", log)
			}
			g.start()
			if s, err := g.Status(t.Context()); err != nil || s.Held != 3 {
				t.Errorf("held %d after another start, %v", s.Held, err)
			}
		})
	}
}

// A block that is missing on a replica makes its segment lost at once: the
// origin gives none of what it believes to be there.
func TestMissingBlockIsToldFirst(t *testing.T) {
	o := newOrigin(t)
	g := o.join(member.Replica, "one", contract.Contract{Disk: room})
	root := o.add(1, 600_000)
	o.order(g.id, control.Hold, root, 0)
	o.receipt(g.id, control.Hold, root, control.Done)
	leaves, err := g.node.Leaves(t.Context(), root)
	must(t, err)
	for _, c := range []cid.Cid{leaves[1].CID, root} {
		must(t, g.node.Offline().Blockstore().DeleteBlock(t.Context(), c))
		wantBad := func(blocks, lost int64) {
			t.Helper()
			if s, err := g.Status(t.Context()); err != nil || s.Bad != blocks || s.Lost != lost {
				t.Errorf("%d blocks, %d segments, %v", s.Bad, s.Lost, err)
			}
		}
		wantBad(0, 0)
		if err := (mender{g.Host}).Heal(t.Context(), c); !errors.Is(err, scrub.ErrOrdered) {
			t.Errorf("heal: %v", err)
		}
		wantBad(1, 0)
		r, err := g.scrubber().Pass(t.Context())
		if err != nil || r.Lost != 1 || r.Healed != 0 {
			t.Errorf("a pass: %+v, %v", r, err)
		}
		g.scrubbed(r)
		wantBad(0, 1)
		o.receipt(g.id, control.Hold, root, control.Lost)
		o.until("why", func() bool { return o.receipts[g.id][len(o.receipts[g.id])-1].Reason == "a block is missing" })
		if s, err := g.Status(t.Context()); err != nil || s.Held != 0 {
			t.Errorf("held %d, %v", s.Held, err)
		}
		if w, err := g.Why(t.Context(), root); err != nil || w.Held || !strings.Contains(w.Reason, "not whole") {
			t.Errorf("why: %+v, %v", w, err)
		}
		o.order(g.id, control.Hold, root, 0)
		o.receipt(g.id, control.Hold, root, control.Done)
		g.proves(root, audit.Proved)
		if s, err := g.Status(t.Context()); err != nil || s.Held != 1 {
			t.Errorf("held %d, %v", s.Held, err)
		}
	}
}
