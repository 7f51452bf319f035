package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/front"
	"github.com/musenai/musen/policy"
)

// patience bounds what a test waits for; what is waited for comes long before.
const patience = time.Minute

// A flooder is a client that writes the frames of HTTP/2 itself.
type flooder struct {
	*http2.Framer
	t     *testing.T
	conn  *tls.Conn
	end   time.Time // of patience
	block bytes.Buffer
	names *hpack.Encoder
}

// flood opens an HTTP/2 connection, on which it asks for those settings.
func (s *site) flood(t *testing.T, settings ...http2.Setting) *flooder {
	t.Helper()
	tcp, err := net.Dial("tcp", s.addr)
	check(t, err)
	return begin(t, tcp, settings...)
}

// begin begins HTTP/2 on a connection.
func begin(t *testing.T, on net.Conn, settings ...http2.Setting) *flooder {
	t.Helper()
	conn := tls.Client(on, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	f := &flooder{Framer: http2.NewFramer(conn, conn), t: t, conn: conn, end: time.Now().Add(patience)}
	f.names = hpack.NewEncoder(&f.block)
	t.Cleanup(func() { _ = on.Close() })
	check(t, conn.SetDeadline(f.end))
	_, err := conn.Write([]byte(http2.ClientPreface))
	check(t, err)
	check(t, f.WriteSettings(settings...))
	return f
}

// header is the block of a GET with more fields, given as name, value pairs.
func (f *flooder) header(path string, fields ...string) []byte {
	f.t.Helper()
	f.block.Reset()
	fields = append([]string{":method", "GET", ":scheme", "https", ":authority", "x", ":path", path}, fields...)
	for i := 0; i < len(fields); i += 2 {
		check(f.t, f.names.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	return bytes.Clone(f.block.Bytes())
}

// get asks on a stream, and tells whether it could.
func (f *flooder) get(stream uint32, path string, fields ...string) error {
	return f.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: f.header(path, fields...), EndStream: true, EndHeaders: true,
	})
}

// closed reads until the server closes the connection, and returns why it said
// that it does.
func (f *flooder) closed() (code http2.ErrCode, said bool) {
	f.t.Helper()
	for {
		frame, err := f.ReadFrame()
		if wait, ok := errors.AsType[net.Error](err); ok && wait.Timeout() {
			f.t.Fatal("the connection stays open")
		}
		if err != nil {
			return code, said
		}
		if away, ok := frame.(*http2.GoAwayFrame); ok {
			code, said = away.ErrCode, true
		}
	}
}

// until writes until the server closes the connection, at most so often.
func (f *flooder) until(most int, write func(i int) error) {
	f.t.Helper()
	for i := range most {
		err := write(i)
		if wait, ok := errors.AsType[net.Error](err); ok && wait.Timeout() {
			f.t.Fatal("the connection stays open, and takes nothing")
		}
		if err != nil {
			return
		}
	}
	f.t.Errorf("the connection took all %d frames", most)
}

// plays fails the test unless a listener on another connection gets a song.
func (s *site) plays(t *testing.T, song musen.Segment, when string) {
	t.Helper()
	a := s.ask("GET", "/listen/"+song.CID.String(), "Authorization", "Bearer "+s.token())
	if a.err != nil || a.StatusCode != 200 || len(a.body) != int(song.Size) || a.ProtoMajor != 2 {
		t.Errorf("%s: status %d, %d bytes, %v", when, a.StatusCode, len(a.body), a.err)
	}
}

// A gate holds whoever opens one CID until it is released, and counts them.
type gate struct {
	Opener
	shut          cid.Cid
	release       chan struct{}
	waiting, most atomic.Int64
}

func (g *gate) Open(ctx context.Context, grant policy.Grant, a policy.Action, c cid.Cid) (Stream, error) {
	if c.Equals(g.shut) {
		n := g.waiting.Add(1)
		for m := g.most.Load(); n > m && !g.most.CompareAndSwap(m, n); m = g.most.Load() {
		}
		<-g.release
		g.waiting.Add(-1)
	}
	return g.Opener.Open(ctx, grant, a, c)
}

// H42: a client that asks and resets at once, over and over (CVE-2023-39325),
// has no more requests under way than a patient one, and is cut off.
func TestRapidReset(t *testing.T) {
	r := newRealm(t)
	song, slow := r.add(musen.Segment{}, audioOf(1000)), r.add(musen.Segment{}, audioOf(2000))
	gate := &gate{shut: slow.CID, release: make(chan struct{})}
	s := r.serve(func(o *Options) {
		o.CertFile, o.KeyFile = writeCertificate(t, t.TempDir(), "x")
		gate.Opener, o.Opener = o.Opener, gate
	})
	s.useTLS()
	free := sync.OnceFunc(func() { close(gate.release) })
	defer free()
	f, bearer := s.flood(t), "Bearer "+r.token()
	for id := uint32(1); id < 4000; id += 2 {
		if f.get(id, "/listen/"+slow.CID.String(), "authorization", bearer) != nil || f.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			break // it is cut off already
		}
	}
	if code, said := f.closed(); said && code != http2.ErrCodeEnhanceYourCalm {
		t.Errorf("closed for %v", code)
	}
	s.plays(t, song, "under rapid reset")
	if n := gate.most.Load(); n == 0 || n > front.MaxStreams {
		t.Errorf("%d requests were under way, want at most %d", n, front.MaxStreams)
	}
	free()
	s.plays(t, slow, "after rapid reset")
}

