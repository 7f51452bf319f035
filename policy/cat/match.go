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
	if path == "" || path[0] != '/' || strings.ContainsFunc(path, notPlain) {
		return false
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

// notPlain reports whether r is no character that a path may have unescaped
// (RFC 3986 pchar and /), or is ; which some servers cut parameters at.
func notPlain(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	}
	return !strings.ContainsRune("/-._~!$&'()*+,=:@", r)
}
