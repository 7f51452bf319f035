package cmd_test

import (
	"bytes"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/cmd"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/gateway/admin/wire/swarm"
)

// told is a node that answers each route with what a test says, and remembers
// what it was asked.
type told struct {
	t       *testing.T
	home    string
	answers map[string]any // by method and path without /api/v1

	mu    sync.Mutex
	asked []string // method, path, query and body
}

// A refusal is the answer of a node that refuses.
type refusal struct {
	Status              int
	Title, Detail, Code string
	Help                string
}

func startTold(t *testing.T, answers map[string]any) *told {
	t.Helper()
	home, err := os.MkdirTemp("", "told") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	l, err := net.Listen("unix", filepath.Join(home, "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	n := &told{t: t, home: home, answers: answers}
	s := &http.Server{Handler: n}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return n
}

func (n *told) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		n.t.Error(err)
	}
	key := r.Method + " " + strings.TrimPrefix(r.URL.Path, "/api/v1")
	n.mu.Lock()
	n.asked = append(n.asked, strings.TrimSpace(key+" "+r.URL.RawQuery+" "+string(body)))
	n.mu.Unlock()
	switch answer := n.answers[key].(type) {
	case nil:
		n.t.Errorf("asked for %s", key)
	case refusal:
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(answer.Status)
		json.NewEncoder(w).Encode(answer)
	default:
		json.NewEncoder(w).Encode(answer)
	}
}

// musen runs a command, which must exit with that code, and returns what it
// printed.
func (n *told) musen(code int, args ...string) (stdout, stderr string) {
	n.t.Helper()
	var out, errs bytes.Buffer
	if got := cmd.Main(append([]string{"--home", n.home}, args...), strings.NewReader("RIFF"), &out, &errs); got != code {
		n.t.Errorf("musen %s exits with %d, not %d\n%s%s", strings.Join(args, " "), got, code, &out, &errs)
	}
	return out.String(), errs.String()
}

// wantLine fails the test unless text has a line with those cells in order.
func wantLine(t *testing.T, text string, cells ...string) {
	t.Helper()
	for i, c := range cells {
		cells[i] = regexp.QuoteMeta(c)
	}
	if !regexp.MustCompile(`(?m)^.*` + strings.Join(cells, `.*`)).MatchString(text) {
		t.Errorf("no line with %q in\n%s", cells, text)
	}
}

const (
	songCID  = "bafkreiabaoygjaow4wcsfc3jjvfjadcw2swgn6ag5jtovmm253ldz2cpwa"
	otherCID = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
)

func longAgo() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 0, time.Local) }

func song() swarm.Health {
	return swarm.Health{
		CID: songCID, StationName: "jazz", Title: "Night\x1b[2J Ferry", Level: "replicated", Reason: "1 of 2 copies proved", Next: longAgo(),
		Want: swarm.Want{Min: 2, Max: 3, Spread: "site"},
		Copies: []swarm.Copy{
			{Peer: "12D3KooWself", Name: "origin", Role: "origin", State: "proved", Counts: true, Since: longAgo()},
			{Peer: "12D3KooWattic", Name: "attic", Site: "home", Role: "replica", State: "failed", Outcome: "wrong", Reason: "wrong answer", Proved: longAgo()},
			{Name: "vault", Role: "service", State: "held"},
		},
	}
}

func TestPinStatus(t *testing.T) {
	n := startTold(t, map[string]any{"GET /segments/" + songCID + "/copies": song()})
	for _, args := range [][]string{{"pin", "status", songCID}, {"status", songCID}} {
		out, _ := n.musen(0, args...)
		wantLine(t, out, "level", "replicated")
		wantLine(t, out, "wanted", "2..3 copies on different sites")
		wantLine(t, out, "problem", "1 of 2 copies proved")
		wantLine(t, out, "next try", "2026-03-04 05:06:07")
		wantLine(t, out, "title", `Night\x1b[2J Ferry`)
		wantLine(t, out, "NAME", "ROLE", "SITE", "STATE", "COUNTS", "PROVED", "LAST AUDIT", "REASON")
		wantLine(t, out, "origin", "origin", "proved", "yes")
		wantLine(t, out, "attic", "replica", "home", "failed", "no", "2026-03-04", "wrong", "wrong answer")
		wantLine(t, out, "vault", "service", "held", "no")
	}
	out, _ := n.musen(0, "--json", "pin", "status", songCID)
	var h swarm.Health
	if err := json.Unmarshal([]byte(out), &h); err != nil || h.Level != "replicated" || len(h.Copies) != 3 {
		t.Errorf("JSON %s: %v", out, err)
	}
	n.musen(0, "pin", "status", songCID, "--wait", "replicated")
	_, errs := n.musen(9, "pin", "status", songCID, "--wait", "durable", "--wait-timeout", "1500ms")
	wantLine(t, errs, songCID+" is replicated, not durable, after 1.5s: 1 of 2 copies proved [not_replicated]")
	if last := n.asked[len(n.asked)-1]; !strings.Contains(last, "wait=durable&wait_timeout=2") {
		t.Errorf("asked %q", last)
	}
}

