package cat

import (
	"slices"
	"strings"
)

func allowsMethod(methods []string, method string) bool {
	return len(methods) == 0 || slices.Contains(methods, method)
}

func (m Match) holds(path string) bool {
	if m.Prefix {
		return strings.HasPrefix(path, m.Value)
	}
	return path == m.Value
}

// canonicalPath reports whether path has one spelling only.
func canonicalPath(path string) bool {
	if path == "" || path[0] != '/' {
		return false
	}
	for i := range len(path) {
		if !plain(path[i]) {
			return false
		}
	}
	parts := path[1:]
	for parts != "" {
		part, rest, more := strings.Cut(parts, "/")
		if part == "" || part == "." || part == ".." {
			return false
		}
		if !more {
			break
		}
		parts = rest
	}
	return true
}

// plain reports whether c may stand in a path unescaped (RFC 3986, pchar and
// /), and is not ; which some servers cut parameters at.
func plain(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("/-._~!$&'()*+,=:@", c) >= 0
}
