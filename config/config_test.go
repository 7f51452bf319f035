package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const identity = "[keyring]\nidentity_file = \"id\"\n"

// write makes a config.toml with that text and returns Sources with it.
func write(t *testing.T, text string) Sources {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Sources{Home: "/home/dj/musen", File: path}
}

func mustLoad(t *testing.T, src Sources) Config {
	t.Helper()
	c, err := Load(src)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// refused loads what must not load, with an error that says all of hints.
func refused(t *testing.T, src Sources, hints ...string) {
	t.Helper()
	_, err := Load(src)
	if err == nil {
		t.Fatalf("loaded, want an error with %q", hints)
	}
	for _, h := range hints {
		if !strings.Contains(err.Error(), h) {
			t.Errorf("the error does not say %q: %v", h, err)
		}
	}
}

func TestDefaults(t *testing.T) {
	c := mustLoad(t, write(t, identity))
	want := Default()
	want.Admin.Socket = "/home/dj/musen/admin.sock"
	want.Replica.Socket = "/home/dj/musen/host.sock"
	want.Policy.Dir = "/home/dj/musen/policy"
	want.Keyring.IdentityFile = "/home/dj/musen/id"
	want.Keyring.Folder = "/home/dj/musen/keys"
	c.origins = nil
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v\nwant %+v", c, want)
	}
	if c.Public.Address != "127.0.0.1:8420" || c.Metrics.Address != "" || c.Admin.Address != "" {
		t.Errorf("listeners by default: %q, %q, %q", c.Public.Address, c.Admin.Address, c.Metrics.Address) // P65
	}
	refused(t, Sources{Home: "/h", File: "/no/such/config.toml"}, "keyring.identity_file", "musen init")
}

func TestPrecedence(t *testing.T) {
	src := write(t, identity+"[public]\nmax_streams = 100\nmax_url = \"1KiB\"\nbase_url = \"https://file.example\"\ntrusted_proxies = [\"10.0.0.7\", \"10.1.0.0/16\"]\n[log]\nlevel = \"debug\"\n")
	src.Env = []string{"MUSEN_PUBLIC_MAX_STREAMS=200", "MUSEN_PUBLIC_MAX_URL=2KiB", "MUSEN_NODE_LISTEN=/ip4/127.0.0.1/tcp/1, /ip4/127.0.0.1/tcp/2", "PATH=/bin"}
	src.Flags = map[string]string{"public.max_streams": "300", "public.address": "127.0.0.1:0"}
	c := mustLoad(t, src)
	if c.Public.MaxStreams != 300 || c.Public.MaxURL != 2048 || c.Public.BaseURL != "https://file.example" || c.Public.IdleTimeout != time.Minute || c.Log.Level != "debug" {
		t.Errorf("got %+v", c.Public)
	}
	if want := []string{"/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/2"}; !reflect.DeepEqual(c.Node.Listen, want) {
		t.Errorf("node.listen = %q", c.Node.Listen)
	}
	if want := []netip.Prefix{netip.MustParsePrefix("10.0.0.7/32"), netip.MustParsePrefix("10.1.0.0/16")}; !reflect.DeepEqual(c.Public.TrustedProxies, want) {
		t.Errorf("public.trusted_proxies = %v", c.Public.TrustedProxies)
	}
	var b strings.Builder
	if err := c.Render(&b); err != nil {
		t.Fatal(err)
	}
	for key, origin := range map[string]string{"max_streams = 300": "# flag", `max_url = "2KiB"`: "# environment", `base_url = "https://file.example"`: "# file", `idle_timeout = "1m"`: "# default", `identity_file = "/home/dj/musen/id"`: "# file, secret: only its path is shown"} {
		if !hasLine(b.String(), key, origin) {
			t.Errorf("no line with %s and %s in\n%s", key, origin, b.String())
		}
	}
}