func TestStatusOfCopies(t *testing.T) {
	r := swarm.Replication{
		Summary: swarm.Summary{Segments: 14, Away: 2, Stored: 11, Replicated: 10, Durable: 9, Unhealthy: 3, Copies: 30, Proved: 28, Purging: 2, Fewer: 4, Strangers: 1},
		List:    []swarm.Health{song(), {CID: otherCID, Level: "none", Reason: "no copy answers"}},
	}
	station := wire.Station{ID: "aaaaaaaaaaaaaaaaaaaaaaaaaa", Name: "jazz", Label: "bbbbbbbbbbbbbbbb", Replication: swarm.Want{Min: 1, Max: 1, Spread: "none"}}
	n := startTold(t, map[string]any{
		"GET /status": wire.Status{Version: "v1", Segments: 12}, "GET /replication": r, "GET /fleet": wire.Fleet{}, "GET /alerts": wire.Alerts{},
		"GET /peers": swarm.Peers{Peers: []swarm.Peer{
			{ID: "12D3KooWself", Role: "origin", Name: "origin"},
			{ID: "12D3KooWone", Role: "storage", Name: "one", Up: true},
			{ID: "12D3KooWtwo", Role: "replica", Name: "two", Since: longAgo()},
			{ID: "12D3KooWthree", Role: "replica", Name: "three", PausedUntil: time.Now().Add(time.Hour)},
			{ID: "12D3KooWfour", Role: "storage", Name: "four", Up: true, Draining: true, Held: 3},
			{ID: "12D3KooWfive", Role: "replica", Name: "five", Up: true, Leaving: true, Held: 1},
			{ID: "12D3KooWsix", Role: "storage", Name: "six", Up: true, Draining: true},
		}},
		"GET /services": swarm.Services{Services: []swarm.Service{
			{Name: "vault", Held: 1}, {Name: "far", Failed: 2, Reason: "no room in this plan", Next: longAgo()},
		}},
		"GET /stations/jazz": station, "GET /stations/" + station.ID + "/replication": r,
	})
	for _, args := range [][]string{{"status"}, {"status", "jazz"}} {
		out, _ := n.musen(0, args...)
		wantLine(t, out, "replicated", "10 of 14 segments")
		wantLine(t, out, "durable", "9 of 14 segments")
		wantLine(t, out, "copies", "30, of which 28 proved")
		wantLine(t, out, "lost", "1 segment without a whole copy")
		wantLine(t, out, "unreachable", "2 segments without a whole copy, until a peer that is away is back")
		wantLine(t, out, "unhealthy", "3 segments")
		wantLine(t, out, "fewer", "4 segments with fewer copies than could be")
		wantLine(t, out, "purging", "2 ")
		wantLine(t, out, "strangers", "1 ")
		wantLine(t, out, songCID, "jazz", "replicated", "2026-03-04", "1 of 2 copies proved")
		wantLine(t, out, otherCID, "none", "no copy answers")
		wantLine(t, out, "and 1 more")
	}
	out, _ := n.musen(0, "status")
	wantLine(t, out, "away", "two (replica), down for ", "since 2026-03-04 05:06:07")
	wantLine(t, out, "draining", "four (storage), 3 segments to go\n")
	wantLine(t, out, "draining", "five (replica), 1 segment to go; no other peer of that role is there to take over")
	wantLine(t, out, "service", "far, 2 segments failed: no room in this plan; next try 2026-03-04 05:06:07")
	if strings.Contains(out, "three") || strings.Contains(out, "vault") || strings.Contains(out, "six (") {
		t.Errorf("all is well with these:\n%s", out)
	}
	out, _ = n.musen(0, "status", "jazz")
	wantLine(t, out, "wanted", "1 copy")
	wantLine(t, out, "label", "bbbbbbbbbbbbbbbb")
	out, _ = n.musen(0, "--json", "status")
	if !strings.Contains(out, `"version":"v1"`) || !strings.Contains(out, `"copies":{"segments":14,`) {
		t.Errorf("JSON %s", out)
	}
	n.answers["GET /replication"] = refusal{Status: 404, Code: "no_swarm", Detail: "This node keeps no copies on other peers."}
	if out, _ = n.musen(0, "status"); strings.Contains(out, "durable") || !strings.Contains(out, "segments") {
		t.Errorf("a node without a swarm:\n%s", out)
	}
}

