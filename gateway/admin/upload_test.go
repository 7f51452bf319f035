package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/client"
)

// nothingLeft fails the test if uploads that failed left anything.
func (w *world) nothingLeft(live int) {
	w.t.Helper()
	if n, _ := w.Count(w.t.Context()); n != live || w.left() != 0 {
		w.t.Errorf("%d segments live, %d left behind; want %d and none", n, w.left(), live)
	}
}

// A body that is too long is refused before it is sent, or as soon as it is.
func TestUploadTooLong(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	const head = "POST /api/v1/stations/jazz/segments HTTP/1.1\r\nHost: x\r\nContent-Type: audio/wav\r\n"
	_, r := w.raw(fmt.Sprintf(head+"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n", maxSegment+1))
	if status, p := answer(t, r); status != 413 || p.Code != "too_large" { // and not 100 first
		t.Errorf("announced: %d %s", status, p.Code)
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the connection stays open: %v", err)
	}
	read := &counting{Reader: bytes.NewReader(make([]byte, 20*maxSegment))}
	_, err := w.local.Add(t.Context(), "jazz", client.Upload{Audio: read, Size: 20 * maxSegment})
	refused(t, err, 413, "too_large")
	if read.n != 0 {
		t.Errorf("the client sent %d bytes that nobody wanted", read.n)
	}
	read = &counting{Reader: io.MultiReader(bytes.NewReader(wav("long", 3000)), endless{})}
	_, err = w.local.Add(t.Context(), "jazz", client.Upload{Audio: read})
	refused(t, err, 413, "too_large")
	if read.n > 3*maxSegment {
		t.Errorf("%d bytes were read of an endless upload", read.n)
	}
	w.nothingLeft(0)
	body := wav("fits", maxSegment-44)
	if _, err = w.local.Add(t.Context(), "jazz", client.Upload{Audio: bytes.NewReader(body)}); err != nil {
		t.Errorf("an upload of exactly the limit: %v", err)
	}
}

type counting struct {
	io.Reader
	n int
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// Leave to send is given to a good request, once.
func TestUploadExpectContinue(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	audio := wav("one", 5000)
	conn, r := w.raw(fmt.Sprintf("POST /api/v1/stations/jazz/segments?title=One HTTP/1.1\r\nHost: x\r\n"+
		"Content-Type: audio/wav\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(audio)))
	line, err := r.ReadString('\n')
	if must(t, err); line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("first answer %q", line)
	}
	_, err = r.ReadString('\n')
	must(t, err)
	_, err = conn.Write(audio)
	must(t, err)
	if status, _ := answer(t, r); status != 201 {
		t.Errorf("status %d", status)
	}
}

// An upload that is refused while it is being sent learns why.
func TestUploadRefusedInTheMiddle(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	w.full = true
	audio := wav("full", maxSegment/2)
	for range 30 {
		_, err := w.local.Add(t.Context(), "jazz", client.Upload{Audio: bytes.NewReader(audio), Size: int64(len(audio))})
		if refused, ok := errors.AsType[*client.Error](err); !ok || refused.Status != 507 {
			t.Fatalf("on a full disk: %v", err)
		}
	}
}

// H34: whatever ends an upload early, nothing of it is left.
func TestUploadCut(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	audio := wav("cut", 400_000)
	const head = "POST /api/v1/stations/jazz/segments HTTP/1.1\r\nHost: x\r\nContent-Type: audio/wav\r\n"
	type closeWriter interface{ CloseWrite() error }
	for name, body := range map[string]string{
		"length":  fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(audio), audio[:300_000]),
		"chunked": fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", 300_000, audio[:300_000]),
		"chunk":   "Transfer-Encoding: chunked\r\n\r\nzz\r\nrubbish",
	} {
		conn, r := w.raw(head + body)
		must(t, conn.(closeWriter).CloseWrite())
		if status, p := answer(t, r); status != 400 || p.Code != "upload_cut" {
			t.Errorf("%s: %d %s", name, status, p.Code)
		}
		w.nothingLeft(0)
	}
	broken := errors.New("the disk of the client broke")
	_, err := w.local.Add(t.Context(), "jazz", client.Upload{Audio: io.MultiReader(bytes.NewReader(audio), &failingReader{broken})})
	if !errors.Is(err, broken) {
		t.Errorf("a reader that fails: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = w.local.Add(ctx, "jazz", client.Upload{Audio: io.MultiReader(bytes.NewReader(audio), &cancelling{cancel})})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who gives up: %v", err)
	}
	must(t, w.server.Shutdown(t.Context())) // waits for the handlers
	w.nothingLeft(0)
}

type failingReader struct{ err error }

func (f *failingReader) Read([]byte) (int, error) { return 0, f.err }

type cancelling struct{ cancel func() }

func (c *cancelling) Read(p []byte) (int, error) {
	c.cancel()
	return len(p), nil
}

// H40: a body that stops arriving, or drips, is cut in the documented time.
func TestUploadStalls(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Limits.UploadStall = 200 * time.Millisecond })
	w.station("jazz")
	audio := wav("slow", 100_000)
	const head = "POST /api/v1/stations/jazz/segments HTTP/1.1\r\nHost: x\r\nContent-Type: audio/wav\r\n"
	_, r := w.raw(head + "Content-Length: 100044\r\n\r\n" + string(audio[:50_000]))
	if status, p := answer(t, r); status != 408 || p.Code != "upload_stalled" {
		t.Errorf("stalled: %d %s", status, p.Code)
	}
	conn, r := w.raw(head + "Transfer-Encoding: chunked\r\n\r\n")
	dripping := make(chan struct{})
	go func() { // ends when the server has had enough
		defer close(dripping)
		for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
			if _, err := io.WriteString(conn, "1\r\nR\r\n"); err != nil {
				tick.Stop()
				return
			}
		}
	}()
	if status, p := answer(t, r); status != 408 || p.Code != "upload_stalled" {
		t.Errorf("dripping: %d %s", status, p.Code)
	}
	<-dripping
	w.nothingLeft(0)
}

