package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"

	"github.com/musenai/musen/pin/member"
	"github.com/musenai/musen/pin/wire"
)

// A raw peer speaks the protocol as the test wants.
type raw struct {
	t    testing.TB
	s    network.Stream
	from *bufio.Reader
}

func speak(t testing.TB, h host.Host, o *origin) *raw {
	t.Helper()
	if err := h.Connect(context.Background(), info(o.host)); err != nil {
		t.Fatal(err)
	}
	s, err := h.NewStream(context.Background(), o.host.ID(), Protocol)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Reset() })
	return &raw{t, s, bufio.NewReader(s)}
}

// greeted is a raw peer whose line is up.
func greeted(t testing.TB, h host.Host, o *origin) *raw {
	t.Helper()
	r := speak(t, h, o)
	r.send(up{Hello: &hello{Realm: testRealm}})
	if f := r.read(); f.Welcome == nil {
		t.Fatal("no welcome")
	}
	o.w.until(t, "the line is up", func() bool { return o.isUp(h.ID()) })
	return r
}

func (r *raw) send(f up) {
	r.t.Helper()
	if err := wire.Write(r.s, f); err != nil {
		r.t.Fatal(err)
	}
}

func (r *raw) read() (f down) {
	r.t.Helper()
	if err := wire.Read(r.from, maxDown, &f); err != nil {
		r.t.Fatal(err)
	}
	return f
}

// refused waits until the other side ends the stream.
func (r *raw) refused() {
	r.t.Helper()
	_ = r.s.SetReadDeadline(time.Now().Add(patience))
	var f down
	for {
		err := wire.Read(r.from, maxDown, &f)
		var timeout interface{ Timeout() bool }
		if errors.As(err, &timeout) && timeout.Timeout() {
			r.t.Fatal("the line stays open")
		}
		if err != nil {
			return
		}
	}
}

// busy is a peer that everything works for, whatever others do.
func busy(t testing.TB, o *origin) (check func()) {
	t.Helper()
	h, held := newHost(t), newShelfful()
	o.members.set(h.ID(), member.Replica)
	startClient(t, h, o, on(newDisk(), held)).awaitReady(t)
	n := 0
	return func() {
		t.Helper()
		n++
		o.order(t, h.ID(), ins(Hold, n, n+1)...)
		o.w.until(t, "an honest peer is served", func() bool { return len(o.receipts[h.ID()]) == n })
	}
}

func TestStrangersAndGuestsGetNoLine(t *testing.T) {
	o := newOrigin(t)
	stranger, guest, was := newHost(t), newHost(t), newHost(t)
	o.members.set(guest.ID(), member.Guest)
	for _, h := range []host.Host{stranger, guest} {
		r := speak(t, h, o)
		_ = wire.Write(r.s, up{Hello: &hello{Realm: testRealm}})
		r.refused()
		if err := o.Order(context.Background(), h.ID(), ins(Hold, 0, 1)...); !errors.Is(err, ErrStranger) {
			t.Errorf("order to a stranger: %v", err)
		}
	}
	o.members.set(was.ID(), member.Replica)
	r := greeted(t, was, o)
	o.members.set(was.ID(), "")
	o.PushRoster()
	r.refused()
	o.w.until(t, "the line of a removed peer is down", func() bool { return !o.isUp(was.ID()) })
	o.w.do(func() {
		if len(o.lines[stranger.ID()])+len(o.lines[guest.ID()]) > 0 {
			t.Error("a line was up")
		}
	})
}