func TestPeerList(t *testing.T) {
	ago := time.Now().Add(-90 * time.Minute)
	n := startTold(t, map[string]any{"GET /peers": swarm.Peers{Peers: []swarm.Peer{
		{ID: "12D3KooWself", Role: "origin", Name: "origin"},
		{ID: "12D3KooWone", Role: "storage", Name: "one", Site: "rack", Standing: "good", Up: true, Held: 7, Proved: 6, Free: 3 << 30, Audited: longAgo(), Outcome: "proved"},
		{ID: "12D3KooWtwo", Role: "replica", Name: "two", Standing: "warned", Since: ago, Waiting: 4, Draining: true, Appeal: "it was the cat"},
		{ID: "12D3KooWthree", Role: "replica", Name: "three\n", PausedUntil: time.Now().Add(time.Hour), Leaving: true},
		{ID: "12D3KooWfour", Role: "replica", Name: "four", Standing: "new"},
		{ID: "12D3KooWfive", Role: "guest", Name: "five"},
		{ID: "12D3KooWsix", Role: "storage", Name: "six", Heard: longAgo(), Held: 7},
	}}})
	out, _ := n.musen(0, "peer", "list")
	wantLine(t, out, "NAME", "ROLE", "SITE", "STANDING", "LINE", "HELD", "PROVED", "LAST AUDIT", "FREE", "WAITING", "ID")
	wantLine(t, out, "one", "storage", "rack", "good", "up", "7", "6", "proved 2026-03-04 05:06:07", "3.0 GiB", "0", "12D3KooWone")
	wantLine(t, out, "two", "replica", "warned, draining, appeals", "down for 1h30m", "4")
	wantLine(t, out, `three\n`, "wants to leave", "away until ")
	wantLine(t, out, "four", "new", "never seen")
	wantLine(t, out, "six", "storage", "down, last heard 2026-03-04 05:06:07")
	if strings.Contains(out, "STATIONS") {
		t.Errorf("all carry all stations:\n%s", out)
	}
	n.answers["GET /peers"] = swarm.Peers{Peers: []swarm.Peer{
		{ID: "12D3KooWone", Role: "storage", Name: "one"},
		{ID: "12D3KooWtwo", Role: "replica", Name: "two", Offer: &swarm.Offer{Labels: []string{"7e4upjfjjzgqfpo4", "56xzcvvw2lgcpf3j"}}},
		{ID: "12D3KooWthree", Role: "replica", Name: "three", Offer: &swarm.Offer{}},
	}}
	some, _ := n.musen(0, "peer", "list")
	wantLine(t, some, "ID", "STATIONS")
	wantLine(t, some, "two", "12D3KooWtwo", "7e4upjfjjzgqfpo4, 56xzcvvw2lgcpf3j")
	wantLine(t, some, "three", "12D3KooWthree", "all")
	n.answers["GET /peers"] = swarm.Peers{Peers: make([]swarm.Peer, 6)}
	if out, _ = n.musen(0, "--json", "peer", "list"); strings.Count(out, "\n") != 6 {
		t.Errorf("JSON:\n%s", out)
	}
}

