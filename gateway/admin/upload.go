package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"

	"github.com/gin-gonic/gin"
	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire"
)

// uploadParameters are what an upload may tell of its audio.
func uploadParameters() []string {
	return []string{"title", "artist", "filename", "ai_generated", "again", "publish_at", "expires_at", "wait", "wait_timeout"}
}

// upload adds the audio that is the body of the request. Nothing of the body
// is read, and no leave to send it given, before all else has been checked.
func (s *Server) upload(c *gin.Context, in call) error {
	if err := checkBodyType(c.Request, isAudio, errAudioType); err != nil {
		return err
	}
	req, w, err := addRequest(c, in.station)
	if err != nil {
		return err
	}
	if w.level == replicated || w.level == durable {
		if _, err := partOf(s.Copies); err != nil {
			return err
		}
	}
	in.waiting = w
	key, err := idempotencyKey(c.Request, in)
	if err != nil {
		return err
	}
	if c.Request.ContentLength > s.MaxSegment {
		return s.tooLong()
	}
	body := &uploadBody{
		server: s, gin: c, body: http.MaxBytesReader(c.Writer, c.Request.Body, s.MaxSegment), digest: s.requestDigest(req, key),
	}
	if key == "" {
		return s.add(c, in, req, body)
	}
	if _, running := s.busy.LoadOrStore(key, true); running {
		return errKeyBusy
	}
	defer s.busy.Delete(key)
	return s.addOnce(c, in, req, body, key)
}

// addRequest reads what an upload tells of its audio.
func addRequest(c *gin.Context, station musen.Station) (musen.AddRequest, waiting, error) {
	p := parameters{values: c.Request.URL.Query()}
	req := musen.AddRequest{
		Station: station.ID, Title: p.text("title"), Artist: p.text("artist"), Filename: p.fileName("filename"),
		AIGenerated: p.flag("ai_generated"), Again: p.flag("again"),
		PublishAt: p.moment("publish_at"), ExpiresAt: p.moment("expires_at"),
	}
	if !req.ExpiresAt.IsZero() && !req.ExpiresAt.After(req.PublishAt) {
		p.fail("expires_at", "is not later than publish_at")
	}
	return req, p.waiting(), p.err
}

// idempotencyKey is the key that a request is known by, apart from those of
// every other caller; empty if it has none.
func idempotencyKey(r *http.Request, in call) (string, error) {
	values := r.Header.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", nil
	}
	key := values[0]
	if len(values) > 1 || key == "" || len(key) > 255 {
		return "", errKey
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return "", errKey
		}
	}
	return in.grant.Kind() + "\x00" + in.grant.Subject() + "\x00" + key, nil
}

// requestDigest is a hash of all that a request says besides its body, which
// is to follow; nil for a request that need not be recognised.
func (s *Server) requestDigest(req musen.AddRequest, key string) hash.Hash {
	if key == "" {
		return nil
	}
	h := s.Digest()
	fmt.Fprintf(h, "upload %q %q %q %q %t %t %d %d\n", req.Station, req.Title, req.Artist, req.Filename,
		req.AIGenerated, req.Again, req.PublishAt.Unix(), req.ExpiresAt.Unix())
	return h
}

// add adds the audio and answers with the segment.
func (s *Server) add(c *gin.Context, in call, req musen.AddRequest, body *uploadBody) error {
	added, err := s.addAudio(c.Request.Context(), req, body)
	if err != nil {
		return err
	}
	return s.answerAdded(c, in, added)
}

// addAudio adds the audio, and blames the body for what is the body's fault.
func (s *Server) addAudio(ctx context.Context, req musen.AddRequest, body *uploadBody) (receipt, error) {
	segment, existing, err := s.Origin.Add(ctx, req, body)
	if err == nil {
		return receipt{CID: segment.CID, Existing: existing, segment: segment}, nil
	}
	switch {
	case body.err != nil:
		err = body.err
	case errors.Is(err, musen.ErrTooLarge):
		err = s.tooLong()
	case errors.Is(err, musen.ErrNotAudio):
		err = errNotAudio
	}
	return receipt{}, err
}

// blame says what is wrong with a body that could not be read to its end.
func (s *Server) blame(err error) error {
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return s.tooLong()
	}
	return cutOff(err)
}

// cutOff says why a body did not come whole.
func cutOff(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errStalled
	}
	return errCut
}

func (s *Server) tooLong() error {
	return errUploadTooLong.with("The audio is longer than %d bytes; nothing of it was kept.", s.MaxSegment)
}

