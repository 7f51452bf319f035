package node

import (
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/zap"
)

// P40, H54: what Kubo and libp2p log names nobody, in whatever way they spell
// an address, and not in a field either.
func TestLogsOfLibrariesNameNoAddress(t *testing.T) {
	for _, spelling := range []string{
		"203.0.113.77", "203.0.113.77:4001", "2001:db8::77", "[2001:db8::77]:4001", "2001:0db8:0000:0000:0000:0000:0000:0077",
		"::ffff:203.0.113.77", "fe80::77%eth0", "2001:db8::", "/ip4/203.0.113.77/tcp/4001", "/ip6/2001:db8::77/udp/4001/quic-v1", "/dns4/home.example.net/tcp/1",
	} {
		var log strings.Builder
		core := &logCore{log: slog.New(slog.NewTextHandler(&log, nil)), address: addressPattern()}
		zap.New(core).Error("dial "+spelling+": connection refused by "+spelling+".", zap.String("from", spelling))
		for _, piece := range []string{"203", "2001", "77", "fe80", "home.example", "db8"} {
			if strings.Contains(strings.SplitN(log.String(), "msg=", 2)[1], piece) {
				t.Errorf("%s: logged %s", spelling, log.String())
			}
		}
		if !strings.Contains(log.String(), "connection refused") {
			t.Errorf("%s: the words are lost: %s", spelling, log.String())
		}
	}
}
