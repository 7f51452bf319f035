package policy

import (
	"context"
	"fmt"
	"time"
)

// maxFresh bounds the wait of Fresh, in seconds: clocks of a fleet may differ.
const maxFresh = 5

// Fresh waits, while what is issued to a subject now would be taken for what
// was revoked before: revoking a subject holds to the end of that second, and
// credentials know no finer time. It ends with ctx; a wait that would be too long is
// a *RequestError.
func (v *Verifier) Fresh(ctx context.Context, subject string) error {
	for range maxFresh {
		now := v.o.Now()
		second := now.Truncate(time.Second)
		if !v.o.Revocations.Revoked("", subject, second) {
			return nil
		}
		select {
		case <-v.o.After(second.Add(time.Second).Sub(now)):
		case <-ctx.Done():
			return fmt.Errorf("wait until a subject was revoked: %w", ctx.Err())
		}
	}
	return reject("the subject is revoked for longer than a moment: look at the clocks of the nodes")
}
