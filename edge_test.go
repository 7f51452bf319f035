package musen_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multibase"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/testnet"
	"github.com/musenai/musen/policy"
)

// spellings are other CIDs, and other texts of the same, that name one block.
func spellings(c cid.Cid) []cid.Cid {
	all := []cid.Cid{cid.NewCidV0(c.Hash())}
	for _, codec := range []uint64{cid.DagProtobuf, cid.Raw, cid.DagCBOR, cid.DagJSON, cid.Libp2pKey} {
		v1 := cid.NewCidV1(codec, c.Hash())
		for _, base := range []multibase.Encoding{multibase.Base32, multibase.Base32Upper, multibase.Base36, multibase.Base58BTC, multibase.Base64url, multibase.Base16} {
			text, err := v1.StringOfBase(base)
			if err != nil {
				panic(err)
			}
			all = append(all, cid.MustParse(text))
		}
	}
	return all
}

// releases counts how often a real keyring gives out a key.
type releases struct {
	musen.KeyReleaser
	n atomic.Int64
}

func (r *releases) Release(d policy.Decision, station, segment string, w musen.WrappedKey) ([]byte, error) {
	r.n.Add(1)
	return r.KeyReleaser.Release(d, station, segment, w)
}

func listen(t testing.TB, h *testnet.Home, stations ...string) policy.Grant {
	t.Helper()
	return h.Grant(t, []policy.Action{policy.Listen, policy.Download}, stations...)
}

func refused(t *testing.T, e *musen.Edge, g policy.Grant, a policy.Action, c cid.Cid, want error) {
	t.Helper()
	stream, err := e.Open(t.Context(), g, a, c)
	if !errors.Is(err, want) || stream != nil {
		t.Errorf("%s %s: got %v, want %v", a, c, err, want)
	}
}

func allowed(t *testing.T, e *musen.Edge, g policy.Grant, a policy.Action, c cid.Cid) *musen.Stream {
	t.Helper()
	stream, err := e.Open(t.Context(), g, a, c)
	must(t, err)
	return stream
}

// H25, H31: whoever may not hear a segment cannot tell it from none, whatever
// its state, by whatever CID; and no key is released.
func TestAbsentAndForbiddenAreTheSame(t *testing.T) {
	h := testnet.New(t)
	o := h.Origin()
	jazz, blues := station(t, o, "jazz"), station(t, o, "blues")
	live, removed := add(t, o, "jazz", wav(1, 600<<10)), add(t, o, "jazz", wav(2, 1000))
	must(t, o.Remove(t.Context(), removed.CID))
	soon, _, err := o.Add(t.Context(), musen.AddRequest{Station: "jazz", PublishAt: h.Clock.Now().Add(time.Hour), ExpiresAt: h.Clock.Now().Add(2 * time.Hour)}, bytes.NewReader(wav(3, 1000)))
	must(t, err)
	brief, _, err := o.Add(t.Context(), musen.AddRequest{Station: "jazz", ExpiresAt: h.Clock.Now().Add(time.Minute)}, bytes.NewReader(wav(4, 1000)))
	must(t, err)
	h.Clock.Forward(2 * time.Minute)

	opts := h.EdgeOptions()
	keys := &releases{KeyReleaser: h.Keys}
	opts.Keys = keys
	e, err := musen.NewEdge(opts)
	must(t, err)
	_, unknown := e.Open(t.Context(), listen(t, h, jazz.ID), policy.Listen, testCID(t))
	wantErr(t, unknown, musen.ErrNotFound)
	absent := append(spellings(testCID(t)), live.Leaves[0], live.Leaves[2]) // H26: a block of a segment is none
	var forbidden []cid.Cid
	for _, c := range []cid.Cid{live.CID, removed.CID, soon.CID, brief.CID} {
		forbidden = append(forbidden, spellings(c)...)
	}
	strangers := map[string]policy.Grant{
		"none": {}, "other station": listen(t, h, blues.ID), "other action": h.Grant(t, []policy.Action{policy.Add, policy.Host}, jazz.ID),
	}
	for name, g := range strangers {
		for _, c := range append(forbidden, absent...) {
			for _, a := range []policy.Action{policy.Listen, policy.Download, policy.ReleaseKey, policy.Audit} {
				if _, err := e.Open(t.Context(), g, a, c); err == nil || err.Error() != unknown.Error() || !errors.Is(err, musen.ErrNotFound) {
					t.Fatalf("%s: %s %s: %v, an unknown one: %v", name, a, c, err, unknown)
				}
			}
		}
	}
	refused(t, e, listen(t, h, jazz.ID), policy.Listen, soon.CID, musen.ErrNotFound) // embargo
	if n := keys.n.Load(); n != 0 {
		t.Errorf("%d keys were released", n)
	}
}

