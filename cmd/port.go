package cmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/musenai/musen/node"
)

// listenFile remembers where a node listened whose configuration leaves the
// port to the system. Peers that were told of it find it there again.
const listenFile = "listen.json"

// A listening is what was configured, and what came of it.
type listening struct {
	Configured []string `json:"configured"`
	Addresses  []string `json:"addresses"`
}

// lastListen returns where the node of a home listened last, if the
// configuration is the same and leaves a port open, and else what is configured.
func lastListen(home string, configured []string) []string {
	open := func(addr string) bool {
		return strings.Contains(addr+"/", "/tcp/0/") || strings.Contains(addr+"/", "/udp/0/")
	}
	if !slices.ContainsFunc(configured, open) {
		return configured
	}
	var l listening
	b, err := os.ReadFile(filepath.Join(home, listenFile))
	if err != nil || json.Unmarshal(b, &l) != nil || !slices.Equal(l.Configured, configured) || len(l.Addresses) == 0 {
		return configured
	}
	return l.Addresses
}

// saveListen remembers where a node listens.
func saveListen(home string, configured []string, n *node.Node) error {
	l := listening{Configured: configured}
	for _, a := range n.Host().Network().ListenAddresses() {
		l.Addresses = append(l.Addresses, a.String())
	}
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(filepath.Join(home, listenFile)); err == nil && string(old) == string(b) {
		return nil
	}
	tmp := filepath.Join(home, "."+listenFile)
	err = os.WriteFile(tmp, b, 0o600)
	if err == nil {
		err = os.Rename(tmp, filepath.Join(home, listenFile))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("remember where the node listens: %w", err), os.Remove(tmp))
	}
	return nil
}
