package cmd_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"
	"unsafe"
)

// The first Ctrl-C ends what waits for a standard input that rests.
func TestInterruptEndsWaitForInput(t *testing.T) {
	t.Parallel()
	h := newFaultHome(t)
	for _, args := range [][]string{
		{"add", "--station", "jazz", "-"},
		{"get", "bafkreiabaoygjaow4wcsfc3jjvfjadcw2swgn6ag5jtovmm253ldz2cpwa", "--gateway", h.node.ready.Public, "--token-file", "-", "-o", filepath.Join(h.tmp, "out")},
	} {
		var errs bytes.Buffer
		c := exec.Command("musen", append([]string{"--home", h.dir}, args...)...)
		c.Env, c.Stderr = h.env, &errs
		in, out, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		c.Stdin = in
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		in.Close()
		// What it has taken of its input shows that it waits for more.
		begun := audioOf("idle", 256<<10)
		if args[0] == "get" {
			begun = begun[:1]
		}
		if _, err := out.Write(begun); err != nil {
			t.Fatal(err)
		}
		await(t, "its input was taken", func() bool { return unread(t, out) == 0 })
		if err := c.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		watchdog := time.AfterFunc(stopLimit, func() { c.Process.Kill() })
		c.Wait()
		watchdog.Stop()
		if code := c.ProcessState.ExitCode(); code != 130 {
			t.Errorf("%s: exit code %d: %s", args[0], code, &errs)
		}
	}
	if n := len(h.segments()); n != 0 {
		t.Errorf("%d segments", n)
	}
	h.stop()
}

// unread is how many bytes lie in a pipe.
func unread(t *testing.T, pipe *os.File) int {
	t.Helper()
	var n int32
	raw, err := pipe.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCINQ, uintptr(unsafe.Pointer(&n)))
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// An error of one file of a folder says which, and a name that is no text does
// not keep the audio out.
func TestAddNamesWhatFails(t *testing.T) {
	t.Parallel()
	h := newFaultHome(t)
	dir := filepath.Join(h.tmp, "songs")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	odd := "a\x1b]0;owned\x07\xff\nmusen: b.flac"
	for name, audio := range map[string][]byte{"broken.mp3": []byte("<!doctype html>"), odd: audioOf("odd", 5000)} {
		if err := os.WriteFile(filepath.Join(dir, name), audio, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stdout, stderr := h.run(2, "add", "--station", "jazz", dir)
	if !strings.Contains(stderr, "broken.mp3") || !strings.Contains(stdout, "owned") {
		t.Errorf("%q, %q", stdout, stderr)
	}
	if all := stdout + stderr; strings.ContainsAny(all, "\x1b\x07") || !utf8.ValidString(all) || strings.Contains(all, "\nmusen: b") {
		t.Errorf("printed as it is: %q", all)
	}
	stdout, _ = h.run(0, "ls")
	if strings.ContainsAny(stdout, "\x1b\x07") || !utf8.ValidString(stdout) {
		t.Errorf("listed as it is: %q", stdout)
	}
	if n := len(h.segments()); n != 1 {
		t.Errorf("%d segments", n)
	}
	h.stop()
}
