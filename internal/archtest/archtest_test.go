package archtest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/mod/modfile"
)

// root is the folder of the module that this package is in.
func root(t *testing.T) (dir string, gomod []byte) {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil {
			return dir, b
		}
		if !errors.Is(err, fs.ErrNotExist) || filepath.Dir(dir) == dir {
			t.Fatal(err)
		}
		dir = filepath.Dir(dir)
	}
}

func TestSources(t *testing.T) {
	dir, gomod := root(t)
	faults, err := Check(os.DirFS(dir), modfile.ModulePath(gomod))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		t.Error(f)
	}
}

// H87: no module older than its last known hole.
func TestVersions(t *testing.T) {
	_, gomod := root(t)
	faults, err := Floors(gomod)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		t.Error(f)
	}
	for module := range floors() {
		if !strings.Contains(module, "jwt") && !strings.Contains(string(gomod), "\t"+module+" v") {
			t.Errorf("%s is not in go.mod: does the program still need its floor?", module)
		}
	}
}

// want compares the faults of sources held in strings with those expected, of
// which each is a part.
func want(t *testing.T, files map[string]string, expected ...string) {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, src := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(src)}
	}
	faults, err := Check(fsys, "example.org/m")
	if err != nil {
		t.Fatal(err)
	}
	if len(faults) != len(expected) {
		t.Errorf("%d faults, want %d: %q", len(faults), len(expected), faults)
	}
	for _, e := range expected {
		if !slices.ContainsFunc(faults, func(f string) bool { return strings.Contains(f, e) }) {
			t.Errorf("no fault with %q in %q", e, faults)
		}
	}
}

// source is a good file of a package with these imports.
func source(name string, imports ...string) string {
	var b strings.Builder
	b.WriteString("// Package " + name + " is a fixture.\npackage " + name + "\n\n")
	for _, i := range imports {
		b.WriteString("import _ \"" + i + "\"\n")
	}
	return b.String()
}

func TestCheckFindsForbiddenImports(t *testing.T) {
	for _, c := range []struct{ file, imports, fault string }{
		{"node/n.go", "example.org/m/seal", "node/n.go: node may not import example.org/m/seal"},
		{"node/n.go", "example.org/m/internal/keyring", "node may not import"},
		{"node/store/n.go", "example.org/m/seal", "node/store/n.go: node may not import"},
		{"node/n.go", "example.org/m", "node may not import example.org/m"},
		{"seal/s.go", "example.org/m/config", "seal may not import"},
		{"policy/cat/c.go", "example.org/m", "policy may not import"},
		{"policy/p.go", "net/http", "policy may not import net/http"},
		{"catalog/c.go", "example.org/m/internal/keyring", "catalog may not import"},
		{"gateway/g.go", "example.org/m/node", "gateway may not import"},
		{"gateway/admin/g.go", "example.org/m/internal/keyring", "gateway may not import"},
		{"root.go", "example.org/m/node", ". may not import"},
		{"root.go", "example.org/m/internal/keyring", ". may not import"},
		{"internal/media/m.go", "example.org/m/seal", "internal/media may not import"},
		{"cmd/c.go", "github.com/gin-gonic/gin", "belongs to gateway"},
		{"node/n.go", "github.com/gin-contrib/cors", "belongs to gateway"},
		{"gateway/g.go", "github.com/ipfs/kubo/core", "belongs to node"},
		{"node/n.go", "github.com/ipfs-cluster/ipfs-cluster/api", "belongs to pin"},
		{"cmd/c.go", "database/sql", "belongs to catalog"},
		{"cmd/c.go", "modernc.org/sqlite", "belongs to catalog"},
		{"cmd/c.go", "github.com/uptrace/bun/dialect/sqlitedialect", "belongs to catalog"},
		{"cmd/c.go", "github.com/pressly/goose/v3", "belongs to catalog"},
		{"catalog/c.go", "github.com/tink-crypto/tink-go/v2/tink", "belongs to seal, internal/keyring"},
		{"seal/s.go", "filippo.io/age", "belongs to internal/keyring"},
		{"node/n.go", "filippo.io/age/armor", "belongs to internal/keyring"},
		{"extra/e.go", "fmt", "no import rule for this folder"},
	} {
		t.Run(c.file+" "+c.imports, func(t *testing.T) {
			want(t, map[string]string{c.file: source("x", c.imports)}, c.fault)
			// A build constraint hides nothing.
			want(t, map[string]string{c.file: "//go:build never\n\n" + source("x", c.imports)}, c.fault)
		})
	}
}

func TestCheckAllowsTheDesign(t *testing.T) {
	want(t, map[string]string{
		"root.go":               source("m", "example.org/m/seal", "example.org/m/policy", "example.org/m/internal/media", "fmt"),
		"node/n.go":             source("node", "example.org/m/config", "github.com/ipfs/kubo/core", "github.com/ipfs/boxo/blockstore"),
		"policy/p.go":           source("policy", "example.org/m/policy/cat"),
		"catalog/c.go":          source("catalog", "example.org/m", "example.org/m/policy", "database/sql"),
		"internal/keyring/k.go": source("keyring", "example.org/m", "example.org/m/seal", "example.org/m/policy", "filippo.io/age"),
		"gateway/g.go":          source("gateway", "example.org/m", "example.org/m/gateway/admin", "github.com/gin-gonic/gin", "github.com/ginx/y"),
		"cmd/musen/main.go":     source("main", "example.org/m/cmd"),
		"cmd/c.go":              source("cmd", "example.org/m", "example.org/m/node", "example.org/m/internal/keyring"),
		"internal/testnet/t.go": source("testnet", "example.org/m/node", "example.org/m/internal/keyring"),
		"node/n_test.go":        "package node\n\nimport _ \"example.org/m/seal\"\n",
		"tools/go.mod":          "module tools\n",
		"tools/t.go":            "package utils\n\nfunc init() {}\n",
		"testdata/x.go":         "package utils\n",
		".hidden/x.go":          "package utils\n",
		"seal/made.go":          "// Code generated by hand. DO NOT EDIT.\n\npackage utils\n",
		"docs/readme.md":        "x",
	})
}

