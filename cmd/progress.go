package cmd

import (
	"io"
	"os"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
	"golang.org/x/term"
)

// bars shows progress on a terminal; on anything else it shows nothing.
type bars struct {
	writer progress.Writer
}

// newBars starts to show progress on w if that is a terminal. Close it before
// anything else is written there.
func newBars(w io.Writer) *bars {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &bars{}
	}
	p := progress.NewWriter()
	p.SetOutputWriter(w)
	p.SetUpdateFrequency(100 * time.Millisecond)
	p.SetStyle(progress.StyleBlocks)
	p.SetTrackerLength(25)
	p.SetMessageLength(32)
	p.Style().Visibility.TrackerOverall = false
	go p.Render()
	return &bars{writer: p}
}

// bar is the progress of one transfer; a nil bar shows nothing.
type bar struct{ tracker *progress.Tracker }

// add shows another transfer; total 0 means that its length is not known.
func (b *bars) add(name string, total int64) *bar {
	if b.writer == nil {
		return &bar{}
	}
	t := &progress.Tracker{Message: printable(name), Total: total, Units: progress.UnitsBytes}
	b.writer.AppendTracker(t)
	return &bar{tracker: t}
}

func (b *bar) set(done, total int64) {
	if b.tracker == nil {
		return
	}
	if total > 0 {
		b.tracker.UpdateTotal(total)
	}
	b.tracker.SetValue(done)
}

// end closes one transfer.
func (b *bar) end(err error) {
	switch {
	case b.tracker == nil:
	case err != nil:
		b.tracker.MarkAsErrored()
	default:
		b.tracker.MarkAsDone()
	}
}

// close draws what is left to draw.
func (b *bars) close() {
	if b.writer == nil {
		return
	}
	b.writer.Stop()
	for b.writer.IsRenderInProgress() {
		time.Sleep(10 * time.Millisecond)
	}
}

// countingReader tells a bar how much of r was read.
type countingReader struct {
	r     io.Reader
	done  int64
	total int64
	bar   *bar
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.done += int64(n)
	c.bar.set(c.done, c.total)
	return n, err
}
