package node

import (
	"context"
	"log/slog"
	"regexp"

	golog "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/gologshim"
	"go.uber.org/zap/zapcore"
)

// routeLogs sends the errors of Kubo and libp2p, which log process-wide, to l
// and nowhere else.
func routeLogs(l *slog.Logger) {
	gologshim.SetDefaultHandler(golog.SlogHandler())
	golog.SetPrimaryCore(&logCore{
		log:     l,
		address: addressPattern(),
	})
	golog.SetAllLoggers(golog.LevelError)
	// These two complain every 30 s that there is nobody to bootstrap from.
	for _, quiet := range []string{"core", "bootstrap"} {
		_ = golog.SetLogLevel(quiet, "fatal") // fails only for an unknown level
	}
}

// addressPattern finds network addresses in any spelling. It finds times of day
// too, which is no loss.
func addressPattern() *regexp.Regexp {
	return regexp.MustCompile(`/(ip4|ip6|ip6zone|dns|dns4|dns6|dnsaddr)/[^/\s]+` + // of a multiaddress
		`|\[?[0-9a-fA-F]{0,4}(:[0-9a-fA-F]{0,4}){2,7}(:\d{1,3}(\.\d{1,3}){3}|\.\d{1,3}(\.\d{1,3}){2})?(%\w+)?\]?` +
		`|\b\d{1,3}(\.\d{1,3}){3}\b`)
}

// logCore hands records of zap, which go-log uses, to slog. Fields are left
// out and network addresses masked: a log must not tell who listens.
type logCore struct {
	log     *slog.Logger
	address *regexp.Regexp
}

var _ zapcore.Core = (*logCore)(nil)

func (c *logCore) Enabled(l zapcore.Level) bool      { return l >= zapcore.ErrorLevel }
func (c *logCore) With([]zapcore.Field) zapcore.Core { return c }
func (c *logCore) Sync() error                       { return nil }

func (c *logCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c *logCore) Write(e zapcore.Entry, _ []zapcore.Field) error {
	c.log.LogAttrs(context.Background(), slog.LevelWarn, c.address.ReplaceAllString(e.Message, "<address>"),
		slog.String("part", e.LoggerName))
	return nil
}
