package cat

import (
	"fmt"
	"math"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// Numbers of claims that are understood.
const (
	claimIss     = 1
	claimSub     = 2
	claimAud     = 3
	claimExp     = 4
	claimNbf     = 5
	claimIat     = 6
	claimCti     = 7
	claimCatv    = 310
	claimCatu    = 312
	claimCatm    = 313
	claimStation = -65537
	claimParent  = -65538
	claimBy      = -65539
)

// Parts of a URL and kinds of match in catu that are understood.
const (
	partPath    = 3
	matchExact  = 0
	matchPrefix = 1
)

// version is the catv that is understood.
const version = 1

// maxTime keeps times in a range where adding a leeway cannot overflow.
const maxTime = math.MaxUint32

// stationClaim is how Station is spelled.
type stationClaim struct {
	_        struct{} `cbor:",toarray"`
	ID       string
	Epoch    uint64
	Download bool
}

// parentClaim is how Parent is spelled.
type parentClaim struct {
	_          struct{} `cbor:",toarray"`
	ID         string
	Generation uint64
}

// payload spells c.
func (cd codec) payload(c Claims) ([]byte, error) {
	m := map[int64]any{claimCatv: version}
	setText(m, claimIss, c.Issuer)
	setText(m, claimSub, c.Subject)
	setTime(m, claimExp, c.Expires)
	setTime(m, claimNbf, c.NotBefore)
	setTime(m, claimIat, c.Issued)
	if len(c.Audience) > 0 {
		m[claimAud] = c.Audience
	}
	if len(c.ID) > 0 {
		m[claimCti] = c.ID
	}
	if len(c.Paths) > 0 {
		path := matches(c.Paths)
		if len(path) != len(c.Paths) {
			return nil, fmt.Errorf("more than one path match of a kind: %w", ErrMalformed)
		}
		m[claimCatu] = map[int64]any{partPath: path}
	}
	if len(c.Methods) > 0 {
		m[claimCatm] = c.Methods
	}
	if s := c.Station; s != nil {
		m[claimStation] = stationClaim{ID: s.ID, Epoch: s.Epoch, Download: s.Download}
	}
	if p := c.Parent; p != nil {
		m[claimParent] = parentClaim{ID: p.ID, Generation: p.Generation}
	}
	if len(c.By) > 0 {
		m[claimBy] = c.By
	}
	return cd.enc.Marshal(m)
}

func setText(m map[int64]any, claim int64, s string) {
	if s != "" {
		m[claim] = s
	}
}

func setTime(m map[int64]any, claim int64, t time.Time) {
	if !t.IsZero() {
		m[claim] = t.Unix()
	}
}

func matches(paths []Match) map[int64]string {
	m := make(map[int64]string)
	for _, p := range paths {
		if p.Prefix {
			m[matchPrefix] = p.Value
		} else {
			m[matchExact] = p.Value
		}
	}
	return m
}

// claims reads a payload whose authentication tag was checked.
func (cd codec) claims(payload []byte) (Claims, error) {
	var m map[int64]cbor.RawMessage
	if err := cd.dec.Unmarshal(payload, &m); err != nil {
		return Claims{}, fmt.Errorf("claims: %w", ErrMalformed)
	}
	var c Claims
	for claim, value := range m {
		if err := cd.claim(&c, claim, value); err != nil {
			return Claims{}, fmt.Errorf("claim %d: %w", claim, ErrMalformed)
		}
	}
	if _, ok := m[claimCatv]; !ok || c.Expires.IsZero() {
		return Claims{}, fmt.Errorf("no exp or no catv: %w", ErrMalformed)
	}
	return c, nil
}

// claim reads one claim into c, and refuses those that it does not understand.
func (cd codec) claim(c *Claims, claim int64, value []byte) error {
	switch claim {
	case claimIss:
		return cd.text(value, &c.Issuer)
	case claimSub:
		return cd.text(value, &c.Subject)
	case claimAud:
		return cd.audience(value, &c.Audience)
	case claimExp:
		return cd.time(value, &c.Expires)
	case claimNbf:
		return cd.time(value, &c.NotBefore)
	case claimIat:
		return cd.time(value, &c.Issued)
	case claimCti:
		return cd.bytes(value, &c.ID)
	case claimCatv:
		return cd.version(value)
	case claimCatu:
		return cd.uri(value, &c.Paths)
	case claimCatm:
		return cd.texts(value, &c.Methods)
	case claimStation:
		return cd.station(value, &c.Station)
	case claimParent:
		return cd.parent(value, &c.Parent)
	case claimBy:
		return cd.bytes(value, &c.By)
	}
	return fmt.Errorf("not understood: %w", ErrMalformed)
}

// major is the CBOR major type of an encoded value.
func major(value []byte) byte { return value[0] >> 5 }

// CBOR major types.
const (
	majorUint  = 0
	majorBytes = 2
	majorText  = 3
	majorArray = 4
)

// decode reads a value of that major type, so that null and the like are not
// taken for an empty value.
func (cd codec) decode(value []byte, want byte, into any) error {
	if major(value) != want {
		return fmt.Errorf("of the wrong type: %w", ErrMalformed)
	}
	return cd.dec.Unmarshal(value, into)
}

func (cd codec) text(value []byte, into *string) error { return cd.decode(value, majorText, into) }

func (cd codec) bytes(value []byte, into *[]byte) error { return cd.decode(value, majorBytes, into) }

func (cd codec) time(value []byte, into *time.Time) error {
	var seconds uint64
	if err := cd.decode(value, majorUint, &seconds); err != nil {
		return err
	}
	if seconds == 0 || seconds > maxTime {
		return fmt.Errorf("time out of range: %w", ErrMalformed)
	}
	*into = time.Unix(int64(seconds), 0)
	return nil
}

func (cd codec) version(value []byte) error {
	var v uint64
	if err := cd.decode(value, majorUint, &v); err != nil {
		return err
	}
	if v != version {
		return fmt.Errorf("version %d: %w", v, ErrMalformed)
	}
	return nil
}

// texts reads a list of texts, which must not be empty: that would allow
// nothing, and an empty list in Claims allows everything.
func (cd codec) texts(value []byte, into *[]string) error {
	var list []cbor.RawMessage
	if err := cd.decode(value, majorArray, &list); err != nil {
		return err
	}
	if len(list) == 0 {
		return fmt.Errorf("empty: %w", ErrMalformed)
	}
	for _, v := range list {
		var s string
		if err := cd.text(v, &s); err != nil {
			return err
		}
		*into = append(*into, s)
	}
	return nil
}

// audience reads one text or a list of them.
func (cd codec) audience(value []byte, into *[]string) error {
	if major(value) == majorArray {
		return cd.texts(value, into)
	}
	*into = make([]string, 1)
	return cd.text(value, &(*into)[0])
}

func (cd codec) station(value []byte, into **Station) error {
	var s stationClaim
	if err := cd.decode(value, majorArray, &s); err != nil {
		return err
	}
	if s.ID == "" {
		return fmt.Errorf("no station: %w", ErrMalformed)
	}
	*into = &Station{ID: s.ID, Epoch: s.Epoch, Download: s.Download}
	return nil
}

func (cd codec) parent(value []byte, into **Parent) error {
	var p parentClaim
	if err := cd.decode(value, majorArray, &p); err != nil {
		return err
	}
	*into = &Parent{ID: p.ID, Generation: p.Generation}
	return nil
}

// uri reads the conditions of catu: only on the path, only exact or prefix.
func (cd codec) uri(value []byte, into *[]Match) error {
	var parts map[int64]map[int64]cbor.RawMessage
	if err := cd.dec.Unmarshal(value, &parts); err != nil {
		return err
	}
	if len(parts) != 1 || len(parts[partPath]) == 0 {
		return fmt.Errorf("not on the path alone: %w", ErrMalformed)
	}
	for kind, v := range parts[partPath] {
		if kind != matchExact && kind != matchPrefix {
			return fmt.Errorf("match %d: %w", kind, ErrMalformed)
		}
		m := Match{Prefix: kind == matchPrefix}
		if err := cd.text(v, &m.Value); err != nil {
			return err
		}
		*into = append(*into, m)
	}
	return nil
}
