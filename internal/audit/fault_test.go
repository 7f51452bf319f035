package audit

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// childEnv makes the test binary write the log in the folder that it names,
// instead of testing.
const childEnv = "AUDIT_TEST_CHILD"

func TestMain(m *testing.M) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // strace counts the calls of each thread by itself
	if err := writeSome(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

const someWrites = 8

// writeSome appends records to files of three, tells on standard output which
// are durable, and goes on after an error.
func writeSome(dir string) (err error) {
	o := options(dir)
	o.FileSize = 1000
	l, err := Open(o)
	if err != nil {
		return err
	}
	for i := range someWrites {
		if e := l.Append(Record{Event: "gc.run", Outcome: Done, Request: fmt.Sprintf("w%d.", i)}); e != nil {
			err = e
			continue
		}
		if _, err := fmt.Printf("w%d.\n", i); err != nil {
			return err
		}
	}
	return err
}

// H55, H68: whichever system call of a write fails, or is the last before the
// process is killed, what was acknowledged is in the log, no fault of the disk
// looks like tampering, and the next start is clean.
func TestFaultAtEveryStep(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatalf("%v: this test injects faults with strace: scripts/test.sh installs it", err)
	}
	for _, calls := range []string{"fsync", "write", "?mkdir,?mkdirat"} {
		for _, fault := range []string{"error=EIO", "error=ENOSPC", "signal=KILL"} {
			t.Run(calls+" "+fault, func(t *testing.T) {
				for n := 1; ; n++ {
					dir := filepath.Join(t.TempDir(), "audit")
					cmd := exec.Command(strace, "-f", "-qqq", "-o", "/dev/null", "-e", "trace="+calls,
						"-e", fmt.Sprintf("inject=%s:%s:when=%d", calls, fault, n), os.Args[0])
					cmd.Env = append(os.Environ(), childEnv+"="+dir)
					var acked, complaint bytes.Buffer
					cmd.Stdout, cmd.Stderr = &acked, &complaint
					err := cmd.Run()
					checkAcknowledged(t, dir, acked.String())
					if err == nil && strings.Count(acked.String(), "\n") == someWrites {
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
func checkAcknowledged(t *testing.T, dir, acked string) {
	t.Helper()
	if r, err := Verify(dir); err != nil || len(r.Faults) > 0 {
		t.Errorf("after the fault: %+v, %v", r, err)
	}
	l, err := Open(options(dir))
	if err != nil {
		t.Errorf("open: %v", err)
		return
	}
	defer l.Close()
	if err := l.Append(Record{Event: "gc.run"}); err != nil {
		t.Errorf("a write after the fault: %v", err)
	}
	var there strings.Builder
	all, err := l.List(Query{})
	for _, r := range all {
		there.WriteString(r.Request)
		if r.Event == "log.broken" {
			t.Errorf("taken for tampering: %+v", r)
		}
	}
	for w := range strings.FieldsSeq(acked) {
		if !strings.Contains(there.String(), w) {
			t.Errorf("%s was acknowledged, and is not there: %v", w, err)
		}
	}
	if r, err := Verify(dir); err != nil || len(r.Faults) > 0 || r.Torn > 0 {
		t.Errorf("after the next start: %+v, %v", r, err)
	}
}
