package cmd_test

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/musenai/musen/gateway/admin/client"
)

// H68: when the disk fails at any step of an add, the add is not acknowledged,
// what was acknowledged before plays on, and the next start is clean.
func TestFaultDiskErrors(t *testing.T) {
	t.Parallel()
	h := newFaultHome(t)
	kept := map[string]string{"kept": h.add("kept", leaves(4)).CID}
	for _, step := range killSteps() {
		if step.calls == "" || step.name == "record synced, not answered" {
			continue // no disk there
		}
		for _, disk := range []string{"EIO", "ENOSPC"} {
			name := disk + ", " + step.name
			err := h.addOnBadDisk(step, name, disk)
			var refused *client.Error
			if !errors.As(err, &refused) || refused.Status < 500 {
				t.Errorf("%s: the add ended with %v", name, err)
			}
			h.allPlay(kept, leaves(4))
			h.node.kill()
			h.start()
			for title, s := range h.segments() {
				// A record that was written and not synced may be there; then it is whole.
				h.plays(s.CID, title, leaves(4))
				if title == name {
					kept[title] = s.CID
				}
			}
			kept["after "+name] = h.add("after "+name, leaves(4)).CID
			if n := len(h.segments()); n != len(kept) {
				t.Fatalf("%s: %d segments, %d known", name, n, len(kept))
			}
			if temps := globOrNone(filepath.Join(h.dir, "ipfs", "blocks", ".temp", "temp-*")); len(temps) > 0 {
				t.Errorf("%s: left %v", name, temps)
			}
			if _, err := h.admin.GC(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			h.allPlay(kept, leaves(4))
		}
	}
	h.stop()
}

// addOnBadDisk adds audio, and lets the calls of a step fail from the byte on
// that the step holds at.
func (h *faultHome) addOnBadDisk(step killStep, name, disk string) error {
	h.t.Helper()
	audio := newHeld(audioOf(name, leaves(4)), step.hold)
	answer := make(chan error, 1)
	go func() {
		_, err := h.admin.Add(h.t.Context(), "jazz", client.Upload{Audio: audio, Size: int64(leaves(4)), Title: name})
		answer <- err
	}()
	select {
	case <-audio.reached:
	case err := <-answer:
		h.t.Fatalf("%s: the upload ended before the fault: %v", name, err)
	}
	var paths []string
	if step.paths != nil {
		paths = step.paths(h.t, h)
	}
	strace := h.inject(step.calls, "error="+disk, paths)
	close(audio.open)
	err := <-answer
	if err := strace.Process.Signal(syscall.SIGTERM); err != nil {
		h.t.Error(err)
	}
	strace.Wait() // it detaches
	return err
}