func TestCheckFindsBadShape(t *testing.T) {
	long := "func f() {\n" + strings.Repeat("\t_ = 1\n", 79) + "}\n"
	for what, c := range map[string]struct {
		src   string
		fault []string
	}{
		"init":              {"func init() {}\n", []string{"seal/s.go:4: no init functions"}},
		"long function":     {long, []string{"function f has 81 lines"}},
		"long method":       {"type t int\n\n" + strings.Replace(long, "f()", "(t) m()", 1), []string{"function m has 81 lines"}},
		"just long enough":  {strings.Replace(long, "\t_ = 1\n", "", 1), nil},
		"long file":         {strings.Repeat("\n", 498), []string{"501 lines"}},
		"bare function":     {"func F() {}\n", []string{"s.go:4: F is exported"}},
		"wrong first word":  {"// Does F.\nfunc F() {}\n", []string{"begin with its name"}},
		"bare type":         {"type T int\n", []string{"T is exported"}},
		"bare method":       {"// T is t.\ntype T int\n\nfunc (*T) M() {}\n", []string{"M is exported"}},
		"bare constant":     {"const C = 1\n", []string{"C is exported"}},
		"bare variable":     {"// v\nvar v = 1\n\nvar (\n\t// A is a.\n\tA = 1\n\tB = 2\n)\n", []string{"B is exported"}},
		"articles":          {"// A T is t.\ntype T int\n\n// The F does.\nfunc F() {}\n", nil},
		"group":             {"// States.\nconst (\n\tA = 1\n\tB = 2\n)\n\nconst (\n\tC = 3 // c\n)\n", nil},
		"unexported":        {"type t[K any] int\n\nfunc (t[K]) Close() {}\n\nfunc f() {}\n", nil},
		"method of generic": {"// T is t.\ntype T[K any] int\n\nfunc (*T[K]) M() {}\n", []string{"M is exported"}},
	} {
		t.Run(what, func(t *testing.T) {
			want(t, map[string]string{"seal/s.go": source("seal") + c.src}, c.fault...)
		})
	}
	for _, name := range []string{"utils", "common", "helpers", "types", "manager", "mock"} {
		want(t, map[string]string{"seal/s.go": source(name)}, "package "+name)
		want(t, map[string]string{"seal/s.go": source("seal"), "seal/s_test.go": "package " + name + "_test\n"}, "package "+name)
	}
	want(t, map[string]string{"seal/s.go": "package seal\n"}, "seal has no package comment")
	want(t, map[string]string{"seal/s.go": source("seal"), "seal/s_test.go": "package seal\n\n" + long}, "function f has 81 lines")
}

func TestCheckRefusesWhatItCannotParse(t *testing.T) {
	if _, err := Check(fstest.MapFS{"seal/s.go": {Data: []byte("package")}}, "example.org/m"); err == nil {
		t.Error("broken source passed")
	}
	if _, err := Floors([]byte("module")); err == nil {
		t.Error("broken go.mod passed")
	}
}

func TestFloorsFindsOldVersions(t *testing.T) {
	const good = "module m\n\ngo 1.26.4\n\nrequire (\n\tgithub.com/libp2p/go-libp2p v0.49.0\n\tgithub.com/gin-gonic/gin v1.12.0 // indirect\n\texample.org/any v0.0.1\n)\n"
	for _, c := range []struct{ old, new, fault string }{
		{"", "", ""},
		{"go 1.26.4", "go 1.25.9", "go must be 1.26"},
		{"go 1.26.4", "", "go must be 1.26"},
		{"go-libp2p v0.49.0", "go-libp2p v0.48.0", "go-libp2p v0.48.0 is older than v0.49.0"},
		{"go-libp2p v0.49.0", "go-libp2p v0.49.0-rc1", "go-libp2p v0.49.0-rc1 is older"},
		{"gin v1.12.0", "gin v1.9.0", "gin v1.9.0 is older"},
		{"libp2p/go-libp2p v0.49.0", "quic-go/quic-go v0.59.0", "quic-go v0.59.0 is older"},
		{"libp2p/go-libp2p v0.49.0", "ipfs/boxo v0.40.0", "boxo v0.40.0 is older"},
		{"libp2p/go-libp2p v0.49.0", "ipld/go-ipld-prime v0.22.0", "go-ipld-prime v0.22.0 is older"},
		{"libp2p/go-libp2p v0.49.0", "golang-jwt/jwt/v4 v4.5.1", "jwt/v4 v4.5.1 is older"},
		{"example.org/any v0.0.1\n)", ")\n\nreplace github.com/libp2p/go-libp2p => ../mine", "go-libp2p is replaced by ../mine"},
	} {
		faults, err := Floors([]byte(strings.Replace(good, c.old, c.new, 1)))
		if err != nil {
			t.Fatal(err)
		}
		if c.fault == "" && len(faults) > 0 || c.fault != "" && (len(faults) != 1 || !strings.Contains(faults[0], c.fault)) {
			t.Errorf("%q in place of %q: %q", c.new, c.old, faults)
		}
	}
}
