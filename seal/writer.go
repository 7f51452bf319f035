package seal

import (
	"errors"
	"fmt"
	"io"

	"github.com/tink-crypto/tink-go/v2/streamingaead/subtle"
)

var errClosed = errors.New("write to a closed seal")

var _ io.WriteCloser = (*writer)(nil)

// NewWriter seals what is written to it under key and associated data and
// passes it on to w: the header at once, then chunk by chunk. Close seals the
// last chunk and does not close w. Sealed bytes without that Close open
// nowhere as a whole, so audio that ends early must not be closed.
//
// The first error is final: every later Write and Close returns it and writes
// nothing, so that no failure leaves a well-formed shorter segment and no
// nonce is used twice.
func NewWriter(w io.Writer, key, ad []byte) (io.WriteCloser, error) {
	if err := checkKey(key); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	aead, err := subtle.NewAESGCMHKDF(key, "SHA256", 32, ChunkSize, 0)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	tink, err := aead.NewEncryptingWriter(w, ad)
	if err != nil {
		return nil, fmt.Errorf("seal the header: %w", err)
	}
	return &writer{tink: tink}, nil
}

// writer makes the errors of Tink's writer final, which retries after them.
type writer struct {
	tink io.WriteCloser
	err  error
}

func (w *writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.tink.Write(p)
	if err != nil {
		w.err = fmt.Errorf("seal: %w", err)
	}
	return n, w.err
}

func (w *writer) Close() error {
	switch {
	case errors.Is(w.err, errClosed):
		return nil
	case w.err != nil:
		return w.err
	}
	if err := w.tink.Close(); err != nil {
		w.err = fmt.Errorf("seal the last chunk: %w", err)
		return w.err
	}
	w.err = errClosed
	return nil
}
