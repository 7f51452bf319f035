package gateway

import (
	"net/http"
	"strings"
)

// maxRegion is the longest label of a region, in bytes.
const maxRegion = 32

// region is where the client of a request is, as a declared proxy tells in its
// header; empty if nobody else than the client says so, or what is said is no
// label. Labels are letters, digits and dashes, in lower case.
func (s *Server) region(r *http.Request) string {
	if s.o.RegionHeader == "" {
		return ""
	}
	values := r.Header.Values(s.o.RegionHeader)
	if len(values) != 1 || len(values[0]) > maxRegion || !clientOf(r.Context()).proxied {
		return ""
	}
	label := strings.ToLower(values[0])
	for _, c := range []byte(label) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
			return ""
		}
	}
	return label
}
