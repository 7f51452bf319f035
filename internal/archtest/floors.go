package archtest

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

// floors are the oldest versions without known holes that matter here.
func floors() map[string]string {
	return map[string]string{
		"github.com/libp2p/go-libp2p":   "v0.49.0", // CVE-2026-57497
		"github.com/quic-go/quic-go":    "v0.60.0", // CVE-2026-40898
		"github.com/ipfs/boxo":          "v0.41.0",
		"github.com/ipld/go-ipld-prime": "v0.23.0",
		"github.com/gin-gonic/gin":      "v1.9.1",
		"github.com/golang-jwt/jwt/v4":  "v4.5.2",  // CVE-2025-30204
		"github.com/golang-jwt/jwt/v5":  "v5.2.2",  // CVE-2025-30204
		"github.com/golang-jwt/jwt":     "v99.0.0", // never repaired
		"github.com/dgrijalva/jwt-go":   "v99.0.0", // never repaired
	}
}

const goFloor = "1.26"

// Floors returns what is older in a go.mod than it may be, one line each,
// sorted. A module that is replaced has no version to go by, so that is a
// fault too.
func Floors(gomod []byte) ([]string, error) {
	f, err := modfile.Parse("go.mod", gomod, nil)
	if err != nil {
		return nil, fmt.Errorf("check go.mod: %w", err)
	}
	var faults []string
	if f.Go == nil || semver.Compare("v"+f.Go.Version, "v"+goFloor) < 0 {
		faults = append(faults, "go.mod: go must be "+goFloor+" or newer")
	}
	for _, r := range f.Require {
		if floor := floors()[r.Mod.Path]; floor != "" && semver.Compare(r.Mod.Version, floor) < 0 {
			faults = append(faults, fmt.Sprintf("go.mod: %s %s is older than %s", r.Mod.Path, r.Mod.Version, floor))
		}
	}
	for _, r := range f.Replace {
		if floors()[r.Old.Path] != "" {
			faults = append(faults, fmt.Sprintf("go.mod: %s is replaced by %s, whose safety nobody knows", r.Old.Path, strings.TrimSpace(r.New.Path+" "+r.New.Version)))
		}
	}
	slices.Sort(faults)
	return faults, nil
}