func hasLine(text, begin, end string) bool {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, begin) && strings.HasSuffix(line, end+"\n") {
			return true
		}
	}
	return false
}

// H80: what is not known is refused by name, with what was meant.
func TestUnknownNames(t *testing.T) {
	for text, hint := range map[string]string{
		"[public]\nadress = \"x\"":                   `"public.adress": did you mean public.address?`,
		"[pubic]\naddress = \"x\"":                   `"pubic.address": did you mean public.address?`,
		"[Public]\naddress = \"127.0.0.1:1\"":        `"Public.address": did you mean public.address?`,
		"address = \"127.0.0.1:1\"":                  `unknown setting "address": did you mean`,
		"max_streams = 3":                            `"max_streams": did you mean public.max_streams?`,
		"\"public.address\" = \"x\"":                 `unknown setting "public.address"`,
		"[cluster]\ntrusted_peers = [\"*\"]":         `unknown setting "cluster.trusted_peers"`,
		"[public.tls]\ncert = \"x\"":                 `unknown setting "public.tls.cert"`,
		"public = 3":                                 "public is a section: write [public]",
		"[[public]]\naddress = \"x\"":                "public is a section: write [public]",
		"[public]\naddress = \"a\"\naddress = \"b\"": "line 3",
		"[public\n":                                  "line 1",
		"origins = 1":                                `unknown setting "origins"`,
	} {
		src := write(t, text)
		refused(t, src, src.File, hint)
	}
	src := write(t, identity)
	src.Env = []string{"MUSEN_PUBLIC_ADRESS=x", "MUSEN_LOG_LEVEL=info"}
	refused(t, src, `environment variable "MUSEN_PUBLIC_ADRESS": did you mean MUSEN_PUBLIC_ADDRESS?`)
	src.Env = []string{"MUSEN_HOME=/h", "MUSEN_SERVICE_HOST=10.0.0.1", "MUSEN_PORT_8420_TCP=x"}
	mustLoad(t, src)
	src.Flags = map[string]string{"public.port": "1"}
	refused(t, src, `unknown setting "public.port"`)
}

// H80: a value of the wrong type is refused, never bent.
func TestWrongTypes(t *testing.T) {
	for text, hints := range map[string][]string{
		"[public]\naddress = 8420":                     {"public.address", "want a text", "8420"},
		"[public]\nmax_streams = \"many\"":             {"public.max_streams", "whole number", "many"},
		"[public]\nmax_streams = 1.5":                  {"public.max_streams", "whole number", "1.5"},
		"[public]\nmax_streams = true":                 {"public.max_streams", "whole number", "true"},
		"[node]\nrelay = 1":                            {"node.relay", "true or false", "1"},
		"[node]\nrelay = \"yes\"":                      {"node.relay", "true or false", "yes"},
		"[public]\nidle_timeout = 60":                  {"public.idle_timeout", `a time like "5m"`, "60"},
		"[public]\nidle_timeout = \"soon\"":            {"public.idle_timeout", "soon"},
		"[admin]\nmax_segment = 4096":                  {"admin.max_segment", `a size like "32MiB"`},
		"[admin]\nmax_segment = \"-1MiB\"":             {"admin.max_segment", "-1MiB"},
		"[node]\nlisten = \"/ip4/1.2.3.4\"":            {"node.listen", "list"},
		"[node]\nlisten = [1]":                         {"node.listen", "list of texts"},
		"[public]\ntrusted_proxies = [\"x\"]":          {"public.trusted_proxies", `"x" is not a network`},
		"[public]\ntrusted_proxies = [\"10.0.0.7/8\"]": {"public.trusted_proxies", "not a network"},
		"[log.level]\nx = 1":                           {"log.level"},
		"[policy]\nlink_ttl = 1979-05-27":              {"policy.link_ttl", "a value of another type"},
		"[public]\naddress = 1\n[log]\nlevel=2":        {"public.address", "log.level"},
	} {
		refused(t, write(t, text), hints...)
	}
	src := write(t, identity)
	src.Env = []string{"MUSEN_PUBLIC_MAX_STREAMS=x"}
	refused(t, src, "MUSEN_PUBLIC_MAX_STREAMS", "whole number")
	src.Env, src.Flags = nil, map[string]string{"public.idle_timeout": "x"}
	refused(t, src, "public.idle_timeout", "flag")
}

