package admin

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/gateway/admin/wire"
)

// H48: JSON that two readers could read differently, or that costs much to
// read, is refused for what it is, and changes nothing.
func TestHostileJSON(t *testing.T) {
	w := newWorld(t, nil)
	for name, c := range map[string]struct {
		body   string
		status int
		code   string
	}{
		"empty":               {" ", 400, "json_malformed"},
		"null":                {"null", 400, "json_malformed"},
		"array":               {`[{"name":"a"}]`, 400, "json_malformed"},
		"string":              {`"name"`, 400, "json_malformed"},
		"cut":                 {`{"name":"a"`, 400, "json_malformed"},
		"trailing object":     {`{"name":"a"}{}`, 400, "json_malformed"},
		"trailing word":       {`{"name":"a"} x`, 400, "json_malformed"},
		"trailing NUL":        {"{\"name\":\"a\"}\x00", 400, "json_malformed"},
		"comma":               {`{"name":"a",}`, 400, "json_malformed"},
		"comment":             {`{"name":"a"/*x*/}`, 400, "json_malformed"},
		"single quotes":       {`{'name':'a'}`, 400, "json_malformed"},
		"byte order mark":     {"\ufeff{\"name\":\"a\"}", 400, "json_malformed"},
		"NaN":                 {`{"name":NaN}`, 400, "json_malformed"},
		"raw control":         {"{\"name\":\"a\nb\"}", 400, "json_malformed"},
		"not UTF-8":           {"{\"name\":\"\xff\"}", 400, "json_malformed"},
		"lone surrogate":      {`{"name":"\ud800"}`, 400, "json_malformed"},
		"swapped surrogates":  {`{"name":"\udc00\ud800"}`, 400, "json_malformed"},
		"overlong":            {"{\"name\":\"\xc0\xae\"}", 400, "json_malformed"},
		"unknown field":       {`{"name":"a","admin":true}`, 400, "json_unknown_field"},
		"field in upper case": {`{"NAME":"a"}`, 400, "json_unknown_field"},
		"long s":              {`{"de\u017fcription":"a","name":"a"}`, 400, "json_unknown_field"},
		"__proto__":           {`{"__proto__":{"name":"a"}}`, 400, "json_unknown_field"},
		"twice":               {`{"name":"a","name":"b"}`, 400, "json_duplicate_name"},
		"twice, escaped":      {`{"name":"a","n\u0061me":"b"}`, 400, "json_duplicate_name"},
		"twice, inside":       {`{"x":{"a":1,"a":2}}`, 400, "json_duplicate_name"},
		"number for text":     {`{"name":1}`, 400, "json_type"},
		"text for flag":       {`{"name":"a","downloads":"true"}`, 400, "json_type"},
		"object for text":     {`{"name":{"a":1}}`, 400, "json_type"},
		"deep arrays":         {`{"name":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}", 400, "json_too_deep"},
		"deep objects":        {strings.Repeat(`{"a":`, 9) + "1" + strings.Repeat("}", 9), 400, "json_too_deep"},
		"1 MiB and a byte":    {`{"name":"` + strings.Repeat("a", 1<<20) + `"}`, 413, "too_large"},
		"100 MB":              {`{"name":"` + strings.Repeat("a", 100_000_000) + `"}`, 413, "too_large"},
	} {
		req := newRequest(t, http.MethodPost, "http://socket/api/v1/stations", c.body)
		req.Header.Set("Expect", "100-continue")
		if status, p := w.do(req); status != c.status || p.Code != c.code {
			t.Errorf("%s: %d %s (%s), want %d %s", name, status, p.Code, p.Detail, c.status, c.code)
		}
	}
	for body, code := range map[string]string{
		`{"ttl":9223372036854775808}`: "json_type", `{"ttl":1.5}`: "json_type", `{"ttl":1e3}`: "json_type", `{"ttl":-0.0}`: "json_type",
		`{"ttl":"5m"}`: "json_type", `{"ttl":01}`: "json_malformed", `{"ttl":1e999}`: "json_type", `{"ttl":-5}`: "invalid",
		`{"subject":"s","actions":["listen"],"ttl":9223372036854775807}`: "invalid", `{"actions":[1]}`: "json_type", `{"actions":"listen"}`: "json_type",
	} {
		if status, p := w.do(newRequest(t, http.MethodPost, "http://socket/api/v1/tokens", body)); status/100 != 4 || p.Code != code {
			t.Errorf("%s: %d %s, want %s", body, status, p.Code, code)
		}
	}
	if list, err := w.local.Stations(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("stations %v, %v", list, err)
	}
	if list, err := w.local.Tokens(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("tokens %v, %v", list, err)
	}
}

// H48: bodies of another type, compressed, chunked without end, or where none
// belongs.
func TestHostileBodies(t *testing.T) {
	w := newWorld(t, nil)
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, err := z.Write([]byte(`{"name":"` + strings.Repeat("a", 10<<20) + `"}`))
	must(t, err)
	must(t, z.Close())
	for name, c := range map[string]struct {
		header http.Header
		body   string
		status int
		code   string
	}{
		"gzip bomb":      {http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}}, bomb.String(), 415, "content_encoding"},
		"identity":       {http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"identity"}}, `{"name":"a"}`, 415, "content_encoding"},
		"plain gzip":     {http.Header{"Content-Type": {"application/json"}}, bomb.String(), 400, "json_malformed"},
		"no type":        {http.Header{"Content-Type": nil}, `{"name":"a"}`, 415, "unsupported_media_type"},
		"two types":      {http.Header{"Content-Type": {"application/json", "text/plain"}}, `{"name":"a"}`, 415, "unsupported_media_type"},
		"text":           {http.Header{"Content-Type": {"text/plain"}}, `{"name":"a"}`, 415, "unsupported_media_type"},
		"form":           {http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, `name=a`, 415, "unsupported_media_type"},
		"merge patch":    {http.Header{"Content-Type": {"application/merge-patch+json"}}, `{"name":"a"}`, 415, "unsupported_media_type"},
		"type, rubbish":  {http.Header{"Content-Type": {"application/json; ="}}, `{"name":"a"}`, 415, "unsupported_media_type"},
		"type, charset":  {http.Header{"Content-Type": {"application/json; charset=utf-8"}}, `{"nam":"a"}`, 400, "json_unknown_field"},
		"no body at all": {http.Header{"Content-Type": {"application/json"}}, "", 400, "json_malformed"},
	} {
		req := newRequest(t, http.MethodPost, "http://socket/api/v1/stations", c.body)
		req.Header = c.header
		if status, p := w.do(req); status != c.status || p.Code != c.code {
			t.Errorf("%s: %d %s, want %d %s", name, status, p.Code, c.status, c.code)
		}
	}
	_, r := w.raw("POST /api/v1/stations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" +
		strings.Repeat("10000\r\n"+strings.Repeat(" ", 1<<16)+"\r\n", 17))
	if status, p := answer(t, r); status != 413 || p.Code != "too_large" {
		t.Errorf("chunks without end: %d %s", status, p.Code)
	}
	for _, path := range []string{"/gc", "/stations/jazz"} {
		method := map[bool]string{true: http.MethodPost, false: http.MethodDelete}[path == "/gc"]
		w.do(newRequest(t, http.MethodPost, "http://socket/api/v1/stations", `{"name":"jazz"}`))
		if status, p := w.do(newRequest(t, method, "http://socket/api/v1"+path, `{}`)); status != 400 || p.Code != "unexpected_body" {
			t.Errorf("%s %s with a body: %d %s", method, path, status, p.Code)
		}
	}
}

// H41, H47: requests that smuggle or overflow are answered with 4xx, and the
// connection closed.
func TestHostileFraming(t *testing.T) {
	w := newWorld(t, nil)
	const post = "POST /api/v1/gc HTTP/1.1\r\nHost: x\r\n"
	for name, request := range map[string]string{
		"length and chunks": post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"two lengths":       post + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
		"negative length":   post + "Content-Length: -1\r\n\r\n",
		"obscure chunks":    post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"no host":           "GET /api/v1/status HTTP/1.1\r\n\r\n",
		"two hosts":         "GET /api/v1/status HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"header of 64 KiB":  "GET /api/v1/status HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 64<<10) + "\r\n\r\n",
		"5,000 headers":     "GET /api/v1/status HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: y\r\n", 5000) + "\r\n",
		"URL of 1 MiB":      "GET /" + strings.Repeat("a", 1<<20) + " HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		conn, r := w.raw("")
		go conn.Write([]byte(request)) //nolint:errcheck // the server may close first
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if resp.Body.Close(); resp.StatusCode/100 != 4 && resp.StatusCode != 501 || !resp.Close {
			t.Errorf("%s: %s, connection closed: %t", name, resp.Status, resp.Close)
		}
	}
}

// FuzzParseJSON: whatever is taken is one object of the shape, spelled in the
// one way that it can be spelled in again; and nothing else crashes.
func FuzzParseJSON(f *testing.F) {
	for _, s := range []string{
		`{"subject":"a","actions":["listen"],"stations":["jazz"],"ttl":5}`, `{"subject":"\ud83d\ude80","actions":[]}`,
		`{"subject":"a","subject":"b"}`, `{"ttl":9223372036854775808}`, `{}`, `null`, `{"a":[[[[[[[[[[]]]]]]]]]]}`, "{\"subject\":\"\xff\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var got wire.TokenRequest
		if parseJSON(body, &got) != nil {
			return
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(body, &fields); err != nil {
			t.Fatalf("took %q, which is not one JSON object: %v", body, err)
		}
		for name := range fields {
			switch name {
			case "subject", "actions", "stations", "ttl":
			default:
				t.Fatalf("took the unknown field %q", name)
			}
		}
		var lax wire.TokenRequest
		if err := json.Unmarshal(body, &lax); err != nil || lax.Subject != got.Subject || lax.TTL != got.TTL {
			t.Fatalf("%q reads as %+v here and %+v elsewhere", body, got, lax)
		}
	})
}

// FuzzParseCID: whatever is taken names a SHA-256 block and is spelled in
// exactly the way that its base spells it.
func FuzzParseCID(f *testing.F) {
	raw := name(cid.Raw, []byte("x"))
	f.Add(raw.String())
	f.Add(cid.NewCidV0(raw.Hash()).String())
	f.Add(strings.ToUpper(raw.String()))
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseCID(s)
		if err != nil {
			return
		}
		again, err := parseCID(c.String())
		if err != nil || !again.Equals(c) || len(c.Hash()) != 34 {
			t.Fatalf("took %q as %s: %v", s, c, err)
		}
		if c.Version() == 1 && strings.ContainsRune("BFK", rune(s[0])) && s != strings.ToUpper(s) {
			t.Fatalf("took %q in mixed case", s)
		}
	})
}
