package cmd_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// tracer is the front of a command line that writes the system calls of the
// program behind it to a file. The program stays the direct child.
func tracer(file, calls string, more ...string) []string {
	return append([]string{"strace", "-D", "-f", "-y", "-s", "200", "-o", file, "-e", "trace=" + calls}, more...)
}

// A tracedCall is one system call; begun and ended are its places in the order
// of all beginnings and ends.
type tracedCall struct {
	text         string
	begun, ended int
}

// readTrace reads what the tracer wrote. Calls that were cut off are left out.
func readTrace(t *testing.T, file string) (calls []tracedCall) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	resumed := regexp.MustCompile(`^<\.\.\. \w+ resumed>`)
	open := map[string]tracedCall{} // by thread
	for i, line := range strings.Split(string(raw), "\n") {
		thread, text, _ := strings.Cut(line, " ")
		text = strings.TrimSpace(text)
		if head, cut := strings.CutSuffix(text, "<unfinished ...>"); cut {
			open[thread] = tracedCall{text: head, begun: i}
			continue
		}
		call := tracedCall{text: text, begun: i, ended: i}
		if tail := resumed.FindString(text); tail != "" {
			call = tracedCall{text: open[thread].text + text[len(tail):], begun: open[thread].begun, ended: i}
		}
		if strings.Contains(call.text, "(") {
			calls = append(calls, call)
		}
	}
	return calls
}

var (
	syncCall    = regexp.MustCompile(`^(?:fsync|fdatasync)\(\d+<([^>]*)> *\) += 0$`)
	renameCall  = regexp.MustCompile(`^rename\w*\(.*?"([^"]+)",.*?"([^"]+)".* = 0$`)
	createCall  = regexp.MustCompile(`^openat\(.*?"([^"]+)", [^,]*O_CREAT.* = \d+`)
	makeCall    = regexp.MustCompile(`^mkdir(?:at)?\(.*?"([^"]+)", \d+ *\) += 0$`)
	readyCall   = regexp.MustCompile(`^write\(\d+<[^>]*>, .* msg=ready `)
	createdCall = regexp.MustCompile(`^(?:write|sendto|writev|sendmsg)\(\d+<[^>]*>, .*HTTP/1.1 201 `)
)

// syncedBetween tells whether path was synced, from beginning to end, after a place
// and before another.
func syncedBetween(calls []tracedCall, path string, after, before int) bool {
	for _, c := range calls {
		m := syncCall.FindStringSubmatch(c.text)
		if m != nil && m[1] == path && c.begun > after && c.ended < before {
			return true
		}
	}
	return false
}

// P5, H68: what an add acknowledges is on the disk, not only in the system's
// memory, in the order that makes every crash harmless. A kill cannot show
// that, for the system writes on; the system calls do.
func TestFaultAnswerComesAfterDisk(t *testing.T) {
	t.Parallel()
	h := newFaultHome(t)
	h.stop()
	file := filepath.Join(h.tmp, "trace")
	h.start(tracer(file, "openat,rename,renameat,renameat2,mkdir,mkdirat,fsync,fdatasync,write,pwrite64,sendto,writev,sendmsg")...)
	h.add("many", leaves(5))
	h.add("one", smallest)
	h.stop()

	calls, begin, add := readTrace(t, file), 0, 0
	wantBlocks := []int{5 + 1, 1} // leaves and the root above them; a single leaf is its own root
	for _, c := range calls {
		if readyCall.MatchString(c.text) {
			begin = c.ended
		}
		if !createdCall.MatchString(c.text) {
			continue
		}
		if add == len(wantBlocks) {
			t.Fatalf("more answers than adds: %s", c.text)
		}
		if blocks := checkDurable(t, h.dir, calls, begin, c.begun); blocks != wantBlocks[add] {
			t.Errorf("add %d wrote %d blocks, not %d", add, blocks, wantBlocks[add])
		}
		begin, add = c.ended, add+1
	}
	if add != len(wantBlocks) {
		t.Fatalf("%d answers in the trace of %d adds", add, len(wantBlocks))
	}
}

// checkDurable looks at the calls of one add, which lie between begin and
// answer, and returns how many blocks it wrote.
func checkDurable(t *testing.T, home string, calls []tracedCall, begin, answer int) (blocks int) {
	t.Helper()
	folder, log := filepath.Join(home, "ipfs", "blocks"), filepath.Join(home, "catalogue.db-wal")
	first, last := answer, begin // creation of the first block file, naming of the last block
	created := map[string]int{}
	for _, c := range calls {
		if c.ended <= begin || c.ended >= answer {
			continue
		}
		if m := createCall.FindStringSubmatch(c.text); m != nil {
			created[m[1]] = c.begun
		}
		if m := makeCall.FindStringSubmatch(c.text); m != nil && !syncedBetween(calls, filepath.Dir(m[1]), c.ended, answer) {
			t.Errorf("the folder of the new %s was not synced", m[1])
		}
		m := renameCall.FindStringSubmatch(c.text)
		if m == nil || !strings.HasPrefix(m[2], folder) || !strings.HasSuffix(m[2], ".data") {
			continue
		}
		blocks++
		first, last = min(first, created[m[1]]), max(last, c.ended)
		if !syncedBetween(calls, m[1], created[m[1]], c.begun) {
			t.Errorf("%s was named before its bytes were synced", m[2])
		}
		if !syncedBetween(calls, filepath.Dir(m[2]), c.ended, answer) {
			t.Errorf("the answer came before the folder of %s was synced", m[2])
		}
	}
	if !syncedBetween(calls, log, begin, first) {
		t.Error("the key was not durable before the first block file was made")
	}
	if !syncedBetween(calls, log, last, answer) {
		t.Error("the answer came before the catalogue was synced")
	}
	return blocks
}
