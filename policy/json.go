package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Bounds of the JSON in a token.
const (
	maxJSONDepth   = 8
	maxJSONMembers = 64 // of one object
)

// errJSON says that the JSON of a token is not acceptable.
var errJSON = errors.New("not strict JSON")

// parseObject reads one JSON object with nothing before or after it. Names are
// case-sensitive; duplicate names at any depth, deep nesting and text that is
// not UTF-8 are refused. Numbers come as json.Number.
func parseObject(data []byte) (map[string]any, error) {
	if !utf8.Valid(data) || len(data) == 0 || data[0] != '{' {
		return nil, errJSON
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	v, err := parseValue(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errJSON
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errJSON
	}
	return m, nil
}

func parseValue(d *json.Decoder, depth int) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, errJSON
	}
	switch t {
	case json.Delim('{'):
		return parseMembers(d, depth+1)
	case json.Delim('['):
		return parseElements(d, depth+1)
	}
	return t, nil
}

func parseMembers(d *json.Decoder, depth int) (any, error) {
	m := make(map[string]any)
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, errJSON
		}
		key, ok := name.(string)
		if _, twice := m[key]; !ok || twice || len(m) == maxJSONMembers || depth > maxJSONDepth {
			return nil, fmt.Errorf("object: %w", errJSON)
		}
		if m[key], err = parseValue(d, depth); err != nil {
			return nil, err
		}
	}
	return m, end(d)
}

func parseElements(d *json.Decoder, depth int) (any, error) {
	var list []any
	for d.More() {
		if depth > maxJSONDepth {
			return nil, fmt.Errorf("array: %w", errJSON)
		}
		v, err := parseValue(d, depth)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, end(d)
}

// end consumes the bracket after the last element.
func end(d *json.Decoder) error {
	if _, err := d.Token(); err != nil {
		return errJSON
	}
	return nil
}
