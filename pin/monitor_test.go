package pin

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	capi "github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/libp2p/go-libp2p/core/peer"
)

// A peer that joins long after the start has as much time to be heard for the
// first time as those that were there at the start.
func TestAPeerThatJoinsIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		early, late := peer.ID("early"), peer.ID("late")
		m := &monitor{
			trust: newTrust("self", []peer.ID{early}), timing: Timing{Ping: 5 * time.Second}, log: slog.New(slog.DiscardHandler),
			alerts: make(chan capi.Alert, 9), last: map[peer.ID]map[string]heard{}, lost: map[peer.ID]bool{}, met: map[peer.ID]time.Time{},
		}
		lost := func(want ...peer.ID) {
			t.Helper()
			m.look()
			for _, p := range want {
				select {
				case a := <-m.alerts:
					if a.Peer != p {
						t.Errorf("%s is lost", a.Peer)
					}
				default:
					t.Errorf("%s is not lost", p)
				}
			}
			if len(m.alerts) > 0 {
				t.Errorf("%s is lost", (<-m.alerts).Peer)
			}
		}
		lost()
		time.Sleep(time.Minute)
		lost()
		time.Sleep(time.Hour)
		lost(early)
		m.trust.add(late)
		lost()
		time.Sleep(time.Minute)
		lost()
		time.Sleep(5 * time.Second)
		lost(late)
		m.trust.remove(late)
		m.forget(late)
		time.Sleep(time.Hour)
		m.trust.add(late)
		lost()
		if err := m.LogMetric(context.Background(), capi.Metric{Name: metricPing, Peer: late}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Second)
		lost(late)
	})
}
