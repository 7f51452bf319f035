package cmd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/config"
	"github.com/musenai/musen/internal/alert"
	"github.com/musenai/musen/internal/audit"
	"github.com/musenai/musen/internal/outbound"
	"github.com/musenai/musen/internal/watch"
	"github.com/musenai/musen/policy"
)

// An alarm does what is to be done about alerts: it writes them to the log,
// suspends whom the configuration says, and tells the operator's own system.
type alarm struct {
	suspend []string // rules
	rows    suspender
	sender  *alert.Sender // nil: nobody is told
	log     *slog.Logger
	record  func(audit.Record)
	queue   chan watch.Alert // by which nobody is suspended
	wake    chan struct{}    // of one: something is owed

	mu   sync.Mutex
	owed []suspension
}

// A suspension is what is to be done about an alert, and must not be lost: the
// same one is not raised again for an hour.
type suspension struct {
	watch.Alert
	tried bool // it is in force here, but not recorded
}

// A suspender ends credentials.
type suspender interface {
	policy.Subjects
	SetSubject(ctx context.Context, s musen.Subject) error
	RevokeToken(ctx context.Context, id string) error
}

const (
	maxAlerts = 64              // that may wait to be told
	maxOwed   = 1 << 16         // suspensions that may wait for the catalogue
	tryAgain  = 5 * time.Second // what could not be recorded
)

// startWatch begins to watch for abuse.
func (n *runningNode) startWatch() error {
	c := n.cfg.Alerts
	a := &alarm{suspend: c.Suspend, rows: n.rows, log: n.log, record: n.record, queue: make(chan watch.Alert, maxAlerts), wake: make(chan struct{}, 1)}
	var err error
	if a.sender, err = newSender(c, n.log); err != nil {
		return &failure{exit: exitUsage, code: "alerts", cause: err, next: "check [alerts] in config.toml"}
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.run(ctx)
	}()
	n.alarm = a
	n.watch = watch.New(watch.Options{
		Thresholds: map[watch.Rule]int{
			watch.Networks: c.Networks, watch.Scraping: c.Scraping, watch.Refusals: c.Refusals,
			watch.Denied: c.Denied, watch.Guesses: c.Guesses, watch.Reported: c.Reported,
		},
		Now: time.Now, Tell: a.tell,
	})
	n.closers = append(n.closers, func() error {
		stop()
		<-ended
		if a.sender == nil {
			return nil
		}
		return a.sender.Close()
	})
	return nil
}

// newSender makes what calls the operator's own system, or nil if there is none.
func newSender(c config.Alerts, log *slog.Logger) (*alert.Sender, error) {
	if c.URL == "" {
		return nil, nil
	}
	secret, err := readSecret(c.SecretFile)
	if err != nil {
		return nil, err
	}
	o := outbound.Options{Hosts: c.AllowPrivate, Conns: 1}
	if c.CAFile != "" {
		if o.Roots, err = outbound.Roots(c.CAFile); err != nil {
			return nil, err
		}
	}
	return alert.New(alert.Options{
		URL: c.URL, Secret: secret, Client: outbound.New(o), Now: time.Now, Rand: rand.Reader, Log: log,
	})
}

// readSecret reads a small file that only its owner may read.
func readSecret(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if mode := info.Mode(); !mode.IsRegular() || mode.Perm()&0o077 != 0 || info.Size() > 4<<10 {
		return "", fmt.Errorf("%s: it is not a small file that its owner alone may read (chmod 600)", path)
	}
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}

// tell takes an alert. It does not wait.
func (a *alarm) tell(x watch.Alert) {
	if a.suspends(x) {
		a.owe(suspension{Alert: x})
		return
	}
	select {
	case a.queue <- x:
	default: // it is in musen status all the same
		a.log.Warn("anomaly; too many at once, nobody is told of it", "rule", x.Rule)
	}
}

// suspends reports whether somebody is to be suspended for an alert.
func (a *alarm) suspends(x watch.Alert) bool {
	return slices.Contains(a.suspend, string(x.Rule)) && (x.Bearer.Session || x.Bearer.Subject != "")
}

