package problem

import (
	"context"
	"encoding/base32"
	"fmt"
	"io"
)

// requestIDKey is the key of the request id in a context.
type requestIDKey struct{}

// NewRequestID makes a request id of 96 bits read from rand: 20 characters of
// lower-case base32.
func NewRequestID(rand io.Reader) (string, error) {
	var b [12]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return "", fmt.Errorf("make a request id: %w", err)
	}
	const alphabet = "abcdefghijklmnopqrstuvwxyz234567"
	return base32.NewEncoding(alphabet).WithPadding(base32.NoPadding).EncodeToString(b[:]), nil
}

// WithRequestID returns ctx with the id of the request that it serves.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID returns the id of the request that ctx serves, or "".
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}
