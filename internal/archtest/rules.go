package archtest

import "strings"

// bannedNames are package names that say nothing.
func bannedNames() []string {
	return []string{"util", "utils", "common", "helper", "helpers", "types", "manager", "mock", "mocks", "misc", "base"}
}

// everything stands for all packages of ours.
const everything = "*"

// roofs are the packages of ours and, for each, which others it may import.
// Packages below one fall under its rules. "." is the root package.
func roofs() map[string][]string {
	return map[string][]string{
		"config":            {},
		"seal":              {},
		"policy":            {},
		"internal/media":    {},
		"internal/audit":    {},
		"internal/archtest": {},
		"internal/cidpath":  {},
		"internal/deny":     {},
		"internal/denylist": {},
		"internal/front":    {"internal/deny"},
		"internal/password": {},
		"internal/limit":    {},
		"internal/watch":    {},
		"internal/alert":    {},
		"internal/outbound": {},
		"internal/jwks":     {"policy", "internal/outbound"},
		"internal/consent":  {".", "policy", "internal/alert"},
		"internal/mutant":   {},
		"web":               {},
		"node":              {"config", "internal/deny"},
		"pin":               {"config", "internal/outbound"},
		".":                 {"seal", "policy", "internal/media"},
		"catalog":           {".", "policy"},
		"internal/keyring":  {".", "seal", "policy"},
		"gateway":           {".", "policy", "config", "web", "internal/cidpath", "internal/front", "internal/limit", "internal/password", "internal/watch", "internal/audit", "internal/denylist"},
		"internal/host":     {"config", "node", "pin", "internal/cidpath", "internal/deny", "internal/denylist", "internal/front"},
		"internal/swarm":    {"config", "node", "pin"},
		"internal/fleet":    {"node"},
		"internal/wants":    {".", "catalog", "pin"},
		"internal/testnet":  {everything},
		"internal/testpg":   {},
		"cmd":               {everything},
		"bench":             {},
	}
}

// A technology is a module, or a part of the standard library, that is known
// in few places.
type technology struct {
	prefix string
	only   []string
}

// outside is which of our packages may import which technology. What is not
// named may be imported everywhere.
func outside() []technology {
	http := []string{"gateway", "node", "pin", "internal/front", "internal/host", "internal/outbound", "internal/jwks", "internal/consent", "internal/alert", "cmd", "internal/testnet", "bench"}
	ipfs := []string{"node", "pin", "internal/host", "internal/swarm", "internal/fleet", "internal/testnet"}
	sql := []string{"catalog"}
	return []technology{
		{"github.com/gin-gonic/gin", []string{"gateway"}},
		{"github.com/gin-contrib", []string{"gateway"}},
		{"github.com/samber/slog-gin", []string{"gateway"}},
		{"go.opentelemetry.io/contrib/instrumentation/github.com/gin-gonic/gin", []string{"gateway"}},
		{"net/http", http},
		{"github.com/ipfs/kubo", []string{"node"}},
		{"github.com/ipfs/boxo", append([]string{"gateway", "internal/deny", "internal/front"}, ipfs...)},
		{"github.com/libp2p", ipfs},
		{"github.com/ipfs-cluster", []string{"pin"}},
		{"github.com/uptrace/bun", sql},
		{"github.com/pressly/goose", sql},
		{"github.com/jackc/pgx", sql},
		{"modernc.org/sqlite", sql},
		{"database/sql", sql},
		{"github.com/tink-crypto/tink-go", []string{"seal", "internal/keyring"}},
		{"filippo.io/age", []string{"internal/keyring"}},
		{"github.com/openbao/openbao", []string{"internal/keyring"}},
		{"github.com/cedar-policy/cedar-go", []string{"policy"}},
		{"github.com/go-jose/go-jose", []string{"policy", "internal/jwks"}},
		{"github.com/knadh/koanf", []string{"config"}},
		{"github.com/spf13", []string{"cmd"}},
		{"os/exec", []string{"internal/testnet", "internal/testpg", "bench"}},
		{"unsafe", nil},
		{"C", nil},
	}
}

// roof finds the rule that a folder falls under.
func roof(dir string) (name string, known bool) {
	dir = strings.TrimPrefix(dir, "./")
	for dir != "" {
		if _, ok := roofs()[dir]; ok {
			return dir, true
		}
		i := strings.LastIndexByte(dir, '/')
		if i < 0 {
			return dir, false
		}
		dir = dir[:i]
	}
	return ".", true
}

// allowed reports whether packages under one roof may import those under
// another.
func allowed(from, to string) bool {
	for _, a := range roofs()[from] {
		if a == to || a == everything {
			return true
		}
	}
	return false
}