// H42: a header that goes on for ever (CVE-2023-45288) ends its connection,
// whether its pieces are large or empty.
func TestContinuationFlood(t *testing.T) {
	r := newRealm(t)
	song := r.add(musen.Segment{}, audioOf(1000))
	s := r.serveTLS(t.TempDir())
	open := func(f *flooder) {
		check(t, f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.header("/healthz")}))
	}
	f := s.flood(t)
	open(f)
	var piece bytes.Buffer
	e := hpack.NewEncoder(&piece)
	for range 100 {
		check(t, e.WriteField(hpack.HeaderField{Name: "x-a", Value: strings.Repeat("~", 100), Sensitive: true}))
	}
	f.until(10_000, func(int) error { return f.WriteContinuation(1, false, piece.Bytes()) })
	s.plays(t, song, "under a flood of CONTINUATION")

	impatient := r.serve(func(o *Options) {
		o.CertFile, o.KeyFile = writeCertificate(t, t.TempDir(), "impatient")
		o.Limits.IdleTimeout = 100 * time.Millisecond
	})
	f = impatient.flood(t)
	open(f)
	for f.WriteContinuation(1, false, nil) == nil { // until it is cut off, or patience ends
	}
	if time.Now().After(f.end) {
		t.Error("a header of empty pieces goes on for ever")
	}
	s.plays(t, song, "under empty CONTINUATION")
}

// H42: a client that opens no window has its streams, no more than anybody, for
// the time that it has to take a chunk; then they are cut off.
func TestZeroWindow(t *testing.T) {
	r := newRealm(t)
	song := r.add(musen.Segment{}, audioOf(300_000))
	s := r.serve(func(o *Options) {
		o.CertFile, o.KeyFile = writeCertificate(t, t.TempDir(), "x")
		o.Limits.WriteTimeout = 200 * time.Millisecond
	})
	s.useTLS()
	f, bearer := s.flood(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}), "Bearer "+r.token()
	const asked = 2 * front.MaxStreams
	for i := range uint32(asked) {
		check(t, f.get(2*i+1, "/listen/"+song.CID.String(), "authorization", bearer))
	}
	s.plays(t, song, "beside streams without a window")
	refused := 0
	for cut := map[uint32]bool{}; len(cut) < asked; {
		frame, err := f.ReadFrame()
		check(t, err)
		switch v := frame.(type) {
		case *http2.RSTStreamFrame:
			cut[v.StreamID] = true
			if v.ErrCode == http2.ErrCodeRefusedStream {
				refused++
			}
		case *http2.DataFrame:
			if len(v.Data()) > 0 {
				t.Fatalf("%d bytes without a window", len(v.Data()))
			}
		}
	}
	if refused == 0 {
		t.Errorf("all of %d streams were let in", asked)
	}
	s.plays(t, song, "after streams without a window")
}

