package testnet

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/musenai/musen/internal/host"
	"github.com/musenai/musen/node"
	"github.com/musenai/musen/pin"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/member"
)

// A Host is a storage peer or a replica with a home of its own: the program's
// real one, by the real clock, with short intervals.
type Host struct {
	*host.Host
	Name string
	Home string
	Log  *slog.Logger

	change []func(*host.Options)
}

// Join makes a host that joined an origin, and starts it. It is closed when the
// test ends; change edits how it is opened.
func Join(t testing.TB, o *Origin, role member.Role, name string, terms contract.Contract, change ...func(*host.Options)) *Host {
	t.Helper()
	h := &Host{Name: name, Home: t.TempDir(), Log: slog.New(slog.DiscardHandler), change: change}
	invite, err := member.ParseInvite(o.Invite(t, role, name))
	must(t, err)
	_, err = host.Join(t.Context(), h.Home, invite, member.Offer{Contract: terms})
	must(t, err)
	h.Start(t)
	t.Cleanup(func() { h.Stop(t) })
	return h
}

// Start opens the host and waits until it serves.
func (h *Host) Start(t testing.TB) {
	t.Helper()
	book, err := member.OpenBook(filepath.Join(h.Home, host.MembershipFile))
	must(t, err)
	opts := host.Options{
		Book: book, ContractFile: filepath.Join(h.Home, host.ContractFile),
		Node: node.Options{Dir: filepath.Join(h.Home, host.NodeDir), FetchTimeout: fetchTimeout},
		Timing: host.Timing{
			Heartbeat: time.Second,
			Backoff:   func(int) time.Duration { return 200 * time.Millisecond },
			Retry:     func(int) time.Duration { return 200 * time.Millisecond },
			Pin:       pin.Timing{Ping: time.Second, Check: time.Second, Rebroadcast: 2 * time.Second, BatchAge: 50 * time.Millisecond},
		},
		Now: time.Now, Log: h.Log,
	}
	for _, c := range h.change {
		c(&opts)
	}
	h.Host, err = host.Open(t.Context(), opts)
	must(t, err)
	<-h.Ready()
}

// Stop closes the host, if it runs.
func (h *Host) Stop(t testing.TB) {
	t.Helper()
	if h.Host == nil {
		return
	}
	if err := h.Host.Close(); err != nil {
		t.Error(err)
	}
	h.Host = nil
}