// slowOrigin takes longer to add than a body may stall.
type slowOrigin struct {
	Origin
	took time.Duration
}

func (s slowOrigin) Add(ctx context.Context, req musen.AddRequest, audio io.Reader) (musen.Segment, bool, error) {
	segment, existing, err := s.Origin.Add(ctx, req, audio)
	select { // the fsync of a busy disk
	case <-ctx.Done():
		return segment, existing, ctx.Err()
	case <-time.After(s.took):
		return segment, existing, err
	}
}

// The limits on a body end with it: a slow disk is no stalled upload.
func TestDeadlineEndsWithTheBody(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		o.Limits.UploadStall = time.Second
		o.Origin = slowOrigin{o.Origin, 1200 * time.Millisecond}
	})
	w.station("jazz")
	w.segment("jazz", "one")
}

func TestUploadRefusals(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	good := string(wav("good", 3000))
	for name, c := range map[string]struct {
		query  string
		header http.Header
		body   string
		status int
		code   string
	}{
		"no audio":         {"", nil, strings.Repeat("hello world ", 500), 415, "not_audio"},
		"empty":            {"", nil, "", 415, "not_audio"},
		"type":             {"", http.Header{"Content-Type": {"text/plain"}}, good, 415, "unsupported_media_type"},
		"no type":          {"", http.Header{"Content-Type": nil}, good, 415, "unsupported_media_type"},
		"form":             {"", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, good, 415, "unsupported_media_type"},
		"gzip":             {"", http.Header{"Content-Encoding": {"gzip"}}, good, 415, "content_encoding"},
		"title":            {"title=a%0d%0ab", nil, good, 400, "bad_parameter"},
		"title is no text": {"title=%ff", nil, good, 400, "bad_parameter"},
		"long artist":      {"artist=" + strings.Repeat("a", 1001), nil, good, 400, "bad_parameter"},
		"file name":        {"filename=a%00b", nil, good, 400, "bad_parameter"},
		"line separator":   {"title=a%E2%80%A8b", nil, good, 400, "bad_parameter"},
		"direction":        {"title=a%E2%80%AEb", nil, good, 400, "bad_parameter"},
		"isolate":          {"artist=a%E2%81%A7b", nil, good, 400, "bad_parameter"},
		"byte order mark":  {"artist=a%EF%BB%BFb", nil, good, 400, "bad_parameter"},
		"flag":             {"again=1", nil, good, 400, "bad_parameter"},
		"time":             {"publish_at=tomorrow", nil, good, 400, "bad_parameter"},
		"old time":         {"expires_at=1969-01-01T00:00:00Z", nil, good, 400, "bad_parameter"},
		"times":            {"publish_at=2027-01-02T00:00:00Z&expires_at=2027-01-01T00:00:00Z", nil, good, 400, "bad_parameter"},
		"parameter":        {"titel=x", nil, good, 400, "unknown_parameter"},
		"title twice":      {"title=a&title=b", nil, good, 400, "bad_parameter"},
		"empty key":        {"", http.Header{"Idempotency-Key": {""}}, good, 400, "idempotency_key_malformed"},
		"long key":         {"", http.Header{"Idempotency-Key": {strings.Repeat("k", 256)}}, good, 400, "idempotency_key_malformed"},
		"key with a space": {"", http.Header{"Idempotency-Key": {"a b"}}, good, 400, "idempotency_key_malformed"},
		"two keys":         {"", http.Header{"Idempotency-Key": {"a", "b"}}, good, 400, "idempotency_key_malformed"},
	} {
		req := newRequest(t, http.MethodPost, "http://socket/api/v1/stations/jazz/segments?"+c.query, c.body)
		req.Header.Set("Content-Type", "audio/wav")
		for k, v := range c.header {
			req.Header[k] = v
		}
		if status, p := w.do(req); status != c.status || p.Code != c.code {
			t.Errorf("%s: %d %s, want %d %s", name, status, p.Code, c.status, c.code)
		}
		w.nothingLeft(0)
	}
	if strings.Contains(w.log.String(), "1969-01") {
		t.Error("what a caller sent is in the log")
	}
	named, err := w.local.Add(t.Context(), "jazz", client.Upload{Audio: strings.NewReader(good), Filename: "a\u200fb.wav"})
	if must(t, err); named.Title != "ab" {
		t.Errorf("title of a file with a mark in its name: %q", named.Title)
	}
	w.full = true
	_, err = w.local.Add(t.Context(), "jazz", client.Upload{Audio: bytes.NewReader(wav("better", 3000))})
	refused(t, err, 507, "no_space")
	w.full = false
	w.nothingLeft(1)
}