// P93: where to appeal is a page or a mailbox, and nothing that a browser runs.
func TestAppealURL(t *testing.T) {
	for text, hints := range map[string][]string{
		"[public]\nappeal_url = \"http://radio.example/appeal\"": {"public.appeal_url", "https://"},
		"[public]\nappeal_url = \"javascript:alert(1)\"":         {"public.appeal_url"},
		"[public]\nappeal_url = \"https://a.example/>; rel=x\"":  {"public.appeal_url"},
		"[public]\nappeal_url = \"mailto:nobody\"":               {"public.appeal_url"},
	} {
		src := write(t, text)
		src.Flags = map[string]string{"keyring.identity_file": "id"}
		refused(t, src, hints...)
	}
}

// P4, P65, H80: what is unsafe is refused before anything listens.
func TestUnsafeValues(t *testing.T) {
	for text, hints := range map[string][]string{
		"[public]\naddress = \"0.0.0.0:8420\"":                   {"public.address", "TLS", "trusted_proxies"},
		"[public]\naddress = \":8420\"":                          {"public.address", "TLS"},
		"[public]\nregion_header = \"X-Region\"":                 {"public.region_header", "public.trusted_proxies"},
		"[public]\nregion_header = \"Cookie\"":                   {"public.region_header", "Cookie"},
		"[public]\nregion_header = \"a b\"":                      {"public.region_header", "a b"},
		"[policy]\ndir = \"\"":                                   {"policy.dir"},
		"[policy]\ndisable_unused = \"1h\"":                      {"policy.disable_unused", "a day"},
		"[policy]\nreview_every = \"-1s\"":                       {"policy.review_every"},
		"[policy]\nzone = \"Local\"":                             {"policy.zone", "Local"},
		"[policy]\nzone = \"Mars/Base\"":                         {"policy.zone", "Mars/Base"},
		"[public]\naddress = \"[::]:8420\"":                      {"public.address", "TLS"},
		"[public]\naddress = \"192.0.2.7:8420\"":                 {"public.address", "TLS"},
		"[public]\naddress = \"radio.example:443\"":              {"public.address", "TLS"},
		"[public]\naddress = \"127.0.0.1\"":                      {"public.address", "127.0.0.1:8420"},
		"[public]\naddress = \"127.0.0.1:99999\"":                {"public.address", "port"},
		"[public]\naddress = \"127.0.0.1:http\"":                 {"public.address", "port"},
		"[public]\naddress = \"\"":                               {"public.address"},
		"[public]\ntls_cert = \"c\"":                             {"public.tls_cert", "public.tls_key"},
		"[public]\ntls_key = \"c\"":                              {"public.tls_cert", "public.tls_key"},
		"[public]\ntrusted_proxies = [\"0.0.0.0/0\"]":            {"public.trusted_proxies", "everybody"},
		"[public]\ntrusted_proxies = [\"::/0\"]":                 {"public.trusted_proxies", "everybody"},
		"[public]\nbase_url = \"http://radio.example\"":          {"public.base_url", "https://"},
		"[public]\nbase_url = \"https://a:b@radio.example\"":     {"public.base_url", "password"},
		"[public]\nbase_url = \"radio.example\"":                 {"public.base_url"},
		"[public]\nbase_url = \"ftp://radio.example\"":           {"public.base_url"},
		"[public]\nbase_url = \"https://radio.example/?a\"":      {"public.base_url"},
		"[admin]\naddress = \"0.0.0.0:1\"":                       {"admin.address", "others can reach"},
		"[admin]\naddress = \":1\"":                              {"admin.address", "others can reach"},
		"[admin]\nsocket = \"\"":                                 {"admin.socket"},
		"[admin]\nsocket = \"" + strings.Repeat("x", 104) + "\"": {"admin.socket", "shorter"},
		"[metrics]\naddress = \"[::]:9090\"":                     {"metrics.address", "others can reach"},
		"[metrics]\naddress = \"127.0.0.1:8420\"":                {"two listeners"},
		"[public]\nmax_streams = -1":                             {"public.max_streams", "-1"},
		"[public]\nmax_streams = 0":                              {"public.max_streams", "between 1"},
		"[public]\nmax_streams_per_subject = 1000":               {"public.max_streams_per_subject", "512"},
		"[public]\nmax_url = \"17KiB\"":                          {"public.max_url", "public.max_header_bytes"},
		"[public]\nwrite_stall = \"0s\"":                         {"public.write_stall"},
		"[public]\nread_header_timeout = \"-1s\"":                {"public.read_header_timeout"},
		"[policy]\nlink_ttl = \"25h\"":                           {"policy.link_ttl", "25h", "24h"}, // P9
		"[policy]\nlink_ttl = \"0s\"":                            {"policy.link_ttl"},
		"[policy]\nmax_token_ttl = \"9000h\"":                    {"policy.max_token_ttl"}, // P35
		"[node]\nlisten = []":                                    {"node.listen"},
		"[node]\nlisten = [\"127.0.0.1:4001\"]":                  {"node.listen", "multiaddress"},
		"[keyring]\npassphrase_file = \"p\"":                     {"keyring.identity_file", "not both"},
		"[log]\nlevel = \"loud\"":                                {"log.level", "loud"},
		"[log]\nformat = \"xml\"":                                {"log.format", "xml"},
		"shutdown_timeout = \"1h\"":                              {"shutdown_timeout", "30s"}, // H74
		"recheck_interval = \"1h\"":                              {"recheck_interval", "1m"},
		"role = \"lord\"":                                        {"role", "lord", "edge", "replica"},
		"role = \"edge\"":                                        {"catalogue.postgres_file"},
		"[fleet]\nlease = \"2s\"":                                {"fleet.poll", "half"},
		"[fleet]\nlease = \"0s\"":                                {"fleet.lease", "1s"},
		"[fleet]\nname = \"my edge\"":                            {"fleet.name", "my edge"},
		"[fleet]\npeers = [\"/ip4/192.0.2.1/tcp/4001\"]":         {"fleet.peers", "peer ID"},
		"role = \"replica\"":                                     {"role", "no keys"}, // the test names an identity file
		"[node]\nannounce = [\"radio.example\"]":                 {"node.announce", "multiaddress"},
		"[node]\nrelays = [\"/ip4/192.0.2.1/tcp/4001\"]":         {"node.relays", "peer ID"},
		"[pin]\nsite = \"my attic\"":                             {"pin.site", "my attic"},
		"[pin]\nping_interval = \"1ms\"":                         {"pin.ping_interval", "100ms"},
		"[pin]\nreconcile_interval = \"2h\"":                     {"pin.reconcile_interval", "1h"},
		"[pin]\naudit_cycle = \"0s\"":                            {"pin.audit_cycle"},
		"[pin]\naudit_deadline = \"1h\"":                         {"pin.audit_deadline"},
		"[pin]\nscrub_rate = \"0B\"":                             {"pin.scrub_rate", "4KiB"},
		"[replica]\naddress = \"0.0.0.0:443\"":                   {"replica.address", "replica.tls_cert"},
		"[replica]\naddress = \"127.0.0.1\"":                     {"replica.address"},
		"[replica]\ntls_cert = \"c\"":                            {"replica.tls_cert", "replica.tls_key"},
		"[replica]\nsocket = \"\"":                               {"replica.socket"},
	} {
		t.Run(text, func(t *testing.T) {
			src := write(t, text)
			src.Flags = map[string]string{"keyring.identity_file": "id"}
			refused(t, src, hints...)
		})
	}
}