// P68: no line is up for a peer of another realm, or for one that begins wrong.
func TestHostileBeginnings(t *testing.T) {
	o := newOrigin(t)
	check := busy(t, o)
	h := newHost(t)
	o.members.set(h.ID(), member.Replica)
	long := strings.Repeat("r", maxRealm+1)
	for name, begin := range map[string]any{
		"another realm":   up{Hello: &hello{Realm: "television"}},
		"no realm":        up{Hello: &hello{}},
		"a long realm":    up{Hello: &hello{Realm: long}},
		"no hello":        up{Got: 1},
		"more than hello": up{Hello: &hello{Realm: testRealm}, Report: &Report{}},
		"beyond counting": up{Hello: &hello{Realm: testRealm, Last: maxLast + 1}},
		"not a frame":     []string{"hello"},
	} {
		t.Run(name, func(t *testing.T) {
			r := speak(t, h, o)
			if err := wire.Write(r.s, begin); err != nil {
				t.Fatal(err)
			}
			r.refused()
		})
	}
	t.Run("a gibibyte", func(t *testing.T) {
		r := speak(t, h, o)
		if _, err := r.s.Write(binary.BigEndian.AppendUint32(nil, 1<<30)); err != nil {
			t.Fatal(err)
		}
		r.refused()
	})
	t.Run("a second hello", func(t *testing.T) {
		r := greeted(t, h, o)
		r.send(up{Hello: &hello{Realm: testRealm}})
		r.refused()
	})
	t.Run("many that never end", func(t *testing.T) {
		var open []*raw
		for range shakes {
			r := speak(t, h, o)
			if _, err := r.s.Write([]byte{0, 0}); err != nil {
				t.Fatal(err)
			}
			open = append(open, r)
		}
		poll(t, "all have begun", func() bool {
			a, err := o.account(h.ID())
			if err != nil {
				t.Fatal(err)
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.shaking == shakes
		})
		r := speak(t, h, o)
		_ = wire.Write(r.s, up{Hello: &hello{Realm: testRealm}})
		r.refused()
		check()
		for _, r := range open {
			_ = r.s.Reset()
		}
	})
	o.w.do(func() {
		if len(o.receipts[h.ID()])+len(o.reports[h.ID()]) > 0 {
			t.Error("something was taken")
		}
	})
	check()
}

// orders reads frames until an order comes.
func (r *raw) orders() []Order {
	r.t.Helper()
	for {
		f := r.read()
		if f.Orders == nil {
			continue
		}
		var list []Order
		if err := wire.Unmarshal(f.Orders.Payload, &list); err != nil {
			r.t.Fatal(err)
		}
		return list
	}
}

func TestForgedReceiptsAreRefused(t *testing.T) {
	o, h, other := newOrigin(t), newHost(t), newHost(t)
	o.members.set(h.ID(), member.Replica)
	o.members.set(other.ID(), member.Replica)
	o.order(t, h.ID(), ins(Hold, 0, 1)...)
	o.order(t, other.ID(), ins(Hold, 1, 2)...)
	mine, others := o.waiting(t, h.ID())[0], o.waiting(t, other.ID())[0]
	good := Receipt{Seq: mine.Seq, Verb: Hold, Root: mine.Root, Outcome: Done}
	with := func(do func(*Receipt)) Receipt { r := good; do(&r); return r }
	for name, c := range map[string]struct {
		key   crypto.PrivKey
		realm string
		list  []Receipt
		mild  bool // acknowledged, and that is all
	}{
		"signed by another":       {keyOf(other), testRealm, []Receipt{good}, false},
		"signed by the origin":    {keyOf(o.host), testRealm, []Receipt{good}, false},
		"another realm":           {keyOf(h), "television", []Receipt{good}, false},
		"never given":             {keyOf(h), testRealm, []Receipt{with(func(r *Receipt) { r.Seq = 99 })}, false},
		"another verb":            {keyOf(h), testRealm, []Receipt{with(func(r *Receipt) { r.Verb = Purge })}, true},
		"order of another peer":   {keyOf(h), testRealm, []Receipt{{Seq: others.Seq, Verb: Hold, Root: others.Root, Outcome: Done}}, true},
		"unasked":                 {keyOf(h), testRealm, []Receipt{with(func(r *Receipt) { r.Seq = 0 })}, true},
		"long reason":             {keyOf(h), testRealm, []Receipt{with(func(r *Receipt) { r.Reason = strings.Repeat("x", maxReason+1) })}, false},
		"reason that hides":       {keyOf(h), testRealm, []Receipt{with(func(r *Receipt) { r.Reason = "a\u202eb" })}, false},
		"no outcome":              {keyOf(h), testRealm, []Receipt{with(func(r *Receipt) { r.Outcome = "perhaps" })}, false},
		"a year beyond calendars": {keyOf(h), testRealm, []Receipt{with(func(r *Receipt) { r.At = time.Unix(1<<50, 0) })}, false},
		"purge among others":      {keyOf(h), testRealm, []Receipt{good, with(func(r *Receipt) { r.Verb = Purge })}, false},
		"none":                    {keyOf(h), testRealm, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := greeted(t, h, o)
			e, err := sealReceipts(c.key, c.realm, c.list...)
			if err != nil {
				t.Fatal(err)
			}
			r.send(up{Receipts: []wire.Envelope{e}})
			if !c.mild {
				r.refused()
				return
			}
			for f := r.read(); f.Acked != 1; f = r.read() {
			}
			_ = r.s.Reset()
		})
	}
	o.w.do(func() {
		if len(o.receipts) > 0 {
			t.Errorf("taken: %+v", o.receipts)
		}
	})
	if len(o.waiting(t, h.ID())) != 1 || len(o.waiting(t, other.ID())) != 1 {
		t.Error("an order was answered")
	}
}

