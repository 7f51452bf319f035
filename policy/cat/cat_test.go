package cat

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

const testKid = "link-1"

// testSecret is 32 bytes that no one else uses.
func testSecret() []byte { return []byte("\x90 a secret of this test alone \x01\x02") }

func testClaims() Claims {
	return Claims{
		Issuer: "radio", Subject: "alice", Audience: []string{"musen"}, ID: []byte("0123456789abcdef"),
		Expires: time.Unix(1900000000, 0), NotBefore: time.Unix(1800000000, 0), Issued: time.Unix(1800000000, 0),
		Paths: []Match{{Value: "/listen/bafkqaaa"}}, Methods: []string{"GET", "HEAD"},
		Station: &Station{ID: "jazz", Epoch: 1<<64 - 1, Download: true}, Tagged: true,
	}
}

func pair(t testing.TB) (*Signer, *Verifier) {
	t.Helper()
	s, err := NewSigner(testKid, testSecret())
	must(t, err)
	v, err := NewVerifier(map[string][]byte{testKid: testSecret(), "other": []byte(strings.Repeat("o", 32))})
	must(t, err)
	return s, v
}

// seal makes a token of any payload and headers with the right key.
func seal(t testing.TB, protected, payload []byte) string {
	t.Helper()
	s, _ := pair(t)
	m := mac0{Protected: protected, Unprotected: map[int64][]byte{labelKid: []byte(testKid)}, Payload: payload}
	var err error
	m.Tag, err = s.codec.sum(testSecret(), m)
	must(t, err)
	b, err := s.codec.spell(m, true)
	must(t, err)
	return base64.RawURLEncoding.EncodeToString(b)
}

// sealClaims is seal of claims in the order of Go's maps.
func sealClaims(t testing.TB, claims map[any]any) string {
	t.Helper()
	b, err := cbor.Marshal(claims)
	must(t, err)
	return seal(t, []byte{0xa1, 1, 5}, b)
}