// A pipes listener has connections that hold nothing: what one side writes the
// other has read.
type pipes struct {
	net.Listener // for its address
	dialled      chan net.Conn
	closed       chan struct{}
	once         sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.dialled:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.Listener.Close()
}

// pipes has a Server listen on pipes too.
func (s *site) pipes(t *testing.T) *pipes {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	p := &pipes{Listener: l, dialled: make(chan net.Conn), closed: make(chan struct{})}
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(p) }()
	s.t.Cleanup(func() {
		_ = p.Close()
		<-served // that the listener is closed
	})
	return p
}

// deaf opens an HTTP/2 connection of a client that reads no more.
func (p *pipes) deaf(t *testing.T) *flooder {
	t.Helper()
	client, server := net.Pipe()
	p.dialled <- server
	f := begin(t, client)
	_, err := f.ReadFrame()
	check(t, err)
	return f
}

// H42: settings, and all else that wants an answer, wait in a bounded number
// for a client that reads none, and not for ever.
func TestSettingsFlood(t *testing.T) {
	r := newRealm(t)
	song := r.add(musen.Segment{}, audioOf(1000))
	s := r.serveTLS(t.TempDir())
	f := s.flood(t)
	many := make([]http2.Setting, 10_000)
	for i := range many {
		many[i] = http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i)}
	}
	check(t, f.WriteSettings(many...))
	if code, said := f.closed(); said && code != http2.ErrCodeProtocol {
		t.Errorf("a frame of 10,000 settings: closed for %v", code)
	}
	s.plays(t, song, "after 10,000 settings")
	f = s.pipes(t).deaf(t)
	f.until(20_000, func(int) error { return f.WritePing(false, [8]byte{}) })
	s.plays(t, song, "after a flood of PING")
}

// H40, H42: a connection whose client takes nothing is closed in the time that
// there is to take a chunk, also when no request is under way on it.
func TestDeafConnectionIsClosed(t *testing.T) {
	r := newRealm(t)
	song := r.add(musen.Segment{}, audioOf(1000))
	s := r.serve(func(o *Options) {
		o.CertFile, o.KeyFile = writeCertificate(t, t.TempDir(), "x")
		o.Limits.WriteTimeout, o.Limits.IdleTimeout = 200*time.Millisecond, 200*time.Millisecond
	})
	s.useTLS()
	f := s.pipes(t).deaf(t)
	for n := 0; f.WriteSettings() == nil; n++ { // until it is cut off, or patience ends
		if n == 10_000 {
			s.plays(t, song, "beside 10,000 SETTINGS")
		}
	}
	if time.Now().After(f.end) {
		t.Error("the connection stays open")
	}
}

// H42: a header that is small on the wire and large when it is unpacked is
// refused, and one that goes on after that ends its connection.
func TestHeaderBomb(t *testing.T) {
	r := newRealm(t)
	song := r.add(musen.Segment{}, audioOf(1000))
	s := r.serveTLS(t.TempDir())
	f := s.flood(t)
	// 3,000 bytes go into the table once; each byte after that is all of them.
	bomb := append(f.header("/healthz", "x-a", strings.Repeat("a", 3000)), bytes.Repeat([]byte{0x80 | 62}, 12_000)...)
	check(t, f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: bomb, EndStream: true, EndHeaders: true}))
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		frame, err := f.ReadFrame()
		check(t, err)
		if h, ok := frame.(*http2.MetaHeadersFrame); ok {
			if v := h.PseudoValue("status"); v != "431" {
				t.Errorf("36 MB of header in 15 kB: status %s", v)
			}
			break
		}
	}
	s.plays(t, song, "after a header bomb")

	f = s.flood(t)
	check(t, f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.header("/healthz", "x-a", strings.Repeat("a", 3000))}))
	more := bytes.Repeat([]byte{0x80 | 62}, 16_000)
	f.until(10_000, func(int) error { return f.WriteContinuation(1, false, more) })
	s.plays(t, song, "after a header bomb that went on")
}
