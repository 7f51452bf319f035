package front

import (
	"bytes"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A client that takes no byte of its answers has a few of them wait, and its
// other requests are cut off; when it takes them after all, it gets them.
func TestAnswersThatAreNotTaken(t *testing.T) {
	answers := &Answers{make(chan struct{}, 2)}
	handled := make(chan struct{}, 4)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("no"))
		defer func() { handled <- struct{}{} }()
		answers.Send(w)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	c, err := tls.Dial("tcp", s.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f := open(t, c)
	for id := uint32(1); id <= 5; id += 2 {
		ask(t, f, id)
		if id < 5 {
			awaitHeaders(t, f, id)
		}
	}
	if id := awaitReset(t, f); id != 5 {
		t.Fatalf("stream %d was cut off", id)
	}
	<-handled
	for id := uint32(1); id <= 3; id += 2 {
		if err := f.WriteWindowUpdate(id, 100); err != nil {
			t.Fatal(err)
		}
		awaitData(t, f, id)
		<-handled
	}
	ask(t, f, 7)
	awaitHeaders(t, f, 7)
	if err := f.WriteWindowUpdate(7, 100); err != nil {
		t.Fatal(err)
	}
	awaitData(t, f, 7)
	<-handled
}

// open begins an HTTP/2 connection on which streams have no window.
func open(t *testing.T, c *tls.Conn) *http2.Framer {
	t.Helper()
	if _, err := c.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(c, c)
	if err := f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
		t.Fatal(err)
	}
	return f
}

// ask sends a request.
func ask(t *testing.T, f *http2.Framer, id uint32) {
	t.Helper()
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "x"}, {":path", "/"}} {
		if err := e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			t.Fatal(err)
		}
	}
	err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	if err != nil {
		t.Fatal(err)
	}
}

// next reads the next frame that is about a stream.
func next(t *testing.T, f *http2.Framer) http2.Frame {
	t.Helper()
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if frame.Header().StreamID != 0 {
			return frame
		}
	}
}

func awaitHeaders(t *testing.T, f *http2.Framer, id uint32) {
	t.Helper()
	if h, ok := next(t, f).(*http2.HeadersFrame); !ok || h.StreamID != id {
		t.Fatalf("no headers of stream %d", id)
	}
}

func awaitReset(t *testing.T, f *http2.Framer) uint32 {
	t.Helper()
	r, ok := next(t, f).(*http2.RSTStreamFrame)
	if !ok {
		t.Fatal("no stream was cut off")
	}
	return r.StreamID
}

// awaitData reads an answer to its end.
func awaitData(t *testing.T, f *http2.Framer, id uint32) {
	t.Helper()
	var body []byte
	for {
		d, ok := next(t, f).(*http2.DataFrame)
		if !ok || d.StreamID != id {
			t.Fatalf("no answer on stream %d", id)
		}
		if body = append(body, d.Data()...); d.StreamEnded() {
			break
		}
	}
	if string(body) != "no" {
		t.Errorf("answer %q", body)
	}
}
