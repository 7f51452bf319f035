package cmd_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/musenai/musen/cmd"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"musen": func() { os.Exit(cmd.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs the scripts of testdata/script: what a user types, against
// nodes that are processes of their own.
func TestScripts(t *testing.T) {
	audio, err := filepath.Abs("../testdata/audio")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: false,
		Setup: func(e *testscript.Env) error {
			e.Setenv("AUDIO", audio)
			e.Setenv("POLICIES", filepath.Join(filepath.Dir(filepath.Dir(audio)), "docs", "policies"))
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("MUSEN_HOME", filepath.Join(e.WorkDir, "home"))
			nodes := &scriptNodes{running: map[string]*process{}}
			e.Values["nodes"] = nodes
			e.Defer(nodes.killAll)
			startPlatform(e)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve":     cmdServe,
			"halt":      cmdHalt,
			"kill9":     cmdKill9,
			"log":       cmdLog,
			"http":      cmdHTTP,
			"capture":   cmdCapture,
			"damage":    cmdDamage,
			"exits":     cmdExits,
			"until":     cmdUntil,
			"field":     cmdField,
			"swap":      cmdSwap,
			"head":      cmdHead,
			"plays":     cmdPlays,
			"headfield": cmdHeadField,
			"cut":       cmdCut,
			"platform":  cmdPlatform,
			"mint":      cmdMint,
			"says":      cmdSays,
			"configure": cmdConfigure,
			"untilhttp": cmdUntilHTTP,

			"post":       cmdPost,
			"session":    cmdSession,
			"location":   cmdLocation,
			"segmenturl": cmdSegmentURL,
			"match":      cmdMatch,
		},
	})
}

// scriptNodes are the nodes that one script has running, by home.
type scriptNodes struct{ running map[string]*process }

func (n *scriptNodes) killAll() {
	for _, p := range n.running {
		p.kill()
	}
}

func nodesOf(ts *testscript.TestScript) *scriptNodes { return ts.Value("nodes").(*scriptNodes) }

func scriptEnv(ts *testscript.TestScript) []string {
	return []string{"PATH=" + ts.Getenv("PATH"), "HOME=" + ts.Getenv("HOME"), "TMPDIR=" + ts.Getenv("TMPDIR"), "GORACE=" + ts.Getenv("GORACE")}
}

// cmdServe: serve HOME [FLAGS]; sets PUBLIC, METRICS and ADMIN.
func cmdServe(ts *testscript.TestScript, _ bool, args []string) {
	home := ts.MkAbs(args[0])
	p, err := serve(home, scriptEnv(ts), nil, args[1:]...)
	ts.Check(err)
	nodesOf(ts).running[home] = p
	ts.Setenv("PUBLIC", p.ready.Public)
	ts.Setenv("METRICS", p.ready.Metrics)
	ts.Setenv("ADMIN", p.ready.Admin)
}

func take(ts *testscript.TestScript, home string) *process {
	nodes, home := nodesOf(ts), ts.MkAbs(home)
	p := nodes.running[home]
	if p == nil {
		ts.Fatalf("no node runs in %s", home)
	}
	delete(nodes.running, home)
	return p
}

// cmdHalt: halt HOME; the node must exit with 0. (A stop would end the script.)
func cmdHalt(ts *testscript.TestScript, _ bool, args []string) {
	p := take(ts, args[0])
	if err := p.stop(); err != nil {
		ts.Fatalf("stop: %v\n%s", err, &p.log)
	}
}

// cmdKill9: kill9 HOME.
func cmdKill9(ts *testscript.TestScript, _ bool, args []string) { ts.Check(take(ts, args[0]).kill()) }

// cmdLog: [!] log HOME TEXT; whether the node's log holds text.
func cmdLog(ts *testscript.TestScript, neg bool, args []string) {
	p := nodesOf(ts).running[ts.MkAbs(args[0])]
	switch {
	case neg && strings.Contains(p.log.String(), args[1]):
		ts.Fatalf("the log holds %q:\n%s", args[1], &p.log)
	case !neg && !p.log.await(args[1]): // it comes by a pipe
		ts.Fatalf("the log never holds %q:\n%s", args[1], &p.log)
	}
}

// cmdHTTP: http METHOD URL STATUS FILE [HEADER...] [JSON]; writes the head of the
// answer to FILE.head and its body to FILE.
func cmdHTTP(ts *testscript.TestScript, _ bool, args []string) {
	var sent string
	if last := len(args) - 1; strings.HasPrefix(args[last], "{") {
		args, sent = append(args[:last:last], "Content-Type: application/json"), args[last]
	}
	req, err := http.NewRequest(args[0], args[1], strings.NewReader(sent))
	ts.Check(err)
	for _, h := range args[4:] {
		name, value, _ := strings.Cut(h, ": ")
		if req.Header.Set(name, value); name == "Host" {
			req.Host = value
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	var head strings.Builder
	fmt.Fprintf(&head, "%s\n", resp.Status)
	ts.Check(resp.Header.Write(&head))
	ts.Check(os.WriteFile(ts.MkAbs(args[3])+".head", []byte(head.String()), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[3]), body, 0o600))
	if fmt.Sprint(resp.StatusCode) != args[2] {
		ts.Fatalf("%s: status %s, not %s\n%s", args[0], resp.Status, args[2], body)
	}
}

// cmdCapture: capture NAME; the last standard output, trimmed, becomes an
// environment variable.
func cmdCapture(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// cmdDamage: damage FOLDER; flips a bit in the middle of every .data file.
func cmdDamage(ts *testscript.TestScript, _ bool, args []string) {
	files, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), "*", "*.data"))
	ts.Check(err)
	for _, file := range files {
		b, err := os.ReadFile(file)
		ts.Check(err)
		if len(b) > 0 {
			b[len(b)/2] ^= 1
			ts.Check(os.WriteFile(file, b, 0o600))
		}
	}
}

