package cmd_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A demo is a `musen quickstart` that runs.
type demo struct {
	t      *testing.T
	cmd    *exec.Cmd
	tmp    string // where it makes temporary folders
	lines  *bufio.Reader
	stderr bytes.Buffer
}

// startDemo starts quickstart with a folder for what is temporary.
func startDemo(t *testing.T, tmp string, args ...string) *demo {
	t.Helper()
	d := &demo{t: t, cmd: exec.Command("musen", args...), tmp: tmp}
	d.cmd.Env = append(os.Environ(), "TMPDIR="+d.tmp, "MUSEN_HOME=", "HOME="+d.tmp)
	d.cmd.Stderr = &d.stderr
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.lines = bufio.NewReader(out)
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.cmd.Process.Kill() })
	return d
}

// read reads what quickstart prints, up to the line that begins with last.
func (d *demo) read(last string) string {
	d.t.Helper()
	var text strings.Builder
	for {
		line, err := d.lines.ReadString('\n')
		text.WriteString(line)
		if err != nil {
			d.t.Fatalf("quickstart ended: %v, %v\n%s%s", err, d.cmd.Wait(), &text, &d.stderr)
		}
		if strings.HasPrefix(line, last) {
			return text.String()
		}
	}
}

// interrupt is Ctrl-C. It returns the exit code.
func (d *demo) interrupt() int {
	d.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		d.t.Fatal(err)
	}
	watchdog := time.AfterFunc(stopLimit, func() { d.cmd.Process.Kill() })
	io.Copy(io.Discard, d.lines)
	if err := d.cmd.Wait(); err != nil && d.cmd.ProcessState.ExitCode() < 0 {
		d.t.Fatalf("quickstart did not stop by itself: %v\n%s", err, &d.stderr)
	}
	watchdog.Stop()
	return d.cmd.ProcessState.ExitCode()
}

// match is what the first group of pattern matches, each time.
func match(t *testing.T, text, pattern string, times int) (found []string) {
	t.Helper()
	for _, m := range regexp.MustCompile("(?m)"+pattern).FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	if len(found) != times {
		t.Fatalf("%q is there %d times, not %d:\n%s", pattern, len(found), times, text)
	}
	return found
}

// What quickstart prints does what it says, typed as it is; Ctrl-C ends it and
// leaves nothing behind.
func TestQuickstartTour(t *testing.T) {
	t.Parallel()
	need(t, "curl", "sh")
	d := startDemo(t, t.TempDir(), "quickstart")
	text := d.read("Serving until Ctrl-C.")
	source := bundled(t)[0]
	match(t, text, `^(baf[a-z2-7]+) .*audio/`, 8)
	home := match(t, text, `^home +(\S+)$`, 1)[0]
	if st, err := os.Stat(home); err != nil || st.Mode().Perm() != 0o700 || filepath.Dir(home) != d.tmp {
		t.Errorf("home %s: %v, %v", home, st, err)
	}

	lines, dir := match(t, text, `^  (curl .*)$`, 2), t.TempDir()
	saved := match(t, lines[0], `-o (\S+)`, 1)[0]
	run(t, dir, "sh", "-c", lines[0])
	same(t, filepath.Join(dir, saved), source)
	if filepath.Ext(saved) != filepath.Ext(source) {
		t.Errorf("%s is saved as %s", filepath.Base(source), saved)
	}

	var refusal struct {
		Status      int
		Title, Code string
	}
	if out := run(t, dir, "sh", "-c", lines[1]); json.Unmarshal([]byte(out), &refusal) != nil || refusal.Status != 401 {
		t.Errorf("without a token: %s", out)
	}
	shown := "  401 " + refusal.Title + " (" + refusal.Code + ")\n"
	if !strings.Contains(text, lines[1]+"\n"+shown) {
		t.Errorf("the refusal %q is not shown:\n%s", shown, text)
	}
	if status := run(t, dir, "sh", "-c", lines[1]+" -o refused -w '%{http_code}'"); status != "401" {
		t.Errorf("without a token: status %s", status)
	}

	link := match(t, text, `^  (http://\S+)$`, 1)[0]
	run(t, dir, "curl", "-fsS", "-o", "linked", link)
	same(t, filepath.Join(dir, "linked"), source)

	if code := d.interrupt(); code != 0 {
		t.Errorf("exit code %d\n%s", code, &d.stderr)
	}
	if left := entries(t, d.tmp); len(left) > 0 {
		t.Errorf("left in the temporary folder: %q", left)
	}
	if d.stderr.Len() > 0 {
		t.Errorf("said without need:\n%s", &d.stderr)
	}
}

