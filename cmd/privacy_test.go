package cmd_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The addresses that are planted: one connects itself, for two a proxy speaks.
const (
	direct      = "127.0.0.77"
	forwardedV4 = "203.0.113.77"
	forwardedV6 = "2001:db8:9c1:5e77::77"
	proxy       = "127.0.0.9"
)

// forms are all that an address may be written as: text, bytes, hexadecimal,
// base64, and the network of an IPv6 one.
func forms(address string) map[string][]byte {
	a := netip.MustParseAddr(address)
	raw, mapped := a.AsSlice(), a.As16()
	m := map[string][]byte{
		address: []byte(address), address + " in full": []byte(a.StringExpanded()),
		address + " in bytes": raw, address + " mapped": mapped[:],
		address + " in hex": []byte(hex.EncodeToString(raw)), address + " in HEX": []byte(strings.ToUpper(hex.EncodeToString(raw))),
	}
	if a.Is6() {
		m["network of "+address] = raw[:8]
		m["network of "+address+" in hex"] = []byte(hex.EncodeToString(raw[:8]))
		m["network of "+address+" in text"] = []byte("2001:db8:9c1:5e77")
	} else {
		m[address+" as a number"] = fmt.Append(nil, uint32(raw[0])<<24|uint32(raw[1])<<16|uint32(raw[2])<<8|uint32(raw[3]))
	}
	return m
}

// planted are the forms of all addresses.
func planted() map[string][]byte {
	all := map[string][]byte{}
	for _, a := range []string{direct, forwardedV4, forwardedV6} {
		for name, form := range forms(a) {
			all[name] = form
		}
	}
	return all
}

// A haul is all that can be read of a node, by name: its files, its log, and
// what its API and its metrics answer.
type haul map[string][]byte

func (h haul) count(form []byte) (n int, where string) {
	for name, b := range h {
		if found := bytes.Count(b, form); found > 0 {
			n += found
			where += " " + name
		}
	}
	return n, where
}

// files reads every file of a home.
func (h haul) files(t *testing.T, home string) {
	t.Helper()
	err := filepath.WalkDir(home, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		h[path] = b
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A visitor is an HTTP client at an address.
func visitor(t *testing.T, address string) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	transport := &http.Transport{DialContext: dialer.DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// shout connects from the planted address and sends what is no request.
func shout(t *testing.T, to, what string) {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(direct)}}
	c, err := dialer.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(c, what) // it may be cut off before it has said all
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, c)
}

// P40, P41, P44, H13, H54: of listeners, strangers and attackers no address is in
// any file of a node, in its log down to debug, in its metrics, in what its API
// answers or in the calls that it makes; nor is any piece of a token or a link.
func TestNothingTellsWhereListenersAre(t *testing.T) {
	told, env := startOps(t)
	r := startRadio(t, append(env,
		"MUSEN_PUBLIC_TRUSTED_PROXIES="+proxy, "MUSEN_PUBLIC_CLIENT_HEADER=X-Forwarded-For", "MUSEN_LOG_LEVEL=debug",
		"MUSEN_METRICS_ADDRESS=127.0.0.1:0", "MUSEN_ALERTS_REFUSALS=5")...)
	song := r.add("../testdata/audio/01-station-ident.mp3")
	token := strings.TrimSpace(r.musen("token", "issue", "--station", "jazz", "--subject", "ann"))
	link, err := url.Parse(strings.TrimSpace(r.musen("link", song.CID)))
	if err != nil {
		t.Fatal(err)
	}
	before := haul{"log": []byte(r.node.log.String())}
	before.files(t, r.home)

	visit(t, r, song, token, link)
	for rule := ""; !strings.Contains(rule, `"rule":"refusals"`); {
		rule = <-told
		for name, form := range planted() {
			if strings.Contains(rule, string(form)) {
				t.Errorf("a call tells %s: %s", name, rule)
			}
		}
	}
	after := haul{"status": []byte(r.musen("--json", "status")), "subjects": []byte(r.musen("--json", "subject", "list"))}
	if !bytes.Contains(after["status"], []byte(`"rule":"refusals"`)) {
		t.Errorf("status tells of no alert: %s", after["status"])
	}
	res, err := http.Get(r.node.ready.Metrics)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if after["metrics"], err = io.ReadAll(res.Body); err != nil || !bytes.Contains(after["metrics"], []byte(`musen_anomalies_total{rule="refusals"}`)) {
		t.Errorf("metrics: %v", err)
	}
	after["log"] = []byte(r.node.log.String())
	for _, status := range []string{"200", "206", "401", "404", "414", "405"} {
		if !bytes.Contains(after["log"], []byte("status="+status)) {
			t.Errorf("the log has no line with status %s", status)
		}
	}
	after.files(t, r.home)
	for name, form := range planted() {
		was, _ := before.count(form) // by chance, in random bytes
		if is, where := after.count(form); is > was {
			t.Errorf("%s is in%s", name, where)
		}
	}
	for name, raw := range map[string]string{"a token": token, "a link": link.Query().Get("CAT")} {
		for i := 0; i+8 <= len(raw); i++ {
			if n, where := after.count([]byte(raw[i : i+8])); n > 0 {
				t.Errorf("a piece of %s is in%s", name, where)
				break
			}
		}
	}
}