func TestIdempotencyKey(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	w.station("jazz")
	w.station("rock")
	up := client.Upload{Title: "One", Again: true, IdempotencyKey: "4c1b8a1e"}
	add := func(c *client.Client, station string, audio []byte, up client.Upload) (string, bool, error) {
		up.Audio = bytes.NewReader(audio)
		a, err := c.Add(ctx, station, up)
		return a.CID, a.Existing, err
	}
	one, two := wav("one", 3000), wav("two", 3000)
	first, existing, err := add(w.local, "jazz", one, up)
	if must(t, err); existing {
		t.Error("the first upload was there already")
	}
	repeated, existing, err := add(w.local, "jazz", one, up)
	if must(t, err); repeated != first || existing {
		t.Errorf("repeated: %s %t, want %s", repeated, existing, first)
	}
	other := up
	other.Title = "Two"
	for name, c := range map[string]struct {
		station string
		audio   []byte
		up      client.Upload
	}{"audio": {"jazz", two, up}, "title": {"jazz", one, other}, "station": {"rock", one, up}} {
		_, _, err = add(w.local, c.station, c.audio, c.up)
		t.Log(name)
		refused(t, err, 422, "idempotency_key_reused")
	}
	w.nothingLeft(1)

	stranger := w.remote(w.token(nil, "add"))
	own, _, err := add(stranger, "jazz", two, up)
	if must(t, err); own == first {
		t.Error("keys of two callers are one")
	}
	w.clock.Store(25 * 3600)
	late, _, err := add(w.local, "jazz", one, up)
	if must(t, err); late == first {
		t.Error("the key is remembered for ever")
	}
	for id, r := range w.receipts {
		if bytes.Contains(append([]byte(id), r.response...), []byte("One")) {
			t.Error("the receipt tells the title")
		}
	}
}

// Two uploads with one key at the same time are not two segments.
func TestIdempotencyKeyInUse(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	audio := wav("one", 200_000)
	pr, pw := io.Pipe()
	up := client.Upload{Again: true, IdempotencyKey: "k"}
	var wg sync.WaitGroup
	wg.Go(func() {
		first := up
		first.Audio = pr
		_, err := w.local.Add(t.Context(), "jazz", first)
		noError(t, err)
	})
	_, err := pw.Write(audio[:100_000]) // returns once the node has begun to read
	must(t, err)
	second := up
	second.Audio = bytes.NewReader(audio)
	_, err = w.local.Add(t.Context(), "jazz", second)
	refused(t, err, 409, "idempotency_in_progress")
	_, err = pw.Write(audio[100_000:])
	must(t, err)
	must(t, pw.Close())
	wg.Wait()
	w.nothingLeft(1)
}

// An upload that was answered for a segment that is gone is not added again.
func TestIdempotencyKeyOfRemovedSegment(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	up := client.Upload{IdempotencyKey: "k"}
	up.Audio = bytes.NewReader(wav("one", 3000))
	a, err := w.local.Add(t.Context(), "jazz", up)
	must(t, err)
	id, err := parseCID(a.CID)
	must(t, err)
	must(t, w.local.RemoveSegment(t.Context(), id))
	up.Audio = bytes.NewReader(wav("one", 3000))
	_, err = w.local.Add(t.Context(), "jazz", up)
	refused(t, err, 410, "gone")
	w.nothingLeft(0)
}
