package control

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/goleak"

	"github.com/musenai/musen/pin/member"
	"github.com/musenai/musen/pin/wire"
)

func encoded(t testing.TB, v any) []byte {
	t.Helper()
	b, err := wire.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzUp decodes what a peer sends. What is taken is within bounds, and is what
// an honest peer could have sent.
func FuzzUp(f *testing.F) {
	list := encoded(f, []Receipt{{Seq: 3, Verb: Purge, Root: root(1), Outcome: Done, Reason: "ok", At: time.Unix(1e9, 0)}})
	for _, u := range []up{
		{}, {Hello: &hello{Realm: testRealm, Epoch: 9, Last: 4}}, {Got: 7},
		{Roster: &wire.Envelope{Payload: list, Signature: make([]byte, 64)}},
		{Report: &Report{Addrs: []string{"/ip4/127.0.0.1/tcp/1"}, Appeal: "please", Paused: time.Unix(1e9, 0)}},
		{Receipts: []wire.Envelope{{Payload: list, Signature: make([]byte, 64)}}},
	} {
		f.Add(encoded(f, u))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var u up
		if wire.Unmarshal(b, &u) != nil {
			return
		}
		if u.check(u.Hello != nil) != nil {
			return
		}
		if u.Report != nil && (len(u.Report.Appeal) > maxAppeal || u.Report.Free < 0 || len(u.Report.Addrs) > maxAddrs) {
			t.Errorf("took %+v", u.Report)
		}
		if u.Report != nil && u.Report.fit().check() != nil {
			t.Errorf("made unfit: %+v", u.Report)
		}
		for _, e := range u.Receipts {
			rs, err := readReceipts(e)
			if err != nil {
				continue
			}
			for _, r := range rs {
				if len(r.Reason) > maxReason || !r.Root.Defined() || r.Seq > maxSeq || !r.Outcome.known() {
					t.Errorf("took %+v", r)
				}
				if !bytes.Equal(encoded(t, r), encoded(t, r.fit())) {
					t.Errorf("fit changes %+v", r)
				}
			}
		}
	})
}

// FuzzDown decodes what an origin sends.
func FuzzDown(f *testing.F) {
	self := peer.ID("\x00\x03abc")
	list := encoded(f, []Order{{Seq: 3, Peer: self, Verb: Hold, Root: root(1), Size: 5, Label: "l", Issued: time.Unix(1e9, 0)}})
	for _, d := range []down{
		{}, {Welcome: &welcome{Epoch: 3, Latest: 4}, Roster: &wire.Envelope{}}, {Caught: true, Acked: 7},
		{Orders: &wire.Envelope{Payload: list, Signature: make([]byte, 64)}},
		{Regard: &Regard{Standing: "good", Since: time.Unix(1e9, 0), Reason: "proved 20 answers", Audit: "proved", Audited: time.Unix(2e9, 0), Answered: "it was cut"}},
		{Removed: true},
	} {
		f.Add(encoded(f, d))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var d down
		if wire.Unmarshal(b, &d) != nil || d.check(d.Welcome != nil) != nil {
			return
		}
		if r := d.Regard; r != nil && !bytes.Equal(encoded(t, r.fit()), encoded(t, *r)) {
			t.Errorf("fit changes %+v", *r)
		}
		if d.Orders == nil {
			return
		}
		var orders []Order
		if wire.Unmarshal(d.Orders.Payload, &orders) != nil || checkOrders(orders, self) != nil {
			return
		}
		for _, o := range orders {
			kept, err := o.kept()
			if err != nil {
				t.Fatal(err)
			}
			back, err := unkept(o.Root, kept)
			back.Peer = self
			if err != nil || !bytes.Equal(encoded(t, back), encoded(t, o)) {
				t.Errorf("%+v comes back as %+v: %v", o, back, err)
			}
		}
	})
}

// FuzzKept reads what a damaged store may hold.
func FuzzKept(f *testing.F) {
	b, err := Order{Seq: 1, Verb: Drop, Root: root(1), Size: 7, Label: "l", Issued: time.Unix(1e9, 0)}.kept()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := unkept(root(1), b)
		if err != nil {
			return
		}
		if again, err := o.kept(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x is kept as %x: %v", b, again, err)
		}
	})
}

func TestPlainText(t *testing.T) {
	for _, s := range []string{"", "fine", "a\x00b\u202e", "\xff\xfe", string(bytes.Repeat([]byte("é"), 300))} {
		if p := plain(s, maxReason); text("reason", p, maxReason) != nil {
			t.Errorf("%q becomes %q", s, p)
		}
	}
}

// TestNothingIsLeftRunning ends both sides and looks for goroutines.
func TestNothingIsLeftRunning(t *testing.T) {
	o, h := newOrigin(t), newHost(t)
	o.members.set(h.ID(), member.Replica)
	if err := h.Connect(context.Background(), info(o.host)); err != nil {
		t.Fatal(err)
	}
	_ = o.Close()
	poll(t, "the hosts know each other", func() bool {
		ps, err := h.Peerstore().GetProtocols(o.host.ID())
		return err == nil && len(ps) > 0
	})
	before := goleak.IgnoreCurrent()
	o.start(t)
	c := startClient(t, h, o)
	c.awaitReady(t)
	o.order(t, h.ID(), ins(Hold, 0, 50)...)
	o.w.until(t, "all is answered", func() bool { return len(o.receipts[h.ID()]) == 50 })
	_ = o.Close()
	c.stop()
	goleak.VerifyNone(t, before)
}