// visit is what listeners and others do, from all planted addresses.
func visit(t *testing.T, r *radio, song aired, token string, link *url.URL) {
	t.Helper()
	listen := r.node.ready.Public + "/listen/" + song.CID
	for _, as := range [][2]string{{direct, ""}, {proxy, forwardedV4}, {proxy, forwardedV6}} {
		client := visitor(t, as[0])
		ask := func(method, url string, want int, fields ...string) {
			t.Helper()
			body := ""
			if method == http.MethodPost {
				body = `{"about":"` + link.String() + `","category":"other","text":"x"}`
			}
			req, err := http.NewRequest(method, url, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if as[1] != "" {
				req.Header.Set("X-Forwarded-For", as[1])
			}
			for i := 0; i < len(fields); i += 2 {
				req.Header.Set(fields[i], fields[i+1])
			}
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			answer, _ := io.ReadAll(res.Body) // an answer that is cut is one too
			if res.StatusCode != want {
				t.Errorf("%s %s: %d, want %d: %.200s", method, url, res.StatusCode, want, answer)
			}
		}
		ask("GET", listen, 200, "Authorization", "Bearer "+token)
		ask("GET", link.String(), 200)
		ask("GET", listen, 206, "Authorization", "Bearer "+token, "Range", "bytes=0-99")
		ask("GET", r.node.ready.Public+"/ipfs/"+song.CID+"?format=raw", 200)
		ask("GET", r.node.ready.Public+"/listen/bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy", 404, "Authorization", "Bearer "+token)
		ask("POST", r.node.ready.Public+"/reports", 202, "Content-Type", "application/json")
		ask("TRACE", listen, 405)
		ask("GET", r.node.ready.Public+"/nowhere", 404)
		ask("GET", listen+"?"+strings.Repeat("x", 5000), 414)
		for range 10 {
			ask("GET", listen, 401, "Authorization", "Bearer bad")
		}
	}
	public := strings.TrimPrefix(r.node.ready.Public, "http://")
	for _, what := range []string{"\x16\x03\x01\x02\x00\x01\x00", "GET / HTTP/9.9\r\n\r\n", "GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", "nonsense\r\n\r\n"} {
		shout(t, public, what)
	}
	for _, peer := range r.node.ready.Peer { // libp2p, which logs who disturbs it
		parts := strings.Split(peer, "/") // "", ip4, address, tcp, port, ...
		if len(parts) > 4 && parts[3] == "tcp" {
			shout(t, net.JoinHostPort(parts[2], parts[4]), "\x13/multistream/1.0.0\n\x07/noise\nnonsense")
		}
	}
}
