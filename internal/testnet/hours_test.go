package testnet_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/testnet"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/keep"
	"github.com/musenai/musen/pin/member"
)

// A host that gets an order outside of its hours carries it out. Its copy is
// waited for until the hours begin, and is not said to fail; then it is proved.
func TestOrderOutsideTheHours(t *testing.T) {
	t.Parallel()
	o := testnet.NewOrigin(t)
	station := o.Station(t, "jazz", musen.Replication{Min: 1, Max: 1, Community: 1})
	opens := time.Now().UTC().Add(3 * time.Hour).Truncate(time.Minute)
	minute := opens.Hour()*60 + opens.Minute()
	always := contract.Contract{Disk: 1 << 30}
	night := always
	night.Hours = contract.Hours{From: minute, To: (minute + 60) % (24 * 60)}
	h := testnet.Join(t, o, member.Replica, "night", night)
	s, _, err := o.Adds.Add(t.Context(), musen.AddRequest{Station: station.ID, Title: "song"}, bytes.NewReader(wave(300<<10)))
	if err != nil {
		t.Fatal(err)
	}
	var health keep.Health
	becomes(t, o, s.CID, "held", func(h keep.Health) bool {
		health = h
		return len(h.Copies) == 2 && h.Copies[1].State == keep.Held
	})
	ctx := t.Context()
	if why, err := h.Why(ctx, s.CID); err != nil || !why.Held {
		t.Errorf("the host has %+v, %v", why, err)
	}
	until := "night is outside its hours until " + opens.Format("15:04 MST")
	if health.Copies[1].Counts || !strings.HasSuffix(health.Reason, "; "+until) || !health.Next.Equal(opens) {
		t.Errorf("%v, %q, next %v", health.Level, health.Reason, health.Next)
	}
	if err := h.SetContract(ctx, always); err != nil {
		t.Fatal(err)
	}
	proved(t, o, s.CID, "night")
}