func TestRoundTrip(t *testing.T) {
	s, v := pair(t)
	raw, err := s.Sign(testClaims())
	must(t, err)
	got, err := v.Verify(raw)
	must(t, err)
	want := testClaims()
	if got.Issuer != want.Issuer || got.Subject != want.Subject || !slices.Equal(got.Audience, want.Audience) ||
		!bytes.Equal(got.ID, want.ID) || !slices.Equal(got.Paths, want.Paths) || !slices.Equal(got.Methods, want.Methods) ||
		*got.Station != *want.Station || !got.Tagged ||
		!got.Expires.Equal(want.Expires) || !got.NotBefore.Equal(want.NotBefore) || !got.Issued.Equal(want.Issued) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestSignRefuses(t *testing.T) {
	s, _ := pair(t)
	cases := map[string]func(*Claims){
		"no expiry":          func(c *Claims) { c.Expires = time.Time{} },
		"expiry before 1970": func(c *Claims) { c.Expires = time.Unix(-1, 0) },
		"expiry in 2200":     func(c *Claims) { c.Expires = time.Unix(7e9, 0) },
		"two exact paths":    func(c *Claims) { c.Paths = append(c.Paths, Match{Value: "/x"}) },
		"station without id": func(c *Claims) { c.Station = &Station{} },
		"too many methods":   func(c *Claims) { c.Methods = make([]string, 65) },
		"too long":           func(c *Claims) { c.Subject = strings.Repeat("x", MaxSize) },
		"not UTF-8":          func(c *Claims) { c.Subject = "\xff" },
	}
	for name, change := range cases {
		c := testClaims()
		change(&c)
		if _, err := s.Sign(c); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	for _, secret := range [][]byte{nil, make([]byte, 31)} {
		if _, err := NewSigner(testKid, secret); err == nil {
			t.Errorf("signer with a secret of %d bytes", len(secret))
		}
		if _, err := NewVerifier(map[string][]byte{testKid: secret}); err == nil {
			t.Errorf("verifier with a secret of %d bytes", len(secret))
		}
	}
	if _, err := NewSigner("", testSecret()); err == nil {
		t.Error("signer without a kid")
	}
}

// Both conditions on the path must hold.
func TestExactAndPrefix(t *testing.T) {
	raw := sealClaims(t, map[any]any{4: 1900000000, 310: 1, 312: map[int]any{3: map[int]string{0: "/listen/a", 1: "/listen/"}}})
	_, v := pair(t)
	c, err := v.Verify(raw)
	must(t, err)
	must(t, c.CheckRequest("GET", "/listen/a"))
	for _, path := range []string{"/listen/b", "/listen/", "/listen/a/"} {
		if err := c.CheckRequest("GET", path); !errors.Is(err, ErrScope) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// H8: a prefix does not let anybody climb out of it.
func TestPrefixOnCanonicalPathsOnly(t *testing.T) {
	c := Claims{Paths: []Match{{Value: "/listen/", Prefix: true}}}
	for _, path := range []string{"/listen/", "/listen/a", "/listen/a/b.m3u8", "/listen/a/", "/listen/...", "/listen/a@b:c"} {
		if err := c.CheckRequest("GET", path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, path := range []string{
		"", "/", "listen/a", "/listen", "/listenx", "/Listen/a", "/listen/../admin", "/listen/a/..", "/listen/./a", "/listen//a",
		"/listen/%2e%2e/admin", "/listen/%2f", "/listen/a%00", "/listen/a;b", "/listen/a\\..\\b", "/listen/a?b", "/listen/a#b",
		"/listen/a b", "/listen/\u00e9", "/listen/a\n", "//listen/a", "/listen/a//",
	} {
		if err := c.CheckRequest("GET", path); !errors.Is(err, ErrScope) {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestClaimsNotUnderstood(t *testing.T) {
	_, v := pair(t)
	path := map[int]any{3: map[int]string{0: "/listen/a"}}
	cases := map[string]map[any]any{
		"no exp":                {4: nil},
		"no catv":               {310: nil},
		"catv 0":                {310: 0},
		"catv as text":          {310: "1"},
		"exp as text":           {4: "1900000000"},
		"exp as a float":        {4: 1900000000.0},
		"exp negative":          {4: -1},
		"exp zero":              {4: 0},
		"exp beyond all":        {4: uint64(1 << 63)},
		"nbf as bytes":          {5: []byte{1}},
		"iat in a list":         {6: []int{1}},
		"iss as bytes":          {1: []byte("radio")},
		"sub as a number":       {2: 7},
		"aud empty":             {3: []string{}},
		"aud of numbers":        {3: []int{1}},
		"cti as text":           {7: "0123"},
		"cnf":                   {8: map[int]any{1: "x"}},
		"geohash":               {282: "u"},
		"catreplay":             {308: 0},
		"catpor":                {309: []int{1, 2}},
		"catnip":                {311: []int{64496}},
		"catalpn":               {314: []string{"h2"}},
		"cath":                  {315: map[string]any{}},
		"catgeoiso3166":         {316: []string{"EE"}},
		"catgeocoord":           {317: []int{}},
		"cattpk":                {319: []byte{1}},
		"catifdata":             {320: "x"},
		"catdpop":               {321: map[int]any{}},
		"catif":                 {322: map[int]any{}},
		"catr":                  {323: map[int]any{0: 1}},
		"catu of a vendor":      {401: path},
		"unknown":               {999: 1},
		"unknown private":       {-70000: 1},
		"text key":              {"epoch": 1},
		"catu empty":            {312: map[int]any{}},
		"catu as text":          {312: "/listen/"},
		"catu without match":    {312: map[int]any{3: map[int]string{}}},
		"catu of the host":      {312: map[int]any{1: map[int]string{0: "x"}}},
		"catu of host and path": {312: map[int]any{1: map[int]string{0: "x"}, 3: map[int]string{0: "/listen/a"}}},
		"catu suffix":           {312: map[int]any{3: map[int]string{2: "a"}}},
		"catu contains":         {312: map[int]any{3: map[int]string{3: "a"}}},
		"catu expression":       {312: map[int]any{3: map[int]any{4: []string{".*"}}}},
		"catu hash":             {312: map[int]any{3: map[int]any{-1: []byte{1}}}},
		"catu and another":      {312: map[int]any{3: map[int]string{0: "/listen/a", 2: "a"}}},
		"catu of bytes":         {312: map[int]any{3: map[int]any{0: []byte("/listen/a")}}},
		"catu null":             {312: map[int]any{3: map[int]any{0: nil}}},
		"catm empty":            {313: []string{}},
		"catm as text":          {313: "GET"},
		"catm of numbers":       {313: []int{1}},
		"station as a map":      {-65537: map[int]any{0: "x"}},
		"station short":         {-65537: []any{"jazz", 1}},
		"station long":          {-65537: []any{"jazz", 1, true, 1}},
		"station without id":    {-65537: []any{"", 1, true}},
		"station of bytes":      {-65537: []any{[]byte("jazz"), 1, true}},
		"epoch negative":        {-65537: []any{"jazz", -1, true}},
		"epoch as text":         {-65537: []any{"jazz", "1", true}},
		"download as a number":  {-65537: []any{"jazz", 1, 1}},
		"date":                  {4: cbor.Tag{Number: 1, Content: 1900000000}},
	}
	for name, changes := range cases {
		t.Run(name, func(t *testing.T) {
			claims := map[any]any{1: "radio", 4: 1900000000, 310: 1}
			must(t, errOf(v.Verify(sealClaims(t, claims))))
			for k, value := range changes {
				claims[k] = value
				if value == nil {
					delete(claims, k)
				}
			}
			if _, err := v.Verify(sealClaims(t, claims)); !errors.Is(err, ErrMalformed) {
				t.Errorf("%v", err)
			}
		})
	}
}

func errOf(_ Claims, err error) error { return err }

// nested puts depth arrays around 1.
func nested(depth int) []byte { return append(bytes.Repeat([]byte{0x81}, depth), 1) }

func TestEncodingsRefused(t *testing.T) {
	_, v := pair(t)
	good := []byte{0xa2, 4, 0x1a, 0x71, 0x3f, 0xb3, 0, 0x19, 1, 0x36, 1}
	header := []byte{0xa1, 1, 5}
	must(t, errOf(v.Verify(seal(t, header, good))))
	with := func(pair ...byte) []byte { return append(append([]byte{0xa3}, good[1:]...), pair...) }
	for name, payload := range map[string][]byte{
		"empty":             {},
		"left over":         append(slices.Clone(good), 0),
		"cut":               good[:len(good)-1],
		"not a map":         append([]byte{0x81}, good...),
		"exp twice":         with(4, 0x1a, 0x71, 0x3f, 0xb3, 0),
		"endless map":       append(append([]byte{0xbf}, good[1:]...), 0xff),
		"endless text":      with(1, 0x7f, 0x61, 'x', 0xff),
		"endless bytes":     with(7, 0x5f, 0x41, 1, 0xff),
		"endless list":      with(3, 0x9f, 0x61, 'x', 0xff),
		"text not UTF-8":    with(1, 0x61, 0xff),
		"nine deep":         with(append([]byte{3}, nested(9)...)...),
		"path twice":        with(0x19, 1, 0x38, 0xa2, 3, 0xa1, 0, 0x61, '/', 3, 0xa1, 0, 0x61, '/'),
		"match twice":       with(0x19, 1, 0x38, 0xa1, 3, 0xa2, 0, 0x61, '/', 0, 0x61, '/'),
		"65 audiences":      with(append([]byte{3, 0x98, 65}, bytes.Repeat([]byte{0x61, 'x'}, 65)...)...),
		"huge list":         with(3, 0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		"huge text":         with(1, 0x7b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		"reserved":          with(1, 0x1c),
		"undefined":         with(1, 0xf7),
		"simple value":      with(1, 0xf8, 0xff),
		"bignum for a time": with(5, 0xc2, 0x41, 1),
		"tagged":            append([]byte{0xd8, 61}, good...),
	} {
		if _, err := v.Verify(seal(t, header, payload)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, protected := range map[string][]byte{
		"none":          {},
		"empty":         {0xa0},
		"HS256/64":      {0xa1, 1, 4},
		"HS384":         {0xa1, 1, 6},
		"ES256":         {0xa1, 1, 0x26},
		"alg as text":   {0xa1, 1, 0x65, 'H', 'S', '2', '5', '6'},
		"alg twice":     {0xa2, 1, 5, 1, 5},
		"long spelling": {0xa1, 1, 0x18, 5},
		"critical":      {0xa2, 1, 5, 2, 0x81, 4},
		"kid":           append([]byte{0xa2, 1, 5, 4, 0x46}, testKid...),
		"left over":     {0xa1, 1, 5, 0},
	} {
		if _, err := v.Verify(seal(t, protected, good)); !errors.Is(err, ErrMalformed) {
			t.Errorf("protected header %s: %v", name, err)
		}
	}
}

// Nothing is believed, and nothing of the claims is read, under a wrong tag.
func TestTagFirst(t *testing.T) {
	s, v := pair(t)
	raw, err := s.Sign(testClaims())
	must(t, err)
	b, err := base64.RawURLEncoding.DecodeString(raw)
	must(t, err)
	for i := range b {
		for _, bit := range []byte{1, 0x80} {
			changed := slices.Clone(b)
			changed[i] ^= bit
			_, err := v.Verify(base64.RawURLEncoding.EncodeToString(changed))
			if !errors.Is(err, ErrMAC) && !errors.Is(err, ErrMalformed) {
				t.Errorf("byte %d: %v", i, err)
			}
		}
	}
	other, err := NewSigner("other", testSecret()) // our secret under another kid
	must(t, err)
	raw, err = other.Sign(testClaims())
	must(t, err)
	if _, err := v.Verify(raw); !errors.Is(err, ErrMAC) {
		t.Errorf("secret of another kid: %v", err)
	}
	unknown, err := NewSigner("unknown", testSecret())
	must(t, err)
	raw, err = unknown.Sign(testClaims())
	must(t, err)
	if _, err := v.Verify(raw); !errors.Is(err, ErrMAC) {
		t.Errorf("unknown kid: %v", err)
	}
}

// FuzzCAT: a token that is not what the signer makes of its claims does not
// verify, and nothing makes the verifier fail.
func FuzzCAT(f *testing.F) {
	s, v := pair(f)
	raw, err := s.Sign(testClaims())
	must(f, err)
	f.Add(raw)
	f.Add(sealClaims(f, map[any]any{4: 1900000000, 310: 1, 312: map[int]any{3: map[int]string{1: "/listen/"}}}))
	f.Add("0YRDoQEFoQRGbGluay0xQKA")
	f.Fuzz(func(t *testing.T, raw string) {
		c, err := v.Verify(raw)
		if err != nil {
			return
		}
		if c.Expires.IsZero() {
			t.Error("a token without expiry verifies")
		}
	})
}

// FuzzClaims reads payloads as if the right key had sealed them: what is read
// and signed again says the same.
func FuzzClaims(f *testing.F) {
	s, _ := pair(f)
	payload, err := s.codec.payload(testClaims())
	must(f, err)
	f.Add(payload)
	f.Add([]byte{0xa2, 4, 0x1a, 0x71, 0x3f, 0xb3, 0, 0x19, 1, 0x36, 1})
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) > MaxSize {
			return
		}
		c, err := s.codec.claims(payload)
		if err != nil {
			return
		}
		again, err := s.codec.payload(c)
		must(t, err)
		d, err := s.codec.claims(again)
		must(t, err)
		if d.Issuer != c.Issuer || !d.Expires.Equal(c.Expires) || len(d.Paths) != len(c.Paths) || len(d.Methods) != len(c.Methods) {
			t.Errorf("read %+v, then %+v", c, d)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	s, v := pair(b)
	raw, err := s.Sign(testClaims())
	must(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(raw); err != nil {
			b.Fatal(err)
		}
	}
}
