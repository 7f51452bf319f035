package keyring

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// childEnv makes the test binary do the writes of writeAll in the folder that
// it names, instead of testing.
const childEnv = "KEYRING_TEST_CHILD"

func TestMain(m *testing.M) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // strace counts the calls of each thread by itself
	if err := writeAll(filepath.Join(dir, "keyring"), Unlock{IdentityFile: filepath.Join(dir, "identity.txt")}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// writeAll does every kind of write and says on stdout what was acknowledged.
func writeAll(dir string, unlock Unlock) error {
	if err := Create(dir, unlock); err != nil {
		return err
	}
	if _, err := fmt.Println("created"); err != nil {
		return err
	}
	k, err := Open(dir, unlock)
	if err != nil {
		return err
	}
	for _, station := range []string{jazz, news} {
		if err := k.AddStation(station); err != nil {
			return err
		}
		if _, err := fmt.Println("added " + station); err != nil {
			return err
		}
	}
	if err := k.RemoveStation(jazz); err != nil {
		return err
	}
	if _, err = fmt.Println("removed " + jazz); err != nil {
		return err
	}
	kid, err := k.RotateIssuer(time.Now(), time.Hour)
	if err != nil {
		return err
	}
	if _, err = fmt.Println("signs " + kid); err != nil {
		return err
	}
	if kid, err = k.RotateLink(time.Now(), time.Hour); err != nil {
		return err
	}
	_, err = fmt.Println("links " + kid)
	return err
}

// H66, H68: whichever system call of a write fails, or is the last before the
// process is killed, nothing that was acknowledged is lost, nothing is
// acknowledged that is not there, and the next start is clean.
func TestFaultAtEveryStep(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatalf("%v: this test injects faults with strace: scripts/test.sh installs it", err)
	}
	for _, calls := range []string{"fsync", "write", "?rename,?renameat,?renameat2", "?mkdir,?mkdirat"} {
		for _, fault := range []string{"error=EIO", "error=ENOSPC", "signal=KILL"} {
			t.Run(calls+" "+fault, func(t *testing.T) {
				for n := 1; ; n++ {
					dir := t.TempDir()
					unlock := Unlock{IdentityFile: filepath.Join(dir, "identity.txt")}
					if err := GenerateIdentity(unlock.IdentityFile); err != nil {
						t.Fatal(err)
					}
					cmd := exec.Command(strace, "-f", "-qqq", "-o", "/dev/null", "-e", "trace="+calls,
						"-e", fmt.Sprintf("inject=%s:%s:when=%d", calls, fault, n), os.Args[0])
					cmd.Env = append(os.Environ(), childEnv+"="+dir)
					var acked, complaint bytes.Buffer
					cmd.Stdout, cmd.Stderr = &acked, &complaint
					err := cmd.Run()
					checkAcknowledged(t, filepath.Join(dir, "keyring"), unlock, acked.String())
					if err == nil && strings.Count(acked.String(), "\n") == 6 {
						if n == 1 {
							t.Fatalf("no fault was injected: %s", complaint.String())
						}
						return // there is no nth call
					}
					if n > 100 || t.Failed() {
						t.Fatalf("call %d: %v, acknowledged %q, said %s", n, err, acked.String(), complaint.String())
					}
				}
			})
		}
	}
}

// checkAcknowledged starts on what a fault left.
func checkAcknowledged(t *testing.T, dir string, unlock Unlock, acked string) {
	t.Helper()
	k, err := Open(dir, unlock)
	if err != nil && !strings.Contains(acked, "created") {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open after a Create that failed: %v", err)
		}
		if err := Create(dir, unlock); err != nil {
			t.Errorf("create again: %v", err)
		}
		return
	}
	if err != nil {
		t.Errorf("acknowledged %q, then: %v", acked, err)
		return
	}
	if _, ok := k.stations[jazz]; ok && strings.Contains(acked, "removed "+jazz) {
		t.Errorf("acknowledged %q, but the removed station is there", acked)
	}
	for _, station := range []string{jazz, news} {
		_, ok := k.stations[station]
		removing := station == jazz && strings.Contains(acked, "added "+news) // its removal may be done
		if strings.Contains(acked, "added "+station) && !ok && !removing {
			t.Errorf("acknowledged %q, but a station is gone", acked)
		}
	}
	kid, _ := k.IssuerKey()
	link, _ := k.LinkKey()
	if strings.Contains(acked, "signs ") && (!strings.Contains(acked, "signs "+kid) || len(k.OldIssuerKeys(time.Now())) != 1) ||
		strings.Contains(acked, "links ") && (!strings.Contains(acked, "links "+link) || len(k.OldLinkKeys(time.Now())) != 1) {
		t.Errorf("acknowledged %q, but %s signs, and %s", acked, kid, link)
	}
	if got := snapshot(t, dir); len(got) != 2 {
		t.Errorf("left in the folder: %d files", len(got))
	}
	if err := k.AddStation(talk); err != nil {
		t.Errorf("a write after the fault: %v", err)
	}
}
