// Package alert tells an operator's own system what should be looked at, by
// calls that are signed as Standard Webhooks says, queued, and tried again.
//
// It does not know what is told, nor who reads it. What waits is in memory
// alone: after a crash nobody is told.
package alert

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Options are the parts of a Sender. All but Retry and GiveUp must be given.
type Options struct {
	URL    string
	Secret string       // "whsec_" and 24 to 64 bytes in base64
	Client *http.Client // bounds where it connects to, and how long a call takes
	Now    func() time.Time
	Rand   io.Reader
	Log    *slog.Logger

	Retry  []time.Duration // waits before further tries, the last one again and again
	GiveUp time.Duration   // after that a call is given up; 24 h
}

const (
	maxWaiting = 256     // calls
	maxBody    = 8 << 10 // bytes of one
	minKey     = 24
	maxKey     = 64
)

// A Sender makes the calls, one after the other. It is safe for concurrent use.
type Sender struct {
	o     Options
	hook  *standardwebhooks.Webhook
	queue chan message
	stop  context.CancelFunc
	ended sync.WaitGroup

	sent, lost atomic.Uint64
}

// A message is one call, with the same id however often it is tried, so that a
// receiver can tell that it had it.
type message struct {
	id   string
	body []byte
	at   time.Time
}

// New makes a Sender that runs until Close.
func New(o Options) (*Sender, error) {
	if o.Client == nil || o.Now == nil || o.Rand == nil || o.Log == nil || o.URL == "" {
		return nil, errors.New("make the sender of alerts: an option is missing")
	}
	key, err := ParseSecret(o.Secret)
	if err != nil {
		return nil, fmt.Errorf("make the sender of alerts: %w", err)
	}
	hook, err := standardwebhooks.NewWebhookRaw(key)
	if err != nil {
		return nil, fmt.Errorf("make the sender of alerts: %w", err)
	}
	if len(o.Retry) == 0 {
		o.Retry = []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute}
	}
	if o.GiveUp <= 0 {
		o.GiveUp = 24 * time.Hour
	}
	run, stop := context.WithCancel(context.Background())
	s := &Sender{o: o, hook: hook, queue: make(chan message, maxWaiting), stop: stop}
	s.ended.Go(func() { s.run(run) })
	return s, nil
}

// Close ends the call under way. What waits is not told any more.
func (s *Sender) Close() error {
	s.stop()
	s.ended.Wait()
	return nil
}

// Send has the receiver told that something of that type happened, with data
// in JSON. It does not wait; when too much waits already, it is lost.
func (s *Sender) Send(event string, data any) {
	m, err := s.message(event, data)
	if err != nil {
		s.lose("alert not told", err)
		return
	}
	select {
	case s.queue <- m:
	default:
		s.lose("alert not told", errors.New("too many wait for the receiver"))
	}
}

func (s *Sender) lose(what string, err error) {
	s.lost.Add(1)
	s.o.Log.Warn(what, "error", err)
}

func (s *Sender) message(event string, data any) (m message, err error) {
	var id [16]byte
	if _, err := io.ReadFull(s.o.Rand, id[:]); err != nil {
		return m, err
	}
	m.id, m.at = "msg_"+hex.EncodeToString(id[:]), s.o.Now()
	m.body, err = json.Marshal(struct {
		Type      string    `json:"type"`
		Timestamp time.Time `json:"timestamp"`
		Data      any       `json:"data"`
	}{event, m.at.UTC(), data})
	if err == nil && len(m.body) > maxBody {
		err = fmt.Errorf("it is longer than %d bytes", maxBody)
	}
	return m, err
}

// Counts are how many calls were taken by the receiver since the start, how
// many were lost, and how many wait.
func (s *Sender) Counts() (sent, lost, waiting uint64) {
	return s.sent.Load(), s.lost.Load(), uint64(len(s.queue))
}

func (s *Sender) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-s.queue:
			s.deliver(ctx, m)
		}
	}
}

// deliver calls until the receiver takes the message, or it is given up.
func (s *Sender) deliver(ctx context.Context, m message) {
	for try := 0; ; try++ {
		err := s.call(ctx, m)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			s.sent.Add(1)
			return
		}
		if s.o.Now().Sub(m.at) >= s.o.GiveUp {
			s.lose("alert given up", err)
			return
		}
		if try == 0 {
			s.o.Log.Warn("the receiver of alerts takes none now; it is tried again", "error", err)
		}
		wait := time.NewTimer(s.o.Retry[min(try, len(s.o.Retry)-1)])
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
	}
}

// call makes one call. Its error names no address.
func (s *Sender) call(ctx context.Context, m message) error {
	now := s.o.Now()
	signature, err := s.hook.Sign(m.id, now, m.body)
	if err != nil {
		return errors.New("cannot be signed")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.o.URL, bytes.NewReader(m.body))
	if err != nil {
		return errors.New("its URL cannot be called")
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "musen")
	r.Header.Set(standardwebhooks.HeaderWebhookID, m.id)
	r.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	r.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	resp, err := s.o.Client.Do(r)
	if err != nil {
		return errors.New("it does not answer, or may not be connected to")
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("it answers %d", resp.StatusCode)
	}
	return nil
}
