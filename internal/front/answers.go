package front

import (
	"net/http"
	"time"
)

// MaxStreams is how many requests an HTTP/2 connection may have under way.
// Each costs memory while its answer is not taken, and no player has so many.
const MaxStreams = 32

// HTTP2 bounds an HTTP/2 connection: its requests, and how long its client may
// take no byte of what is sent, be it of an answer or of the connection itself.
func HTTP2(write time.Duration) *http.HTTP2Config {
	return &http.HTTP2Config{MaxConcurrentStreams: MaxStreams, WriteByteTimeout: write}
}

const (
	maxAnswers = 1024
	answerTime = 5 * time.Second
)

// Answers bounds the short answers that wait for clients to take them: refusals
// above all, which anybody gets. A client of HTTP/2 that opens no window leaves
// each of its answers waiting, with all that the request holds.
type Answers struct{ places chan struct{} }

// NewAnswers has 1,024 answers wait at most.
func NewAnswers() *Answers { return &Answers{make(chan struct{}, maxAnswers)} }

// Send sends what a handler has written and has nothing to add to. The client
// has five seconds to take it. When too many wait already, the request is cut
// off instead: Send panics with http.ErrAbortHandler.
func (a *Answers) Send(w http.ResponseWriter) {
	select {
	case a.places <- struct{}{}:
	default:
		panic(http.ErrAbortHandler)
	}
	defer func() { <-a.places }()
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(answerTime)) // a recorder has none
	_ = control.Flush()                                      // a client that is gone needs no answer
}
