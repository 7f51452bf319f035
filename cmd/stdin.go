package cmd

import (
	"context"
	"io"
)

// untilDone reads r until ctx ends. A read of a terminal or of a pipe that
// rests cannot be cut short, so a goroutine stays in it: what is left of it
// ends with the program.
func untilDone(ctx context.Context, r io.Reader) io.ReadCloser {
	out, in := io.Pipe()
	go func() {
		_, err := io.Copy(in, r)
		in.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { in.CloseWithError(ctx.Err()) })
	return out
}
