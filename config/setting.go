package config

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A setting is one leaf of a Config, in the order of the struct.
type setting struct {
	key    string // like "public.max_streams"
	struc  string // Go name of the struct that it is a field of
	field  string // Go name of the field
	file   string // "": not a path, "path", "secret": path of a secret
	value  reflect.Value
	origin string
}

// settings lists the leaves of c; setting one changes c.
func (c *Config) settings() []setting {
	list := leaves(reflect.ValueOf(c).Elem(), "")
	for i, s := range list {
		if list[i].origin = c.origins[s.key]; list[i].origin == "" {
			list[i].origin = "default"
		}
	}
	return list
}

func leaves(v reflect.Value, prefix string) []setting {
	var list []setting
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := f.Tag.Get("koanf")
		switch {
		case name == "":
		case f.Type.Kind() == reflect.Struct:
			list = append(list, leaves(v.Field(i), prefix+name+".")...)
		case name == tables:
			for n := range v.Field(i).Len() {
				list = append(list, leaves(v.Field(i).Index(n), tableKey(n)+".")...)
			}
		default:
			list = append(list, setting{key: prefix + name, struc: v.Type().Name(), field: f.Name, file: f.Tag.Get("file"), value: v.Field(i)})
		}
	}
	return list
}

// section is the part of the key before the last dot, "" at the top.
func (s setting) section() string {
	section, _, ok := strings.Cut(s.key, ".")
	if !ok {
		return ""
	}
	return section
}

// name is the part of the key after the section.
func (s setting) name() string { return strings.TrimPrefix(s.key, s.section()+".") }

// env is the name of the setting in the environment.
func (s setting) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

// set takes a value as TOML gives it. Its type must be the setting's own.
func (s setting) set(v any) error {
	switch p := s.value.Addr().Interface().(type) {
	case *string:
		return assign(p, v, "a text in quotes")
	case *int:
		n, ok := v.(int64)
		if !ok || int64(int(n)) != n {
			return fmt.Errorf("want a whole number, not %s", describe(v))
		}
		*p = int(n)
		return nil
	case *bool:
		return assign(p, v, "true or false")
	case *time.Duration:
		return parsed(p, v, "a time like \"5m\"", time.ParseDuration)
	case *Size:
		return parsed(p, v, "a size like \"32MiB\"", ParseSize)
	case *[]string:
		return list(p, v, func(s string) (string, error) { return s, nil })
	case *[]netip.Prefix:
		return list(p, v, parseNetwork)
	}
	panic("config: a field of a type that set does not know: " + s.key) // unreachable: a test sets every field
}

// setText takes a value as the environment and flags give it. A list has
// commas between its members.
func (s setting) setText(text string) error {
	if !utf8.ValidString(text) {
		return errors.New("want UTF-8")
	}
	switch s.value.Interface().(type) {
	case int:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("want a whole number, not %s", describe(text))
		}
		return s.set(n)
	case bool:
		b, err := strconv.ParseBool(text)
		if err != nil || text != strconv.FormatBool(b) {
			return fmt.Errorf("want true or false, not %s", describe(text))
		}
		return s.set(b)
	case []string, []netip.Prefix:
		members := []any{}
		for m := range strings.SplitSeq(text, ",") {
			if m = strings.TrimSpace(m); m != "" {
				members = append(members, m)
			}
		}
		return s.set(members)
	}
	return s.set(text)
}

func assign[T any](p *T, v any, want string) error {
	t, ok := v.(T)
	if !ok {
		return fmt.Errorf("want %s, not %s", want, describe(v))
	}
	*p = t
	return nil
}

func parsed[T any](p *T, v any, want string, parse func(string) (T, error)) error {
	var text string
	if err := assign(&text, v, want); err != nil {
		return err
	}
	t, err := parse(text)
	if err != nil {
		return fmt.Errorf("want %s, not %s", want, describe(v))
	}
	*p = t
	return nil
}

func list[T any](p *[]T, v any, parse func(string) (T, error)) error {
	var members []any
	if err := assign(&members, v, "a list of texts in [ ]"); err != nil {
		return err
	}
	out := make([]T, 0, len(members))
	for _, m := range members {
		var text string
		if err := assign(&text, m, "a list of texts in [ ]"); err != nil {
			return err
		}
		t, err := parse(text)
		if err != nil {
			return err
		}
		out = append(out, t)
	}
	*p = out
	return nil
}

// parseNetwork reads "10.0.0.0/24", or one address.
func parseNetwork(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p != p.Masked() {
		return p, fmt.Errorf("%.60q is not a network: write an address, or a network like \"10.0.0.0/24\"", s)
	}
	return p, nil
}

func describe(v any) string {
	switch v := v.(type) {
	case string:
		return fmt.Sprintf("%.60q", v)
	case int64, bool, float64:
		return fmt.Sprint(v)
	case []any:
		return "a list"
	case map[string]any:
		return "a section"
	}
	return "a value of another type"
}

// text spells the value as TOML.
func (s setting) text() string {
	switch v := s.value.Interface().(type) {
	case int:
		return strconv.Itoa(v)
	case bool:
		return strconv.FormatBool(v)
	case []string:
		return tomlList(v)
	case []netip.Prefix:
		texts := make([]string, len(v))
		for i, p := range v {
			texts[i] = p.String()
		}
		return tomlList(texts)
	case time.Duration:
		return tomlText(shortDuration(v))
	}
	return tomlText(fmt.Sprint(s.value.Interface()))
}

// shortDuration spells 5m, not 5m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func tomlList(texts []string) string {
	quoted := make([]string, len(texts))
	for i, t := range texts {
		quoted[i] = tomlText(t)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// tomlText quotes s as a TOML basic string.
func tomlText(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// resolve makes the paths in c absolute, from home.
func (c *Config) resolve(home string) {
	for _, s := range c.settings() {
		if s.file == "" {
			continue
		}
		if s.value.Kind() == reflect.String {
			resolvePath(home, s.value)
			continue
		}
		for i := range s.value.Len() {
			resolvePath(home, s.value.Index(i))
		}
	}
}

// resolvePath makes one path absolute.
func resolvePath(home string, path reflect.Value) {
	if text := path.String(); text != "" && !filepath.IsAbs(text) {
		path.SetString(filepath.Join(home, text))
	}
}
