package media

// A format reads the headers of one container.
type format interface {
	// step is shown exactly the bytes that it wanted, fewer only where the
	// stream ends, and says how far to go on from the first of them and how
	// many bytes it wants to see there. Wanting 0, it has seen enough. With
	// all that it wanted before it, a step either goes on or wants more.
	step(b []byte) (advance int64, want int)
	// info is asked once the stream has ended; size is its length in bytes,
	// counted from the first that the format was shown.
	info(size int64) Info
}

// keepHeld is the capacity that a walk keeps once a header has gone by.
const keepHeld = 16 << 10

// A walk leads a format along a stream and holds what a format wants to see
// in one piece. It holds no more than the format wanted and the stream had.
type walk struct {
	format format
	skip   int64 // bytes to go by before the next step
	want   int   // 0: the rest does not matter
	held   []byte
}

func (w *walk) write(b []byte) {
	for w.want > 0 {
		if len(w.held) >= w.want {
			w.advance(w.held[:w.want])
			continue
		}
		if w.skip >= int64(len(b)) {
			w.skip -= int64(len(b))
			return
		}
		b, w.skip = b[w.skip:], 0
		if len(w.held) > 0 || len(b) < w.want {
			n := min(w.want-len(w.held), len(b))
			w.held, b = append(w.held, b[:n]...), b[n:]
			continue
		}
		// The common case: the header lies whole in what was written.
		w.skip, w.want = w.format.step(b[:w.want])
	}
	w.held = nil
}

// advance makes one step on held bytes.
func (w *walk) advance(b []byte) (n int64) {
	n, w.want = w.format.step(b)
	if n < int64(len(w.held)) {
		w.held = w.held[n:]
		return n
	}
	w.skip = n - int64(len(w.held))
	w.held = w.held[:0]
	if cap(w.held) > keepHeld {
		w.held = nil
	}
	return n
}

// finish shows the format what is held, now that no more will come.
func (w *walk) finish() {
	const patience = 4 // steps on a short end that may change nothing but the format's mind
	for idle := 0; w.want > 0 && len(w.held) > 0 && idle < patience; {
		if w.advance(w.held[:min(w.want, len(w.held))]) == 0 {
			idle++
		} else {
			idle = 0
		}
	}
	w.want, w.held = 0, nil
}