func TestSafeValues(t *testing.T) {
	for _, text := range []string{
		"[public]\naddress = \"0.0.0.0:443\"\ntls_cert = \"c\"\ntls_key = \"k\"",
		"[public]\naddress = \"0.0.0.0:80\"\ntrusted_proxies = [\"10.0.0.7\"]",
		"[public]\naddress = \"[::1]:0\"\nbase_url = \"https://radio.example/audio\"",
		"[public]\naddress = \"localhost:8420\"\nbase_url = \"http://127.0.0.1:8420\"",
		"[admin]\naddress = \"127.0.0.1:0\"\n[metrics]\naddress = \"127.0.0.1:0\"",
		"[public]\n",
		"role = \"edge\"\n[catalogue]\npostgres_file = \"pg\"",
		"",
	} {
		c := mustLoad(t, write(t, text+"\n"+identity))
		if c.Public.TLSKey != "" && c.Public.TLSKey != "/home/dj/musen/k" {
			t.Errorf("tls_key = %q", c.Public.TLSKey)
		}
	}
}

// A home without keys names none, and says what it is.
func TestRoles(t *testing.T) {
	for _, role := range []string{RoleStorage, RoleReplica} {
		src := write(t, "role = \""+role+"\"\n[node]\nrelay = true\nrelays = [\"/ip4/192.0.2.1/tcp/4001/p2p/12D3KooW\"]\n[replica]\naddress = \"0.0.0.0:443\"\ntls_cert = \"c\"\ntls_key = \"k\"\n[pin]\nsite = \"fra-1.b\"\n")
		src.Env = []string{"MUSEN_NODE_RELAY=false"}
		c := mustLoad(t, src)
		if c.Role != role || c.Node.Relay || c.Replica.TLSKey != "/home/dj/musen/k" || c.Pin.Site != "fra-1.b" {
			t.Errorf("got %+v", c)
		}
		src.Env = []string{"MUSEN_NODE_RELAY=1"}
		refused(t, src, "MUSEN_NODE_RELAY", "true or false")
	}
}