// An invite stands alone on standard output: what prints it can be piped to
// the other machine.
func TestPeerInvite(t *testing.T) {
	n := startTold(t, map[string]any{
		"POST /peers/invites":        swarm.Invite{Invite: "musen-invite-1:c2VjcmV0", ID: "once", Expires: longAgo()},
		"GET /peers/invites":         swarm.OpenInvites{Invites: []swarm.OpenInvite{{ID: "once", Role: "replica", Name: "attic", Expires: longAgo()}}},
		"DELETE /peers/invites/once": struct{}{},
		"DELETE /peers/invites/none": refusal{Status: 404, Code: "not_found"},
	})
	out, errs := n.musen(0, "peer", "invite", "--role", "replica", "--name", "attic", "--site", "home", "--ttl", "90m", "--addr", "/dns/a.example/tcp/1", "--addr", "/dns/b.example/tcp/2")
	if out != "musen-invite-1:c2VjcmV0\n" || errs != "" {
		t.Errorf("printed %q and %q", out, errs)
	}
	want := `POST /peers/invites  {"role":"replica","name":"attic","site":"home","ttl":5400,"addresses":["/dns/a.example/tcp/1","/dns/b.example/tcp/2"]}`
	if n.asked[0] != want {
		t.Errorf("asked %s, want %s", n.asked[0], want)
	}
	out, _ = n.musen(0, "peer", "invites")
	wantLine(t, out, "once", "replica", "attic", "2026-03-04")
	out, _ = n.musen(0, "peer", "withdraw", "once")
	wantLine(t, out, "withdrew invite once")
	_, errs = n.musen(4, "peer", "withdraw", "none")
	wantLine(t, errs, `there is no open invite "none" [not_found]`)
}

func TestPeerCommands(t *testing.T) {
	two := swarm.Peer{ID: "12D3KooWtwo", Name: "two", Standing: "new", Held: 3, Proved: 2}
	n := startTold(t, map[string]any{
		"GET /peers":  swarm.Peers{Peers: []swarm.Peer{two}},
		"POST /peers": two, "POST /peers/two/drain": two, "POST /peers/two/reinstate": two, "DELETE /peers/two": struct{}{},
		"POST /peers/none/drain": refusal{Status: 404, Code: "not_found"},
		"DELETE /peers/none":     refusal{Status: 404, Code: "no_swarm", Detail: "This node keeps no copies on other peers."},
	})
	for want, args := range map[string][]string{
		"admitted two as a guest":         {"admit", "12D3KooWtwo", "--name", "two"},
		"draining two: 3 segments":        {"drain", "two"},
		`two is in standing "new" again`:  {"reinstate", "two", "--reason", "a new disk"},
		"removed peer two; what it holds": {"remove", "two"},
	} {
		out, _ := n.musen(0, append([]string{"peer"}, args...)...)
		wantLine(t, out, want)
		if out, _ = n.musen(0, append([]string{"--json", "peer"}, args...)...); !json.Valid([]byte(out)) {
			t.Errorf("%v prints %q", args, out)
		}
	}
	out, _ := n.musen(0, "peer", "remove", "two")
	wantLine(t, out, "2 segments had a copy there that counted")
	_, errs := n.musen(4, "peer", "drain", "none")
	wantLine(t, errs, `there is no peer "none" [not_found]`)
	_, errs = n.musen(4, "peer", "remove", "none")
	wantLine(t, errs, "keeps no copies on other peers [no_swarm]")
}

func TestPinCommands(t *testing.T) {
	vault := swarm.Service{Name: "vault", Endpoint: "https://pins.example", TokenFile: "/t", Held: 1, Waiting: 2, Failed: 3, Removing: 4, Reason: "401 from the service", Next: longAgo()}
	n := startTold(t, map[string]any{
		"POST /pins/recover": swarm.Recovered{Segments: 5}, "POST /pins/rebalance": swarm.Rebalanced{Moved: 6},
		"GET /services": swarm.Services{Services: []swarm.Service{vault}}, "POST /services": vault,
		"DELETE /services/vault": struct{}{}, "DELETE /services/gone": struct{}{}, "DELETE /services/none": refusal{Status: 404, Code: "not_found"},
	})
	for want, args := range map[string][]string{
		"trying again for 5 segments":                        {"recover"},
		"6 copies are on their way":                          {"rebalance"},
		"added pinning service vault":                        {"service", "add", "vault", "--endpoint", "https://pins.example", "--token-file", "t"},
		"leaving pinning service vault: 4 segments to unpin": {"service", "remove", "vault"},
		"left pinning service gone; nothing of this node":    {"service", "remove", "gone"},
		"vault  https://pins.example  in use, 4 to unpin  1     2        3       /t          " + longAgo().Local().Format("2006-01-02 15:04:05") + "  401 from the service": {"service", "list"},
	} {
		out, _ := n.musen(0, append([]string{"pin"}, args...)...)
		wantLine(t, out, want)
		if out, _ = n.musen(0, append([]string{"--json", "pin"}, args...)...); !json.Valid([]byte(out)) {
			t.Errorf("%v prints %q", args, out)
		}
	}
	n.musen(0, "pin", "recover", songCID)
	if last := n.asked[len(n.asked)-1]; last != fmt.Sprintf(`POST /pins/recover  {"cids":["%s"]}`, songCID) {
		t.Errorf("asked %q", last)
	}
	vault.Leaving = true
	n.answers["GET /services"] = swarm.Services{Services: []swarm.Service{vault}}
	out, _ := n.musen(0, "pin", "service", "list")
	wantLine(t, out, "vault  https://pins.example  leaving, 4 to unpin  1 ")
	_, errs := n.musen(4, "pin", "service", "remove", "none")
	wantLine(t, errs, `no pinning service "none" [not_found]`)
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	n.asked = nil
	n.musen(0, "pin", "service", "add", "vault", "--endpoint", "https://pins.example", "--token-file", "token")
	if want := fmt.Sprintf(`"token_file":"%s/token"`, here); !strings.Contains(n.asked[0], want) {
		t.Errorf("asked %q, want the whole path of the file", n.asked[0])
	}
}