func TestReportsAreBounded(t *testing.T) {
	o, h := newOrigin(t), newHost(t)
	o.members.set(h.ID(), member.Replica)
	for name, bad := range map[string]Report{
		"a long appeal":       {Appeal: strings.Repeat("x", maxAppeal+1)},
		"an appeal of escape": {Appeal: "\x1b[2J"},
		"many addresses":      {Addrs: make([]string, maxAddrs+1)},
		"no address":          {Addrs: []string{"nowhere"}},
		"a host of escape":    {Addrs: []string{"/dns4/\x1b[2J/tcp/1"}},
		"less than nothing":   {Free: -1},
		"more than there is":  {Used: maxBytes + 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := greeted(t, h, o)
			r.send(up{Report: &bad})
			r.refused()
			if fit := bad.fit(); fit.check() != nil {
				t.Errorf("an honest client would send %+v", fit)
			}
		})
	}
	o.w.do(func() {
		if len(o.reports) > 0 {
			t.Error("a report was taken")
		}
	})
}

// A peer that says it has orders that nobody gave is given those that wait all
// the same, and they are seen to wait.
func TestOrdersAreLeftWhateverAPeerSays(t *testing.T) {
	o, h := newOrigin(t), newHost(t)
	o.members.set(h.ID(), member.Replica)
	o.order(t, h.ID(), ins(Purge, 0, 1)...)
	for range 3 {
		r := speak(t, h, o)
		r.send(up{Hello: &hello{Realm: testRealm, Last: maxLast}})
		if list := r.orders(); len(list) != 1 || list[0].Verb != Purge || list[0].check() != nil {
			t.Errorf("orders %+v", list)
		}
		if w := o.waiting(t, h.ID()); len(w) != 1 {
			t.Errorf("waiting: %+v", w)
		}
		_ = r.s.Reset()
	}
}

// A peer that says something else of itself all the time is listened to now and
// then: others are told what it says.
func TestFloodOfReports(t *testing.T) {
	o, h := newOrigin(t, func(so *ServerOptions) { so.Heartbeat = time.Hour }), newHost(t)
	o.members.set(h.ID(), member.Replica)
	r := greeted(t, h, o)
	for i := range 2 * reportsBurst {
		r.send(up{Report: &Report{Held: int64(i)}})
	}
	o.w.until(t, "the first reports", func() bool { return len(o.reports[h.ID()]) >= reportsBurst })
	o.w.do(func() {
		if n := len(o.reports[h.ID()]); n > reportsBurst {
			t.Errorf("%d reports were taken", n)
		}
	})
}

// Nobody is away by announcement for longer than is excused, and the operator is
// shown no other time.
func TestAPauseIsBounded(t *testing.T) {
	o, h := newOrigin(t), newHost(t)
	o.members.set(h.ID(), member.Replica)
	r := greeted(t, h, o)
	r.send(up{Report: &Report{Paused: time.Date(8999, 1, 1, 0, 0, 0, 0, time.UTC)}})
	o.w.until(t, "a report", func() bool { return len(o.reports[h.ID()]) == 1 })
	most := time.Now().Add(maxPause)
	if p := o.reports[h.ID()][0].Paused; p.IsZero() || p.After(most) || o.Lines()[0].Report.Paused.After(most) {
		t.Errorf("away until %s", p)
	}
}

// A roster is sent to whom it says something new.
func TestTheSameRosterIsNotSentAgain(t *testing.T) {
	o, h := newOrigin(t), newHost(t)
	o.members.set(h.ID(), member.Replica)
	r := greeted(t, h, o)
	o.PushRoster()
	o.order(t, h.ID(), ins(Hold, 0, 1)...)
	for f := r.read(); f.Orders == nil; f = r.read() {
		if f.Roster != nil {
			t.Error("the same roster was sent")
		}
	}
	o.members.set(newHost(t).ID(), member.Guest)
	o.PushRoster()
	for f := r.read(); f.Roster == nil; f = r.read() {
	}
}