func TestLoadRefusesWhatIsNoFile(t *testing.T) {
	src := write(t, "")
	src.File = filepath.Dir(src.File)
	refused(t, src, "not a file")
	src = write(t, strings.Repeat("#\n", 1<<20))
	refused(t, src, "not a file of at most 1MiB")
}

// The written file explains every setting and reads back to the same.
func TestWriteTOML(t *testing.T) {
	c := Default()
	c.Keyring.IdentityFile = "identity.txt"
	c.Public.BaseURL = `https://x.example/"\` + "\x01ä"
	c.Public.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}
	c.Policy.LinkTTL = 90 * time.Second
	var b strings.Builder
	if err := c.WriteTOML(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	got, err := load(write(t, text))
	if err != nil {
		t.Fatal(err)
	}
	got.origins = nil
	if !reflect.DeepEqual(got, c) {
		t.Errorf("got %+v\nwant %+v\nfrom\n%s", got, c, text)
	}
	for _, s := range c.settings() {
		if !strings.Contains(text, "\n"+s.name()+" = ") && !strings.Contains(text, "\n#"+s.name()+" = ") {
			t.Errorf("%s is not in the file", s.key)
		}
	}
	for _, want := range []string{"# How many responses with audio may run at once.\n#max_streams = 512\n", "\nidentity_file = \"identity.txt\"\n", "# Who may do what, and for how long a credential lasts.\n[policy]\n", "\nlink_ttl = \"1m30s\"\n", "#block_cache = \"32MiB\"\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the file lacks %q:\n%s", want, text)
		}
	}
}

// Every setting has a comment: it is the manual.
func TestEverySettingIsDocumented(t *testing.T) {
	doc, err := docs()
	if err != nil {
		t.Fatal(err)
	}
	c := Default()
	for _, s := range c.settings() {
		if !strings.HasSuffix(doc[s.struc+"."+s.field], ".") {
			t.Errorf("%s has no comment of whole sentences: %q", s.key, doc[s.struc+"."+s.field])
		}
		if section := s.section(); section != "" && doc["Config."+sectionField(section)] == "" {
			t.Errorf("[%s] has no comment", section)
		}
		if err := s.setText(strings.Trim(s.text(), `"`)); err != nil && s.value.Kind() != reflect.Slice {
			t.Errorf("%s does not take its own default: %v", s.key, err)
		}
	}
}

