package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/toml/v2"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/v2"
)

const (
	envPrefix   = "MUSEN_"
	maxFileSize = 1 << 20
)

// Sources are where a configuration comes from.
type Sources struct {
	Home  string            // absolute; relative paths begin here
	File  string            // path of config.toml; "" or a missing one: nothing is set by it
	Env   []string          // NAME=value, as os.Environ gives it
	Flags map[string]string // setting, like "public.address": its text
}

// Load reads the sources over the defaults, makes paths absolute, and checks
// the whole. All mistakes of one source are reported at once.
func Load(src Sources) (Config, error) {
	c, err := load(src)
	if err != nil {
		return Config{}, fmt.Errorf("load configuration: %w", err)
	}
	c.resolve(src.Home)
	if err := c.Check(); err != nil {
		return Config{}, fmt.Errorf("load configuration: %w", err)
	}
	return c, nil
}

// load is Load without making paths absolute and without Check.
func load(src Sources) (Config, error) {
	c := Default()
	c.origins = map[string]string{}
	if src.File != "" {
		b, err := readFile(src.File)
		if err != nil {
			return c, err
		}
		if err := c.loadTOML(b); err != nil {
			return c, fmt.Errorf("%s: %w", src.File, err)
		}
	}
	if err := c.loadEnv(src.Env); err != nil {
		return c, err
	}
	return c, c.loadFlags(src.Flags)
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFileSize {
		return nil, fmt.Errorf("%s is not a file of at most %s", path, Size(maxFileSize))
	}
	return os.ReadFile(path)
}

// fileBytes gives koanf the bytes of a file that was read already.
type fileBytes []byte

var _ koanf.Provider = fileBytes(nil)

// ReadBytes returns the bytes.
func (f fileBytes) ReadBytes() ([]byte, error) { return f, nil }

// Read is not used: the bytes have a parser.
func (f fileBytes) Read() (map[string]any, error) { return nil, errors.ErrUnsupported }

func (c *Config) loadTOML(b []byte) error {
	k := koanf.New(keyDelimiter)
	if err := k.Load(fileBytes(b), toml.Parser()); err != nil {
		var at interface{ Position() (row, column int) }
		if errors.As(err, &at) {
			row, column := at.Position()
			return fmt.Errorf("line %d, column %d: %w", row, column, err)
		}
		return fmt.Errorf("it is not TOML: %w", err)
	}
	return c.apply(k, "file", setting.set)
}

// keyDelimiter separates sections from names inside koanf. No TOML key that
// could be meant has it, so that "public.address" in quotes is not taken for
// address in [public].
const keyDelimiter = "\x00"

// apply sets what k holds, and reports every key that there is no setting for
// and every value of a wrong type.
func (c *Config) apply(k *koanf.Koanf, origin string, set func(setting, any) error) error {
	known := c.settings()
	var faults []error
	for _, key := range slices.Sorted(maps.Keys(k.All())) {
		dotted := strings.ReplaceAll(key, keyDelimiter, ".")
		i := slices.IndexFunc(known, func(s setting) bool { return strings.ReplaceAll(s.key, ".", keyDelimiter) == key })
		switch {
		case key == tables:
			faults = append(faults, c.applyTables(k.Get(key), origin))
		case i >= 0:
			if err := set(known[i], k.Get(key)); err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", dotted, err))
			}
			c.origins[dotted] = origin
		case isSection(known, dotted):
			if m, ok := k.Get(key).(map[string]any); !ok || len(m) > 0 {
				faults = append(faults, fmt.Errorf("%s is a section: write [%s]", dotted, dotted))
			}
		default:
			faults = append(faults, unknown("setting", dotted, names(known, func(s setting) string { return s.key })))
		}
	}
	return errors.Join(faults...)
}

func isSection(known []setting, key string) bool {
	return slices.ContainsFunc(known, func(s setting) bool { return s.section() == key })
}

func names(known []setting, name func(setting) string) []string {
	list := make([]string, len(known))
	for i, s := range known {
		list[i] = name(s)
	}
	return list
}

// foreignEnv tells names that begin like ours but are set by others: the home
// folder, which the program itself reads, and what Kubernetes sets for a
// service of the name musen.
func foreignEnv(name string) bool {
	rest := strings.TrimPrefix(name, envPrefix)
	return rest == "HOME" || strings.HasPrefix(rest, "SERVICE_") || rest == "PORT" || strings.HasPrefix(rest, "PORT_")
}

func (c *Config) loadEnv(environ []string) error {
	known := c.settings()
	var faults []error
	provider := env.Provider(keyDelimiter, env.Opt{
		Prefix:      envPrefix,
		EnvironFunc: func() []string { return environ },
		TransformFunc: func(name, value string) (string, any) {
			if foreignEnv(name) {
				return "", nil
			}
			i := slices.IndexFunc(known, func(s setting) bool { return s.env() == name })
			if i < 0 {
				faults = append(faults, unknown("environment variable", name, names(known, setting.env)))
				return "", nil
			}
			return strings.ReplaceAll(known[i].key, ".", keyDelimiter), value
		},
	})
	k := koanf.New(keyDelimiter)
	if err := k.Load(provider, nil); err != nil {
		return fmt.Errorf("environment: %w", err)
	}
	err := c.apply(k, "environment", func(s setting, v any) error {
		if err := s.setText(v.(string)); err != nil {
			return fmt.Errorf("environment variable %s: %w", s.env(), err)
		}
		return nil
	})
	return errors.Join(append(faults, err)...)
}

func (c *Config) loadFlags(flags map[string]string) error {
	known := c.settings()
	var faults []error
	for _, key := range slices.Sorted(maps.Keys(flags)) {
		i := slices.IndexFunc(known, func(s setting) bool { return s.key == key })
		if i < 0 {
			faults = append(faults, unknown("setting", key, names(known, func(s setting) string { return s.key })))
			continue
		}
		if err := known[i].setText(flags[key]); err != nil {
			faults = append(faults, fmt.Errorf("flag for %s: %w", key, err))
		}
		c.origins[key] = "flag"
	}
	return errors.Join(faults...)
}

// unknown is the error for a name that nothing has, with the nearest name that
// something has if it is near.
func unknown(what, name string, known []string) error {
	best, distance := "", len(name)/3+2
	for _, k := range known {
		if d := editDistance(name, k); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		for _, k := range known { // a name without its section
			if strings.HasSuffix(k, "."+name) {
				best = k
			}
		}
	}
	if best == "" {
		return fmt.Errorf("unknown %s %.80q: see the comments in a fresh config.toml", what, name)
	}
	return fmt.Errorf("unknown %s %.80q: did you mean %s?", what, name, best)
}

// editDistance is the number of bytes to insert, remove or change to make b of
// a. A long a is far from everything.
func editDistance(a, b string) int {
	if len(a) > 2*len(b)+8 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