// cmdExits: exits CODE musen ARGS...; runs musen and compares its exit code.
func cmdExits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if exit, ok := err.(interface{ ExitCode() int }); ok {
		code = fmt.Sprint(exit.ExitCode())
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, not %s", code, args[0])
	}
}

// cmdUntil: until TEXT musen ARGS...; runs musen again and again until it prints
// the text.
func cmdUntil(ts *testscript.TestScript, _ bool, args []string) {
	for limit := time.Now().Add(awaitLimit); ; {
		ts.Check(ts.Exec(args[1], args[2:]...))
		if out := ts.ReadFile("stdout"); strings.Contains(out, args[0]) {
			return
		} else if time.Now().After(limit) {
			ts.Fatalf("never %q: %s", args[0], out)
		}
	}
}

// cmdField: field NAME KEY FILE; a field of the JSON in FILE becomes an
// environment variable.
func cmdField(ts *testscript.TestScript, _ bool, args []string) {
	var fields map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[2])), &fields))
	ts.Setenv(args[0], fmt.Sprint(fields[args[1]]))
}

// cmdSwap: swap NAME TEXT OLD NEW; TEXT with OLD replaced by NEW becomes an
// environment variable.
func cmdSwap(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], strings.Replace(args[1], args[2], args[3], 1))
}

// cmdHead: head FILE FROM N; FILE gets the first N bytes of FROM.
func cmdHead(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(ts.ReadFile(args[1]))[:n], 0o600))
}

// cmdHeadField: headfield HEAD NAME FILE; FILE gets the value of a header.
func cmdHeadField(ts *testscript.TestScript, _ bool, args []string) {
	_, after, ok := strings.Cut(ts.ReadFile(args[0]), "\n"+args[1]+": ")
	value, _, _ := strings.Cut(after, "\r\n")
	if !ok {
		ts.Fatalf("no header %s", args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(value), 0o600))
}

// cmdPlays: plays FILE TYPE; the bundled FILE is a segment of jazz that comes
// back byte for byte, with that media type, by request and by musen get.
func cmdPlays(ts *testscript.TestScript, _ bool, args []string) {
	source := filepath.Join(ts.Getenv("AUDIO"), args[0])
	want, err := os.ReadFile(source)
	ts.Check(err)
	ts.Check(ts.Exec("musen", "--json", "add", "--station", "jazz", source))
	var added struct{ CID string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &added))
	url := ts.Getenv("PUBLIC") + "/listen/" + added.CID
	cmdHTTP(ts, false, []string{"GET", url, "200", "played", "Authorization: Bearer " + ts.Getenv("TOKEN")})
	if got := ts.ReadFile("played"); got != string(want) {
		ts.Fatalf("%s: %d bytes came back, not the %d that went in", args[0], len(got), len(want))
	}
	if head := ts.ReadFile("played.head"); !strings.Contains(head, "Content-Type: "+args[1]+"\r\n") {
		ts.Fatalf("%s is not served as %s:\n%s", args[0], args[1], head)
	}
	ts.Check(ts.Exec("musen", "get", added.CID, "--gateway", ts.Getenv("PUBLIC"), "--token-file", "token", "-o", "got"))
	if ts.ReadFile("got") != string(want) {
		ts.Fatalf("musen get wrote other bytes than %s", args[0])
	}
	ts.Check(os.Remove(ts.MkAbs("got")))
}

// cmdCut: cut URL SOURCE HEADER; the answer is an error, or ends with one
// before SOURCE is whole, and every byte that came is one of SOURCE.
func cmdCut(ts *testscript.TestScript, _ bool, args []string) {
	want, err := os.ReadFile(args[1])
	ts.Check(err)
	req, err := http.NewRequest("GET", args[0], nil)
	ts.Check(err)
	name, value, _ := strings.Cut(args[2], ": ")
	req.Header.Set(name, value)
	resp, err := http.DefaultTransport.RoundTrip(req)
	ts.Check(err)
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if resp.StatusCode == http.StatusOK && (err == nil || !bytes.HasPrefix(want, got)) {
		ts.Fatalf("damaged audio came as a success: %d of %d bytes, error %v", len(got), len(want), err)
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
		ts.Fatalf("status %s", resp.Status)
	}
}
