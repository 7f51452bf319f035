package config

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"reflect"
	"strings"
	"time"
)

// sources declare the settings: their comments are the manual, also at run
// time.
//
//go:embed config.go platform.go alerts.go reports.go
var sources embed.FS

// docs are the comments of the fields of Config and its sections, by the Go
// names of struct and field: "Public.MaxURL".
func docs() (map[string]string, error) {
	m := map[string]string{}
	for _, name := range []string{"config.go", "platform.go", "alerts.go", "reports.go"} {
		source, err := sources.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read the manual of the settings: %w", err)
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ParseComments)
		if err != nil {
			return nil, fmt.Errorf("read the manual of the settings: %w", err)
		}
		readDocs(f, m)
	}
	return m, nil
}

// readDocs reads the comments of one file into m.
func readDocs(f *ast.File, m map[string]string) {
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE {
			continue
		}
		for _, spec := range g.Specs {
			t := spec.(*ast.TypeSpec)
			s, ok := t.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, field := range s.Fields.List {
				for _, name := range field.Names {
					m[t.Name.Name+"."+name.Name] = strings.TrimSpace(field.Doc.Text())
				}
			}
		}
	}
}

// WriteTOML writes c as a config.toml that explains itself: each setting under
// its comment, and commented out where it is the default, so that a later
// default takes effect. Load reads it back to the same values.
func (c Config) WriteTOML(w io.Writer) error {
	doc, err := docs()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	b.WriteString("# Settings of musen. Those with a # before the name have their default value.\n" +
		"# Flags come before the environment (public.address is MUSEN_PUBLIC_ADDRESS),\n" +
		"# the environment before this file. Relative paths begin in the home folder.\n")
	unused := len(c.Issuers) == 0 // then one is shown that is not there
	if unused {
		c.Issuers = []Issuer{DefaultIssuer()}
	}
	defaults := defaultTexts()
	section := ""
	for _, s := range c.settings() {
		_, table := tableNumber(s.section())
		hidden := ""
		if table && unused {
			hidden = "#"
		}
		if s.section() != section {
			section = s.section()
			b.WriteString("\n\n" + comment(doc["Config."+sectionField(section)]) + hidden + sectionHead(section) + "\n")
		}
		standard := s.key
		if table {
			standard = tableKey(0) + "." + s.name()
		}
		b.WriteString("\n" + comment(doc[s.struc+"."+s.field]))
		if hidden != "" || s.text() == defaults[standard] {
			b.WriteString("#")
		}
		b.WriteString(s.name() + " = " + s.text() + "\n")
	}
	_, err = w.Write(b.Bytes())
	return err
}

// sectionField is the Go name of the field of Config that a section is.
func sectionField(section string) string {
	if _, ok := tableNumber(section); ok {
		section = tables
	}
	t := reflect.TypeFor[Config]()
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("koanf") == section {
			return t.Field(i).Name
		}
	}
	return ""
}

func comment(text string) string {
	if text == "" {
		return ""
	}
	return "# " + strings.ReplaceAll(text, "\n", "\n# ") + "\n"
}

// NotDefault are the settings in effect that are not the default, by key, as the
// texts that config.toml has. It holds paths of secrets only.
func (c Config) NotDefault() map[string]string {
	defaults, set := defaultTexts(), map[string]string{}
	for _, s := range c.settings() {
		standard := s.key
		if _, table := tableNumber(s.section()); table {
			standard = tableKey(0) + "." + s.name()
		}
		if text := s.text(); text != defaults[standard] {
			set[s.key] = text
		}
	}
	return set
}

// Render writes every setting in effect as TOML, with where its value came
// from. Of secrets it shows the paths of their files, and marks them.
func (c Config) Render(w io.Writer) error {
	var b bytes.Buffer
	section := ""
	for _, s := range c.settings() {
		if s.section() != section {
			section = s.section()
			b.WriteString("\n" + sectionHead(section) + "\n")
		}
		line := s.name() + " = " + s.text()
		fmt.Fprintf(&b, "%-48s # %s", line, s.origin)
		if s.file == "secret" {
			b.WriteString(", secret: only its path is shown")
		}
		b.WriteByte('\n')
	}
	_, err := w.Write(b.Bytes())
	return err
}

// MarshalJSON gives the settings in effect, sections as objects, sizes and
// times as the texts that config.toml has. It holds paths of secrets only.
func (c Config) MarshalJSON() ([]byte, error) {
	all := map[string]any{tables: []map[string]any{}}
	for _, s := range c.settings() {
		into := all
		if section := s.section(); section != "" {
			into = sectionOf(all, section)
		}
		value := s.value.Interface()
		if d, ok := value.(time.Duration); ok {
			value = shortDuration(d)
		} else if s.value.Kind() == reflect.Slice && s.value.Len() == 0 {
			value = []string{}
		}
		into[s.name()] = value
	}
	return json.Marshal(all)
}

// sectionOf is where the settings of a section are gathered.
func sectionOf(all map[string]any, section string) map[string]any {
	n, table := tableNumber(section)
	if table {
		list := all[tables].([]map[string]any)
		if n == len(list) {
			list = append(list, map[string]any{})
			all[tables] = list
		}
		return list[n]
	}
	if all[section] == nil {
		all[section] = map[string]any{}
	}
	return all[section].(map[string]any)
}
