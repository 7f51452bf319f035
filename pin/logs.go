package pin

import (
	"fmt"
	"log/slog"
	"regexp"

	golog "github.com/ipfs/go-log/v2"
)

// quiet sets how much the parts of Cluster say that log process-wide. They log
// through go-log, so where that goes is for the process to say.
func quiet() {
	for part, level := range map[string]string{
		"cluster": "fatal", "pintracker": "fatal", "p2p-gorpc": "fatal", // say again what they return
		"optracker": "error", "dsstate": "error", "pstoremgr": "error", "crdt": "error",
	} {
		_ = golog.SetLogLevel(part, level) // fails only for an unknown level
	}
}

// crdtLog is the log of the CRDT. What it warns of and what fails are both
// warnings here: it tries again by itself. Network addresses are masked.
type crdtLog struct {
	golog.StandardLogger // the rest goes process-wide, like that of Cluster
	log                  *slog.Logger
	address              *regexp.Regexp
}

func newCRDTLog(log *slog.Logger) *crdtLog {
	return &crdtLog{golog.Logger("crdt"), log, regexp.MustCompile(
		`/(ip4|ip6|dns|dns4|dns6|dnsaddr)/[^/\s]+|\b\d{1,3}(\.\d{1,3}){3}\b|\[[0-9a-fA-F:]+\]`)}
}

func (l *crdtLog) say(text string) {
	l.log.Warn("pinset: " + l.address.ReplaceAllString(text, "<address>"))
}

// Warn is logged.
func (l *crdtLog) Warn(a ...any) { l.say(fmt.Sprint(a...)) }

// Warnf is logged.
func (l *crdtLog) Warnf(f string, a ...any) { l.say(fmt.Sprintf(f, a...)) }

// Error is logged.
func (l *crdtLog) Error(a ...any) { l.say(fmt.Sprint(a...)) }

// Errorf is logged.
func (l *crdtLog) Errorf(f string, a ...any) { l.say(fmt.Sprintf(f, a...)) }
