package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
)

// Bounds of what a foreign token says of stations and actions.
const (
	maxNamed       = 256 // values of one claim
	maxStationText = 128 // bytes of a station's name as it is looked up
)

// apply reads what claims grant into c: the names of stations, which are looked
// up at each use, and actions.
func (m ClaimMapping) apply(c *credential, claims map[string]any) error {
	values, there, ok := texts(claims, m.Stations, false)
	if !ok {
		return refuse(codeMalformed, "the claim for stations is not text or a list of texts")
	}
	if !there {
		c.named = slices.Clone(m.DefaultStations)
	}
	for _, v := range values {
		if v == everyStation {
			c.everywhere = c.everywhere || m.AllStations
			continue
		}
		c.named = append(c.named, m.station(v))
	}
	words, there, ok := texts(claims, m.Actions, true)
	if !ok {
		return refuse(codeMalformed, "the claim for actions is not text or a list of texts")
	}
	if !there {
		words = nil
		for _, a := range m.DefaultActions {
			words = append(words, m.ActionPrefix+string(a))
		}
	}
	var granted []string
	for _, w := range words {
		if w, ok := strings.CutPrefix(w, m.ActionPrefix); ok && slices.Contains(m.Allowed, Action(w)) {
			granted = append(granted, w)
		}
	}
	c.actions = newActionSet(granted)
	return nil
}

// station is how the station is called that a value stands for.
func (m ClaimMapping) station(value string) string {
	if m.StationTemplate != "" {
		value = strings.ReplaceAll(m.StationTemplate, "{}", value)
	}
	if len(value) > maxStationText {
		return "" // no station is called so
	}
	return value
}

// texts reads a claim that is a text or a list of texts. With words a text is
// several of them, with spaces between. A claim that is missing or null is not
// there.
func texts(claims map[string]any, claim string, words bool) (values []string, there, ok bool) {
	switch v := find(claims, claim).(type) {
	case nil:
		return nil, false, true
	case string:
		if words {
			values = strings.Fields(v)
		} else {
			values = []string{v}
		}
		ok = true
	case []any:
		values, ok = textList(v)
	}
	return values, true, ok && len(values) <= maxNamed
}

// find is the value of a claim, or nil.
func find(claims map[string]any, claim string) any {
	if claim == "" {
		return nil
	}
	if claim[0] != '/' {
		return claims[claim]
	}
	var v any = claims
	for part := range strings.SplitSeq(claim[1:], "/") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[strings.NewReplacer("~1", "/", "~0", "~").Replace(part)]
	}
	return v
}

// resolve is c with the stations that it names now. What is decided of it is
// remembered under their ids, so a station that takes over the name of another
// gets nothing of what was decided for that one.
func (v *Verifier) resolve(c *credential) *credential {
	r := *c
	h := sha256.New()
	h.Write(c.print[:])
	for _, n := range c.named {
		id, ok := "", false
		if v.o.Stations != nil && n != "" {
			id, ok = v.o.Stations(n)
		}
		if !ok || slices.Contains(r.stations, id) {
			continue
		}
		r.stations = append(r.stations[:len(r.stations):len(r.stations)], id)
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(id))))
		h.Write([]byte(id))
	}
	h.Sum(r.print[:0])
	return &r
}