// What was added and has not its copies in time is told of and exits with 9.
func TestAddWaits(t *testing.T) {
	added := wire.Added{Segment: wire.Segment{CID: songCID, Title: "Night Ferry"}}
	durable, stored := added, added
	durable.Level, stored.Level, stored.Reason = "durable", "stored", "no other peer"
	n := startTold(t, map[string]any{"POST /stations/jazz/segments": durable, "GET /segments/" + songCID + "/copies": song()})
	out, _ := n.musen(0, "add", "--station", "jazz", "--wait", "durable", "-")
	wantLine(t, out, songCID, "Night Ferry")
	if !strings.Contains(n.asked[0], "wait=durable&wait_timeout=60") {
		t.Errorf("asked %q", n.asked[0])
	}
	n.answers["POST /stations/jazz/segments"] = stored
	out, errs := n.musen(9, "add", "--station", "jazz", "--wait", "replicated", "--wait-timeout", "5s", "-")
	wantLine(t, out, songCID)
	wantLine(t, errs, songCID+" is stored, not replicated, after 5s: no other peer [not_replicated]")

	// Of several all are added before any is waited for.
	n.answers["POST /stations/jazz/segments"], n.asked = added, nil
	audio := filepath.Join(n.home, "a.wav")
	if err := os.WriteFile(audio, []byte("RIFF"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.musen(0, "add", "--station", "jazz", "--wait", "replicated", audio, audio)
	for i, want := range []string{"POST", "POST", "GET", "GET"} {
		if !strings.HasPrefix(n.asked[i], want) || strings.Contains(n.asked[i], "wait=") != (want == "GET") {
			t.Errorf("asked %q", n.asked)
		}
	}
	_, errs = n.musen(9, "add", "--station", "jazz", "--wait", "durable", audio, audio)
	wantLine(t, errs, "2 of 2 segments are not durable [not_replicated]")
}

// While a block between a segment's root and its leaves is missing nothing is
// collected, and gc says which segment that is and what to do.
func TestGCNamesWhatItCannotSee(t *testing.T) {
	t.Parallel()
	r := startRadio(t)
	files := bundled(t)
	r.add(files[0])
	bad := r.add(files[6])
	root, err := cid.Decode(bad.CID)
	if err != nil || root.Type() != cid.DagProtobuf {
		t.Fatalf("the root of a long segment is %s, %v", root, err)
	}
	name := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(root.Hash())
	if err := os.Remove(filepath.Join(r.home, "ipfs", "blocks", name[len(name)-3:len(name)-1], name+".data")); err != nil {
		t.Fatal(err)
	}
	_, errs, err := try("", "musen", "--home", r.home, "gc")
	exitsWith(t, err, 7)
	wantLine(t, errs, bad.CID, "[damaged]")
	wantLine(t, errs, "musen verify --repair "+bad.CID)
	out, errs, err := try("", "musen", "--home", r.home, "verify", "--repair", bad.CID)
	exitsWith(t, err, 7)
	wantLine(t, out, "damaged", bad.CID)
	wantLine(t, errs, "add the damaged segments again")
	r.musen("remove", bad.CID)
	wantLine(t, r.musen("gc"), "removed")
	wantLine(t, r.musen("verify"), "1 segment sound, 0 damaged")
}

func exitsWith(t *testing.T, err error, code int) {
	t.Helper()
	if exit, ok := err.(interface{ ExitCode() int }); !ok || exit.ExitCode() != code {
		t.Errorf("ended with %v, not exit code %d", err, code)
	}
}
