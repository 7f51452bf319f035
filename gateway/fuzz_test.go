package gateway

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/musenai/musen"
)

// FuzzCredential: however a stranger spells a request for a segment, it is
// refused, without a failure, unless it has a good credential in it.
func FuzzCredential(f *testing.F) {
	r := newRealm(f)
	seg := r.add(musen.Segment{}, audioOf(100))
	link, token := r.link("jazz", seg.CID), r.token("jazz")
	o := r.options()
	o.Log = discard()
	s, err := New(o)
	check(f, err)
	f.Add("CAT="+link, "", "", "")
	f.Add("CAT="+link+"&CAT="+link, "Bearer "+token, "", "")
	f.Add("download=1", "Bearer "+token, "a=b; "+linkHeader+"="+link, "")
	f.Add("CAT=%41&x;y", "bearer  x", linkHeader+"=\""+link+"\"", link)
	f.Add("", "Basic YTpi", "__Host-musen="+link+"; __Host-musen=", "")
	f.Fuzz(func(t *testing.T, query, authorization, cookie, header string) {
		req := httptest.NewRequest(http.MethodGet, "/listen/"+seg.CID.String(), nil)
		req.URL.RawQuery = query
		for name, value := range map[string]string{"Authorization": authorization, "Cookie": cookie, http.CanonicalHeaderKey(linkHeader): header} {
			if value != "" {
				req.Header[name] = []string{value}
			}
		}
		w := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(w, req)
		values, _ := url.ParseQuery(query)
		good := strings.Contains(authorization, token) || strings.Contains(cookie+header, link) || values.Get(linkQuery) == link
		if w.Code >= 500 || w.Code/100 != 4 && !good {
			t.Errorf("status %d: %q %q %q %q", w.Code, query, authorization, cookie, header)
		}
		for name, v := range w.Header() {
			if strings.ContainsAny(strings.Join(v, ""), "\r\n") {
				t.Errorf("%s: %q", name, v)
			}
		}
	})
}