// inUse is what is in use after a collection.
func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestFloodOfReceipts(t *testing.T) {
	o, h := newOrigin(t), newHost(t)
	check := busy(t, o)
	o.members.set(h.ID(), member.Replica)
	r := greeted(t, h, o)
	go func() { _, _ = io.Copy(io.Discard, r.from) }()
	list := make([]Receipt, maxBatch)
	for i := range list {
		list[i] = Receipt{Verb: Hold, Root: root(i), Outcome: Done}
	}
	e, err := sealReceipts(keyOf(h), testRealm, list...)
	if err != nil {
		t.Fatal(err)
	}
	frame := new(bytes.Buffer)
	if err := wire.Write(frame, up{Receipts: []wire.Envelope{e}}); err != nil {
		t.Fatal(err)
	}
	before := inUse()
	var sent atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, err := r.s.Write(frame.Bytes()); err != nil {
				return
			}
			sent.Add(maxBatch)
		}
	}()
	poll(t, "the flood is held up", func() bool { return sent.Load() > tokensBurst/stray })
	for range 20 {
		check()
	}
	if grown := int64(inUse()) - int64(before); grown > 32<<20 {
		t.Errorf("memory grew by %d bytes", grown)
	}
	_ = r.s.Reset()
	<-done
}

func TestAPeerThatNeverReads(t *testing.T) {
	o, h := newOrigin(t, func(so *ServerOptions) { so.Heartbeat = 100 * time.Millisecond }), newHost(t)
	check := busy(t, o)
	o.members.set(h.ID(), member.Replica)
	o.order(t, h.ID(), ins(Hold, 0, 5000)...)
	r := speak(t, h, o)
	r.send(up{Hello: &hello{Realm: testRealm}})
	stop := make(chan struct{})
	defer close(stop)
	go func() { // it lives, says that it got everything, and reads nothing
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				_ = wire.Write(r.s, up{Got: maxSeq})
			}
		}
	}()
	o.w.until(t, "its line is up", func() bool { return o.isUp(h.ID()) })
	for i := range 10 {
		o.order(t, h.ID(), ins(Purge, 5000+500*i, 5000+500*i+500)...)
		check()
	}
	if n := len(o.waiting(t, h.ID())); n != 10_000 {
		t.Errorf("%d orders wait", n)
	}
	a, err := o.account(h.ID())
	if err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	if l := a.line; l != nil && len(l.queue) > window {
		t.Errorf("%d orders in memory", len(l.queue))
	}
	a.mu.Unlock()
}

func TestASilentPeerIsDown(t *testing.T) {
	o, h := newOrigin(t, func(so *ServerOptions) { so.Heartbeat = 30 * time.Millisecond }), newHost(t)
	o.members.set(h.ID(), member.Replica)
	r := greeted(t, h, o)
	r.refused()
	o.w.until(t, "its line is down", func() bool { return !o.isUp(h.ID()) })
}

// A peer whose line another takes again and again, with the same identity, says
// in its log what that may be; once is nothing.
func TestALineThatAnotherTakes(t *testing.T) {
	o, h := newOrigin(t), newHost(t)
	o.members.set(h.ID(), member.Replica)
	var said atomic.Int64
	c := startClient(t, h, o, func(co *ClientOptions) {
		co.Log = slog.New(slog.NewTextHandler(writer(func(line string) {
			if strings.Contains(line, "another node run with the identity") {
				said.Add(1)
			}
		}), nil))
	})
	for n, last := 0, (time.Time{}); n < mostTaken; n++ {
		poll(t, "the line is up", func() bool {
			st := c.Status()
			return st.Up && !st.Since.Equal(last)
		})
		last = c.Status().Since
		if said.Load() != 0 {
			t.Errorf("said after %d times", n)
		}
		copied := speak(t, h, o)
		copied.send(up{Hello: &hello{Realm: testRealm}})
		if f := copied.read(); f.Welcome == nil {
			t.Error("no welcome")
		}
	}
	poll(t, "the peer says what is the matter", func() bool { return said.Load() == 1 })
}

// writer has a function called with what is written.
type writer func(string)

func (w writer) Write(b []byte) (int, error) {
	w(string(b))
	return len(b), nil
}
