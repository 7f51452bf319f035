package cmd

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/musenai/musen/config"
)

// H52: the operator's own system hears of a denylist with faults, and of no more
// than the first of them.
func TestFaultyDenylistIsTold(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	sender, told := newReceiver(t, log)
	path := filepath.Join(t.TempDir(), "x.deny")
	if err := os.WriteFile(path, []byte("# list\nnonsense\nmore of it\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := &runningNode{alarm: &alarm{sender: sender}, log: log, cfg: config.Config{Denylist: config.Denylist{Files: []string{path}}}}
	if err := n.openDenied(); err != nil {
		t.Fatal(err)
	}
	stop := follow(n.lists)
	got := <-told
	first, _ := got["first"].(map[string]any)
	if got["file"] != path || got["faults"] != 2.0 || first["line"] != 2.0 || first["text"] != "nonsense" {
		t.Errorf("told %v", got)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	(&runningNode{alarm: &alarm{}}).tellFaults(n.lists.State()[0]) // there is nobody to tell
}