// P64: what was set is told apart from the defaults, by key.
func TestNotDefault(t *testing.T) {
	c := Default()
	if set := c.NotDefault(); len(set) != 0 {
		t.Errorf("%v", set)
	}
	c.Limits.Client, c.Public.BaseURL = 7, "https://radio.example"
	if set := c.NotDefault(); len(set) != 2 || set["limits.client"] != "7" || set["public.base_url"] != `"https://radio.example"` {
		t.Errorf("%v", set)
	}
}

func TestJSON(t *testing.T) {
	b, err := json.Marshal(Default())
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Shutdown string `json:"shutdown_timeout"`
		Public   struct {
			MaxStreams     int      `json:"max_streams"`
			MaxURL         string   `json:"max_url"`
			TrustedProxies []string `json:"trusted_proxies"`
		}
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if got.Shutdown != "8s" || got.Public.MaxStreams != 512 || got.Public.MaxURL != "4KiB" || got.Public.TrustedProxies == nil {
		t.Errorf("got %+v from %s", got, b)
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{"0B": 0, "1B": 1, "4KiB": 4096, "32 MiB": 32 << 20, "4GiB": 4 << 30, "1TiB": 1 << 40, "500MB": 500e6, "2kB": 2000, "8388607TiB": 8388607 << 40} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "B", "1", "1.5MiB", "-1B", "+1B", "1 0B", "1  B", "MiB", "8388608TiB", "99999999999999999999B", "1mib", "0x1B"} {
		if got, err := ParseSize(bad); err == nil {
			t.Errorf("ParseSize(%q) = %d", bad, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		want := Size(rapid.Int64Min(0).Draw(t, "size"))
		if got, err := ParseSize(want.String()); err != nil || got != want {
			t.Fatalf("%d is spelled %q and read as %d, %v", want, want, got, err)
		}
	})
}

// Whatever loads can be written, and loads again to the same.
func FuzzLoad(f *testing.F) {
	var b bytes.Buffer
	if err := Default().WriteTOML(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes(), "x")
	f.Add([]byte(identity+"[public]\nmax_streams = 3\ntrusted_proxies = [\"10.0.0.0/8\"]"), "3")
	f.Add([]byte("public = [{a = 1}]\n\"\\u0000\" = 2"), "[]")
	f.Fuzz(func(t *testing.T, file []byte, text string) {
		c := Default()
		c.origins = map[string]string{}
		ferr := c.loadTOML(file)
		eerr := c.loadEnv([]string{"MUSEN_PUBLIC_BASE_URL=" + text, "MUSEN_" + text})
		_, _, _ = c.Check(), ferr, eerr
		if ferr != nil || eerr != nil {
			return
		}
		var b bytes.Buffer
		if err := c.WriteTOML(&b); err != nil {
			t.Fatal(err)
		}
		again := Default()
		again.origins = map[string]string{}
		if err := again.loadTOML(b.Bytes()); err != nil {
			t.Fatalf("%v in\n%s", err, b.Bytes())
		}
		if got, want := fmt.Sprint(texts(again)), fmt.Sprint(texts(c)); got != want {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	})
}

func texts(c Config) []string {
	return names(c.settings(), func(s setting) string { return s.key + "=" + s.text() })
}