// owe keeps a suspension until it is made.
func (a *alarm) owe(s suspension) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.owed) == maxOwed {
		a.log.Error("anomaly; too many wait to be suspended, one is not", "rule", s.Rule)
		return
	}
	a.owed = append(a.owed, s)
	select {
	case a.wake <- struct{}{}:
	default: // it is awake
	}
}

func (a *alarm) run(ctx context.Context) {
	again := time.NewTicker(tryAgain)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case x := <-a.queue:
			a.handle(ctx, x)
		case <-a.wake:
			a.settle(ctx, false)
		case <-again.C:
			a.settle(ctx, true)
		}
	}
}

// settle makes the suspensions that are owed, and, if again, tries once more
// those that could not be recorded.
func (a *alarm) settle(ctx context.Context, again bool) {
	a.mu.Lock()
	due := a.owed
	a.owed = nil
	if !again {
		a.owed = slices.DeleteFunc(slices.Clone(due), func(s suspension) bool { return !s.tried })
		due = slices.DeleteFunc(due, func(s suspension) bool { return s.tried })
	}
	a.mu.Unlock()
	for _, s := range due {
		switch {
		case !s.tried:
			a.handle(ctx, s.Alert)
		case s.Bearer.Session || a.rows.SubjectState(s.Bearer.Subject).Bars(): // else somebody has lifted it meanwhile
			if err := a.end(ctx, s.Alert); err != nil {
				a.owe(s)
			} else {
				a.log.Info("a suspension is recorded that could not be before", "rule", s.Rule)
			}
		}
	}
}

// anomaly is what the operator's own system is told. The names of subjects are
// those that it gave them.
type anomaly struct {
	Rule       string `json:"rule"`
	Count      int    `json:"count"`
	Threshold  int    `json:"threshold"`
	Window     int64  `json:"window_seconds"`
	Subject    string `json:"subject,omitempty"`
	Credential string `json:"credential,omitempty"` // id of a token, link or session
	Share      string `json:"share,omitempty"`      // id
	About      string `json:"about,omitempty"`      // CID of a segment or path of a station, for reports
	Suspended  bool   `json:"suspended"`            // the subject, or the session
}

// handle does all that is to be done about one alert. The log names nobody.
func (a *alarm) handle(ctx context.Context, x watch.Alert) {
	suspended := false
	if a.suspends(x) && (x.Bearer.Session || !a.rows.SubjectState(x.Bearer.Subject).Bars()) {
		err := a.end(ctx, x)
		if suspended = !errors.Is(err, musen.ErrInvalid); err != nil {
			a.log.Error("anomaly; that whoever it was is suspended could not be recorded", "rule", x.Rule, "err", err)
		}
		if suspended && err != nil { // it is in force here
			a.owe(suspension{x, true})
		}
	}
	a.record(ofAlarm(x, "alarm.raised"))
	if suspended {
		a.record(ofAlarm(x, "subject.suspended"))
	}
	a.log.Warn("anomaly", "rule", x.Rule, "count", x.Count, "threshold", x.Threshold, "window", x.Window, "suspended", suspended)
	if a.sender == nil {
		return
	}
	a.sender.Send("musen.anomaly", anomaly{
		Rule: string(x.Rule), Count: x.Count, Threshold: x.Threshold, Window: int64(x.Window / time.Second),
		Subject: x.Bearer.Subject, Credential: x.Bearer.Credential, Share: x.Share, About: x.About, Suspended: suspended,
	})
}

// end suspends the subject of an alert. Of a share it ends the one session: the
// subject is everybody who has it. After an error other than musen.ErrInvalid
// that holds until the node stops.
func (a *alarm) end(ctx context.Context, x watch.Alert) error {
	if x.Bearer.Session {
		return a.rows.RevokeToken(ctx, x.Bearer.Credential)
	}
	return a.rows.SetSubject(ctx, musen.Subject{
		Name: x.Bearer.Subject, State: policy.SubjectSuspended, Actor: "rule " + string(x.Rule), Changed: x.At,
		Reason: fmt.Sprintf("%d in %s, more than %d", x.Count, x.Window, x.Threshold),
	})
}