// answerAdded answers with a segment that is durable here, once it has reached
// the level that the caller waits for or the time for that is over.
func (s *Server) answerAdded(c *gin.Context, in call, r receipt) error {
	status := http.StatusCreated
	if r.Existing {
		status = http.StatusOK
	}
	added := wire.Added{Segment: wire.FromSegment(r.segment, in.station), Existing: r.Existing}
	if in.waiting.level != "" {
		added.Level, added.Reason = s.reached(c.Request.Context(), r.segment.CID, in.waiting)
	}
	in.about("segment %v of station %s", r.CID, in.station.ID)
	c.Header("Location", prefix+"/segments/"+r.CID.String())
	return s.answer(c, status, added)
}

// reached waits as w says, and tells the level that was reached, and what keeps
// it from being better. It does not fail: the segment was added.
func (s *Server) reached(ctx context.Context, root cid.Cid, w waiting) (level, reason string) {
	if s.Copies == nil {
		return stored, ""
	}
	h, err := s.await(ctx, s.Copies, root, w)
	if err != nil {
		s.Log.WarnContext(ctx, "copies of an added segment not known", "cid", root.String(), "err", err)
		return stored, "its copies are not known now"
	}
	return h.Level, h.Reason
}

// A receipt is what is remembered of an upload with an idempotency key.
type receipt struct {
	CID      cid.Cid `json:"cid"`
	Existing bool    `json:"existing"`
	segment  musen.Segment
}

// addOnce adds audio, unless the same upload was answered before: then the
// answer is the same again.
func (s *Server) addOnce(c *gin.Context, in call, req musen.AddRequest, body *uploadBody, key string) error {
	ctx := c.Request.Context()
	// No request has an empty digest: this only asks whether the key is known.
	_, _, err := s.Receipts.Idempotent(ctx, key, nil)
	if errors.Is(err, musen.ErrInvalid) {
		return s.repeat(c, in, body, key)
	}
	if err != nil {
		return err
	}
	added, err := s.addAudio(ctx, req, body)
	if err != nil {
		return err
	}
	if err := s.remember(ctx, key, body.digest.Sum(nil), added); err != nil {
		// The segment is durable, so the caller must hear of it.
		s.Log.ErrorContext(ctx, "idempotency key not recorded", "segment", added.segment.ID, "err", err)
	}
	return s.answerAdded(c, in, added)
}

func (s *Server) remember(ctx context.Context, key string, digest []byte, r receipt) error {
	kept, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return s.Receipts.PutIdempotent(context.WithoutCancel(ctx), key, digest, kept, s.Now().Add(s.Limits.ReceiptTTL))
}

// repeat answers an upload whose key is known. The body is read to its end,
// and compared, but not kept.
func (s *Server) repeat(c *gin.Context, in call, body *uploadBody, key string) error {
	if _, err := io.Copy(io.Discard, body); err != nil {
		return err
	}
	ctx := c.Request.Context()
	kept, found, err := s.Receipts.Idempotent(ctx, key, body.digest.Sum(nil))
	switch {
	case errors.Is(err, musen.ErrInvalid):
		return errKeyReused
	case err != nil:
		return err
	case !found: // it expired a moment ago
		return errKeyBusy
	}
	var r receipt
	if err := json.Unmarshal(kept, &r); err != nil {
		return fmt.Errorf("read the receipt of an upload: %w", err)
	}
	if r.segment, err = s.Segments.Segment(ctx, r.CID.Hash()); err != nil {
		return err
	}
	if r.segment.State != musen.Live {
		return musen.ErrGone
	}
	return s.answerAdded(c, in, r)
}

// minProgress is how many bytes of an upload must come within the stall limit.
const minProgress = 4 << 10

// uploadBody is the body of an upload: limited, hashed if need be, and cut when
// it all but stops arriving.
type uploadBody struct {
	server *Server
	gin    *gin.Context
	body   io.Reader
	digest hash.Hash // nil: none wanted
	left   int       // bytes until the deadline is put off
	err    error     // the refusal that ended it
}

// Read reads on. A body that does not come whole ends with a refusal, never with
// an io.ErrUnexpectedEOF that some reader further on takes for an end.
func (b *uploadBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.left <= 0 {
		b.left = minProgress
		b.server.setReadDeadline(b.gin, b.server.Limits.UploadStall)
	}
	n, err := b.body.Read(p)
	b.left -= n
	if b.digest != nil {
		b.digest.Write(p[:n])
	}
	switch err {
	case nil:
		return n, nil
	case io.EOF:
		// The deadline was the body's: without this it would end the request.
		b.server.setReadDeadline(b.gin, 0)
		return n, io.EOF
	}
	b.err = b.server.blame(err)
	return n, b.err
}
