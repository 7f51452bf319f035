package cmd_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/musenai/musen/internal/host/local"
)

// A volunteer is a host's node that is as a test says.
type volunteer struct {
	local.Node
	status local.Status
}

func (v *volunteer) Leave(context.Context, bool) error { return nil }

func (v *volunteer) Status(context.Context) (local.Status, error) { return v.status, nil }

// startVolunteer makes a home whose node answers commands.
func startVolunteer(t *testing.T) (*volunteer, *told) {
	t.Helper()
	home, err := os.MkdirTemp("", "host") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	if err := os.WriteFile(filepath.Join(home, "config.toml"), []byte("role = \"replica\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(home, "host.sock"))
	if err != nil {
		t.Fatal(err)
	}
	v := &volunteer{status: local.Status{Role: "replica", Name: "one", CaughtUp: true}}
	s := local.NewServer(v, slog.New(slog.DiscardHandler))
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return v, &told{t: t, home: home}
}

func TestReplicaStatusShowsItsStanding(t *testing.T) {
	v, n := startVolunteer(t)
	out, _ := n.musen(0, "replica", "status")
	wantLine(t, out, "standing", "not told by the origin since the start")
	wantLine(t, out, "last audit", "none yet")

	v.status.Bad, v.status.Lost, v.status.Draining, v.status.Held = 2, 1, true, 4
	out, _ = n.musen(0, "replica", "status")
	wantLine(t, out, "damaged", "2 blocks found by the check that runs", "1 segment more")
	wantLine(t, out, "draining", "by the operator: 4 segments to go")
	out, _ = n.musen(0, "replica", "leave", "--stay")
	wantLine(t, out, "the operator drains this host")

	v.status.Standing = &local.Standing{Is: "new"}
	out, _ = n.musen(0, "replica", "status")
	wantLine(t, out, "standing", "new\n")

	since, here := longAgo(), longAgo().Add(time.Minute)
	v.status.Standing = &local.Standing{Is: "good", Since: &since, Reason: "proved 20 answers", Audit: "proved", Audited: &since}
	v.status.Audits, v.status.Audited = 3, &here
	out, _ = n.musen(0, "replica", "status")
	wantLine(t, out, "standing", "good since 2026-03-04 05:06:07: proved 20 answers\n")
	wantLine(t, out, "last audit", "proved, 2026-03-04 05:06:07; 3 challenges answered since the start, the last 2026-03-04 05:07:07\n")
	out, _ = n.musen(0, "--json", "replica", "status")
	wantLine(t, out, `"standing":{"is":"good","since":"2026-03-04T`, `"reason":"proved 20 answers","audit":"proved","audited":"2026-03-04T`)

	v.status.Standing.Audit, v.status.Standing.Audited = "offline", nil
	out, _ = n.musen(0, "replica", "status")
	wantLine(t, out, "last audit", "offline; 3 challenges")
}

// One is one, what has no limit says so, and the times are those of one zone.
func TestReplicaStatusReads(t *testing.T) {
	v, n := startVolunteer(t)
	here := longAgo()
	v.status.Held, v.status.Waiting, v.status.Unsent = 1, 1, 2
	v.status.Audits, v.status.Audited = 1, &here
	v.status.Standing = &local.Standing{Is: "paused", Reason: "away since " + here.UTC().Format("2006-01-02 15:04:05 MST")}
	out, _ := n.musen(0, "replica", "status")
	wantLine(t, out, "held", "1 segment\n")
	wantLine(t, out, "waiting", "1 order to carry out, 2 receipts to send\n")
	wantLine(t, out, "last audit", "1 challenge answered since the start")
	wantLine(t, out, "offers disk", "no limit\n")
	wantLine(t, out, "standing", "away since "+here.Local().Format("2006-01-02 15:04:05")+"\n")
}

// A drain ends when the origin removes the host meanwhile.
func TestDrainEndsWithTheMembership(t *testing.T) {
	v, n := startVolunteer(t)
	v.status.Leaving, v.status.Held, v.status.Removed = true, 3, new(longAgo())
	_, errs := n.musen(5, "replica", "leave", "--drain")
	wantLine(t, errs, "removed this host", "[removed]")
	wantLine(t, errs, "another invite")
}