func TestWhoMayListen(t *testing.T) {
	h := testnet.New(t)
	o := h.Origin()
	jazz := station(t, o, "jazz")
	source := wav(1, 600<<10)
	req := musen.AddRequest{Station: "jazz", PublishAt: h.Clock.Now().Add(time.Hour), ExpiresAt: h.Clock.Now().Add(2 * time.Hour)}
	s, _, err := o.Add(t.Context(), req, bytes.NewReader(source))
	must(t, err)
	e := h.Edge(t)
	listener := h.Grant(t, []policy.Action{policy.Listen, policy.Audit}, jazz.ID)

	refused(t, e, listener, policy.Listen, s.CID, musen.ErrNotFound)
	allowed(t, e, listener, policy.Audit, s.CID)
	h.Clock.Forward(time.Hour)
	for _, c := range spellings(s.CID) { // H25
		stream := allowed(t, e, listener, policy.Listen, c)
		if stream.Size() != s.Size || stream.Segment().ID != s.ID || stream.Station() != jazz {
			t.Fatalf("%s opens %+v", c, stream.Segment())
		}
	}
	refused(t, e, listener, policy.Download, s.CID, musen.ErrNotFound)
	refused(t, e, listener, policy.Add, s.CID, musen.ErrNotFound)
	wantAudio(t, e, s.CID, source)
	playing := allowed(t, e, listener, policy.Listen, s.CID)

	h.Clock.Forward(time.Hour)
	refused(t, e, listener, policy.Listen, s.CID, musen.ErrGone)
	n, err := playing.WriteRange(t.Context(), io.Discard, 0, s.Size) // expiry never breaks what plays
	if err != nil || n != s.Size {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// An action that releases no key opens nothing, even for the operator.
func TestOnlySomeActionsOpen(t *testing.T) {
	h := testnet.New(t)
	station(t, h.Origin(), "jazz")
	s := add(t, h.Origin(), "jazz", wav(1, 1000))
	e := h.Edge(t)
	allowed(t, e, policy.LocalOperator(), policy.Listen, s.CID)
	for _, a := range []policy.Action{policy.Add, policy.Manage, policy.Moderate, policy.Host, "", "LISTEN"} {
		if stream, err := e.Open(t.Context(), policy.LocalOperator(), a, s.CID); err == nil || stream != nil {
			t.Errorf("%q opened a segment", a)
		}
	}
}

// A key is released once for all who may listen, and never for who may not.
func TestOneReleaseServesAll(t *testing.T) {
	h := testnet.New(t)
	o := h.Origin()
	jazz, blues := station(t, o, "jazz"), station(t, o, "blues")
	s := add(t, o, "jazz", wav(1, 1000))
	opts := h.EdgeOptions()
	keys := &releases{KeyReleaser: h.Keys}
	opts.Keys = keys
	e, err := musen.NewEdge(opts)
	must(t, err)
	may, mayNot := listen(t, h, jazz.ID), listen(t, h, blues.ID)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			if _, err := e.Open(context.Background(), may, policy.Listen, s.CID); err != nil {
				t.Error(err)
			}
			if _, err := e.Open(context.Background(), mayNot, policy.Listen, s.CID); !errors.Is(err, musen.ErrNotFound) {
				t.Errorf("without a grant: %v", err)
			}
		})
	}
	wg.Wait()
	if n := keys.n.Load(); n != 1 {
		t.Errorf("%d releases", n)
	}
	add(t, o, "jazz", wav(2, 1000)) // what is added changes nothing of what is open
	allowed(t, e, may, policy.Listen, s.CID)
	other := add(t, o, "blues", wav(3, 1000))
	must(t, o.Remove(t.Context(), other.CID)) // nor does what is removed elsewhere
	allowed(t, e, may, policy.Listen, s.CID)
	if n := keys.n.Load(); n != 1 {
		t.Errorf("%d releases", n)
	}
}

// onWrite calls before at its first write, after what was written is counted.
type onWrite struct {
	before func()
	bytes.Buffer
}

func (w *onWrite) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	if w.before != nil {
		w.before()
		w.before = nil
	}
	return n, err
}

