package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// tables is the key of the one section that may be there several times.
const tables = "issuers"

// tableKey is the section of one of them, as settings are called by it.
func tableKey(n int) string { return fmt.Sprintf("%s[%d]", tables, n) }

// tableNumber is which table a section is, if it is one.
func tableNumber(section string) (int, bool) {
	number, ok := strings.CutPrefix(strings.TrimSuffix(section, "]"), tables+"[")
	n, err := strconv.Atoi(number)
	return n, ok && err == nil
}

// sectionHead is the line that begins a section in TOML.
func sectionHead(section string) string {
	if _, ok := tableNumber(section); ok {
		return "[[" + tables + "]]"
	}
	return "[" + section + "]"
}

// applyTables takes the value of a key that holds tables. Each begins with the
// defaults of one.
func (c *Config) applyTables(v any, origin string) error {
	list, ok := v.([]any)
	if !ok {
		return fmt.Errorf("%s: write each as a section [[%s]]", tables, tables)
	}
	var faults []error
	for n, one := range list {
		values, ok := one.(map[string]any)
		if !ok {
			faults = append(faults, fmt.Errorf("%s: write it as a section [[%s]]", tableKey(n), tables))
			continue
		}
		i := DefaultIssuer()
		known := leaves(reflect.ValueOf(&i).Elem(), tableKey(n)+".")
		for _, name := range slices.Sorted(maps.Keys(values)) {
			key := tableKey(n) + "." + name
			at := slices.IndexFunc(known, func(s setting) bool { return s.key == key })
			if at < 0 {
				faults = append(faults, unknown("setting", key, names(known, func(s setting) string { return s.key })))
				continue
			}
			if err := known[at].set(values[name]); err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", key, err))
			}
			c.origins[key] = origin
		}
		c.Issuers = append(c.Issuers, i)
	}
	return errors.Join(faults...)
}

// defaultTexts are the texts of all settings where nothing was set, by key; of
// those in tables by the key that they have in the first.
func defaultTexts() map[string]string {
	c := Default()
	c.Issuers = []Issuer{DefaultIssuer()}
	texts := map[string]string{}
	for _, s := range c.settings() {
		texts[s.key] = s.text()
	}
	return texts
}