// tourJSON is what quickstart --json prints.
type tourJSON struct {
	Gateway, Token, Link string
	Segments             []struct {
		CID      string
		Existing bool
	}
	Refusal struct {
		Status int
		Code   string
	}
}

// tour reads the JSON of a quickstart and hears all of its segments.
func (d *demo) tour() (j tourJSON) {
	d.t.Helper()
	out := d.read("{")
	if err := json.Unmarshal([]byte(out), &j); err != nil {
		d.t.Fatalf("%v: %s", err, out)
	}
	if j.Refusal.Status != 401 || j.Refusal.Code != "credential_missing" {
		d.t.Errorf("refusal: %+v", j.Refusal)
	}
	dir, sources := d.t.TempDir(), bundled(d.t)
	if len(j.Segments) != len(sources) {
		d.t.Fatalf("%d segments of %d files", len(j.Segments), len(sources))
	}
	for i, s := range j.Segments {
		saved := filepath.Join(dir, filepath.Base(sources[i]))
		run(d.t, dir, "curl", "-fsS", "-o", saved, "-H", "Authorization: Bearer "+j.Token, j.Gateway+"/listen/"+s.CID)
		same(d.t, saved, sources[i])
	}
	run(d.t, dir, "curl", "-fsS", "-o", "linked", j.Link)
	same(d.t, filepath.Join(dir, "linked"), sources[0])
	return j
}

// --home keeps the home, and another quickstart goes on with it: the same
// segments, none twice, and the token of the first still opens them.
func TestQuickstartKeepsAHome(t *testing.T) {
	t.Parallel()
	need(t, "curl")
	home := filepath.Join(t.TempDir(), "kept")
	first := startDemo(t, t.TempDir(), "quickstart", "--json", "--home", home)
	before := first.tour()
	if _, stderr, err := try("", "musen", "quickstart", "--home", home); err == nil || !strings.Contains(stderr, "[home_in_use]") {
		t.Errorf("a second one on the same home at once: %v: %s", err, stderr)
	}
	if code := first.interrupt(); code != 0 {
		t.Errorf("exit code %d\n%s", code, &first.stderr)
	}
	if left := entries(t, first.tmp); len(left) > 0 {
		t.Errorf("left in the temporary folder: %q", left)
	}

	second := startDemo(t, t.TempDir(), "quickstart", "--json", "--home", home)
	after := second.tour()
	for i, s := range after.Segments {
		if s.CID != before.Segments[i].CID || !s.Existing || before.Segments[i].Existing {
			t.Errorf("segment %d: %+v, then %+v", i, before.Segments[i], s)
		}
	}
	if n := strings.Count(run(t, "", "musen", "--home", home, "--json", "ls"), "\n") + 1; n != len(after.Segments) {
		t.Errorf("%d segments are listed", n)
	}
	run(t, t.TempDir(), "curl", "-fsS", "-o", "heard", "-H", "Authorization: Bearer "+before.Token, after.Gateway+"/listen/"+after.Segments[0].CID)
	if code := second.interrupt(); code != 0 {
		t.Errorf("exit code %d\n%s", code, &second.stderr)
	}
	if _, err := os.Stat(filepath.Join(home, "config.toml")); err != nil {
		t.Errorf("the home is not kept: %v", err)
	}
}

// Ctrl-C while the node is still being made leaves nothing behind either.
func TestQuickstartInterruptedEarly(t *testing.T) {
	t.Parallel()
	var d *demo
	tmp := t.TempDir()
	start := func() { d = startDemo(t, tmp, "quickstart") }
	awaitIn(t, tmp, start, func() bool { return len(entries(t, tmp)) > 0 })
	if code := d.interrupt(); code != 0 && code != 130 {
		t.Errorf("exit code %d\n%s", code, &d.stderr)
	}
	if left := entries(t, tmp); len(left) > 0 {
		t.Errorf("left in the temporary folder: %q", left)
	}
}