// What is removed is never heard again: not through an opener in memory, not
// by a stream that was opened before, and one that plays ends at the next chunk.
func TestRemovedIsSilent(t *testing.T) {
	h := testnet.New(t)
	o := h.Origin()
	station(t, o, "jazz")
	source := wav(1, 600<<10)
	s, other := add(t, o, "jazz", source), add(t, o, "jazz", wav(2, 600<<10))
	e := h.Edge(t)
	wantAudio(t, e, s.CID, source)
	operator := policy.LocalOperator()
	opened := allowed(t, e, operator, policy.Listen, s.CID)

	heard := &onWrite{before: func() { must(t, o.Remove(context.Background(), s.CID)) }}
	n, err := allowed(t, e, operator, policy.Listen, s.CID).WriteRange(t.Context(), heard, 0, s.Size)
	wantErr(t, err, musen.ErrGone)
	if errors.Is(err, musen.ErrUnavailable) || n > 65536 || n != int64(heard.Len()) || !bytes.HasPrefix(source, heard.Bytes()) {
		t.Errorf("%d bytes after the removal, %v", n, err)
	}
	heard = &onWrite{}
	for range 2 {
		n, err = opened.WriteRange(t.Context(), heard, 0, s.Size)
		wantErr(t, err, musen.ErrGone)
	}
	if n != 0 || heard.Len() != 0 {
		t.Errorf("%d bytes of a removed segment", heard.Len())
	}
	for _, c := range spellings(s.CID) {
		refused(t, e, operator, policy.Listen, c, musen.ErrGone)
		refused(t, e, operator, policy.Audit, c, musen.ErrGone)
	}
	wantAudio(t, e, other.CID, wav(2, 600<<10))
	h.Reopen(t)
	refused(t, h.Edge(t), operator, policy.Listen, s.CID, musen.ErrGone)
}

// A removal elsewhere does not disturb a stream.
func TestOthersRemovalIsNotHeard(t *testing.T) {
	h := testnet.New(t)
	o := h.Origin()
	station(t, o, "jazz")
	source := wav(1, 600<<10)
	s, other := add(t, o, "jazz", source), add(t, o, "jazz", wav(2, 1000))
	heard := &onWrite{before: func() { must(t, o.Remove(context.Background(), other.CID)) }}
	stream := allowed(t, h.Edge(t), policy.LocalOperator(), policy.Listen, s.CID)
	n, err := stream.WriteRange(t.Context(), heard, 0, s.Size)
	must(t, err)
	if n != s.Size || !bytes.Equal(heard.Bytes(), source) {
		t.Errorf("%d bytes", n)
	}
}

func TestStationSettingsBiteAtOnce(t *testing.T) {
	h := testnet.New(t)
	o := h.Origin()
	jazz := station(t, o, "jazz")
	s := add(t, o, "jazz", wav(1, 1000))
	e := h.Edge(t)
	g := listen(t, h, jazz.ID)
	for range 2 {
		for _, on := range []bool{true, false} {
			jazz.Downloads = on
			must(t, h.Rows.UpdateStation(t.Context(), jazz))
			allowed(t, e, g, policy.Listen, s.CID)
			if on {
				allowed(t, e, g, policy.Download, s.CID)
			} else {
				refused(t, e, g, policy.Download, s.CID, musen.ErrNotFound)
			}
		}
	}
}

// H11: a new epoch ends every link of the station, also of a segment that is
// open in memory, and no token.
func TestNewEpochEndsLinks(t *testing.T) {
	h := testnet.New(t)
	o := h.Origin()
	jazz := station(t, o, "jazz")
	s := add(t, o, "jazz", wav(1, 1000))
	e := h.Edge(t)
	path := "/listen/" + s.CID.String()
	raw, _, err := h.Issuer.Link(policy.LinkRequest{Station: jazz.ID, Epoch: jazz.Epoch, Path: path})
	must(t, err)
	link, err := h.Verifier.Link(raw, "GET", path)
	must(t, err)
	allowed(t, e, link, policy.Listen, s.CID)
	refused(t, e, link, policy.Download, s.CID, musen.ErrNotFound)
	jazz.Epoch++
	must(t, h.Rows.UpdateStation(t.Context(), jazz))
	refused(t, e, link, policy.Listen, s.CID, musen.ErrNotFound)
	allowed(t, e, listen(t, h, jazz.ID), policy.Listen, s.CID)
}

// 64 streams at a time, of one segment and of many.
func TestManyStreams(t *testing.T) {
	h := testnet.New(t)
	o := h.Origin()
	station(t, o, "jazz")
	var sources [][]byte
	var cids []cid.Cid
	for i := range 8 {
		sources = append(sources, wav(byte(i), 300<<10+i))
		cids = append(cids, add(t, o, "jazz", sources[i]).CID)
	}
	opts := h.EdgeOptions()
	opts.MaxSegments = 4 // fewer than are played
	e, err := musen.NewEdge(opts)
	must(t, err)
	for _, of := range []int{1, len(cids)} {
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				stream, err := e.Open(context.Background(), policy.LocalOperator(), policy.Listen, cids[i%of])
				if err != nil {
					t.Error(err)
					return
				}
				var heard bytes.Buffer
				if _, err := stream.WriteRange(context.Background(), &heard, 0, stream.Size()); err != nil || !bytes.Equal(heard.Bytes(), sources[i%of]) {
					t.Errorf("%d bytes, %v", heard.Len(), err)
				}
			})
		}
		wg.Wait()
	}
}
