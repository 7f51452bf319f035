package cmd_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/musenai/musen"
)

// smallDisk mounts a small disk and runs test with its folder. Without the
// right to mount it runs this test again in a name space where it has it.
func smallDisk(t *testing.T, size string, test func(t *testing.T, dir string)) {
	dir, err := os.MkdirTemp("", "disk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	err = syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+size)
	const again = "MUSEN_TEST_MAY_MOUNT"
	if errors.Is(err, syscall.EPERM) && os.Getenv(again) == "" {
		cmd := exec.Command("unshare", "--map-root-user", "--mount", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), again+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("as root of a name space, which is what this test needs when it may not mount: %v\n%s", err, out)
		}
		return
	}
	if err != nil {
		t.Fatalf("mount a small disk, for which this test must be root or the system allow user name spaces: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount the small disk: %v", err)
		}
	})
	test(t, dir)
}

// ballast fills the disk until free bytes are left, and returns its file.
func ballast(t *testing.T, dir string, free int64) string {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n := int64(st.Bavail)*int64(st.Bsize) - free; n > 0 {
		if err := syscall.Fallocate(int(f.Fd()), 0, 0, n); err != nil {
			t.Fatal(err)
		}
	}
	return f.Name()
}

// H69: on a full disk adds are refused and say why, everything that was added
// plays on, removing makes room, and then adds work again, without a restart.
func TestFaultDiskFull(t *testing.T) {
	t.Parallel()
	smallDisk(t, "48m", func(t *testing.T, dir string) {
		h := newFaultHomeIn(t, dir)
		kept := map[string]string{}
		var err error
		for i := 0; err == nil; i++ {
			name := string(rune('a' + i))
			added, failed := h.tryAdd(name, leaves(8))
			if err = failed; err == nil {
				kept[name] = added.CID
			}
		}
		refusedWith(t, err, 507, "no_space")
		if len(kept) < 5 {
			t.Errorf("only %d segments of 2 MiB fit", len(kept))
		}
		audio := filepath.Join(h.tmp, "long.flac")
		if err := os.WriteFile(audio, audioOf("long", leaves(8)), 0o600); err != nil {
			t.Fatal(err)
		}
		_, stderr := h.run(8, "--json", "add", "--station", "jazz", audio)
		if code, message := jsonError(t, stderr); code != "no_space" || message == "" {
			t.Errorf("musen add says %q, %q", code, message)
		}
		if err := os.Remove(audio); err != nil {
			t.Fatal(err)
		}
		h.allPlay(kept, leaves(8))

		// Removing and collecting work, and what they free can be used at once.
		h.run(0, "remove", kept["a"])
		delete(kept, "a")
		h.run(0, "gc")
		kept["again"] = h.add("again", leaves(8)).CID
		h.allPlay(kept, leaves(8))
		h.fullToTheLastByte(dir, kept)

		h.stop()
		h.start()
		h.allPlay(kept, leaves(8))
		if n := len(h.segments()); n != len(kept) {
			t.Errorf("%d segments after the restart, not %d", n, len(kept))
		}
		if c, err := h.admin.GC(t.Context()); err != nil || c.Removed != 0 {
			t.Errorf("garbage after the restart: %+v, %v", c, err)
		}
		h.stop()
	})
}

// fullToTheLastByte fills the disk beyond what the node keeps free for itself.
func (h *faultHome) fullToTheLastByte(dir string, kept map[string]string) {
	t := h.t
	t.Helper()
	file := ballast(t, dir, 0)
	for _, size := range []int{smallest, leaves(2)} {
		_, err := h.tryAdd("no room", size)
		refusedWith(t, err, 507, "no_space")
	}
	h.allPlay(kept, leaves(8))
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := h.admin.GC(t.Context()); err != nil {
		t.Error(err)
	}
	c := h.add("room again", musen.LeafSize/2)
	h.plays(c.CID, "room again", musen.LeafSize/2)
	h.remove(c.CID)
	if _, err := h.admin.GC(t.Context()); err != nil {
		t.Error(err)
	}
}

// allPlay plays all segments; all have the same size.
func (h *faultHome) allPlay(cids map[string]string, size int) {
	h.t.Helper()
	for name, cid := range cids {
		h.plays(cid, name, size)
	}
}
