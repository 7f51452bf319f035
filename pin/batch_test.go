package pin

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	capi "github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs/go-cid"
)

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Changes wait no longer than their age, and together.
func TestBatchHasAnAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sizes := make(chan int, 10)
		b := newBatch(100, time.Second, quietLog(), func(m map[cid.Cid]change) error {
			sizes <- len(m)
			return nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		go b.run(ctx)
		for i := range 5 {
			if err := b.put(rootN(t, "age", i), change{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		if len(sizes) != 0 {
			t.Fatalf("committed %d early", <-sizes)
		}
		if n := <-sizes; n != 5 {
			t.Fatalf("committed %d, want all five at once", n)
		}
		cancel()
		synctest.Wait()
	})
}

// A full batch is committed by who fills it.
func TestBatchHasASize(t *testing.T) {
	var sizes []int
	b := newBatch(3, time.Hour, quietLog(), func(m map[cid.Cid]change) error {
		sizes = append(sizes, len(m))
		return nil
	})
	for i := range 7 {
		if err := b.put(rootN(t, "size", i), change{}); err != nil {
			t.Fatal(err)
		}
	}
	if len(sizes) != 2 || sizes[0] != 3 || sizes[1] != 3 {
		t.Errorf("committed %v", sizes)
	}
}

// What could not be committed waits on, is seen, and gives way to what is newer.
func TestBatchKeepsWhatFailed(t *testing.T) {
	fail := errors.New("disk full")
	var got map[cid.Cid]change
	var b *batch
	one, two := rootN(t, "keep", 1), rootN(t, "keep", 2)
	old, anew := &capi.Pin{Type: 1}, &capi.Pin{Type: 2}
	b = newBatch(100, time.Hour, quietLog(), func(m map[cid.Cid]change) error {
		if fail != nil {
			if c, ok := b.get(two); !ok || c.pin != old {
				t.Error("not seen while it is committed")
			}
			return errors.Join(fail, b.put(one, change{anew}))
		}
		got = maps.Clone(m)
		return nil
	})
	if err := errors.Join(b.put(one, change{old}), b.put(two, change{old})); err != nil {
		t.Fatal(err)
	}
	if err := b.flush(); !errors.Is(err, fail) {
		t.Fatalf("flush says %v", err)
	}
	fail = nil
	if err := b.flush(); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[one].pin != anew || got[two].pin != old {
		t.Errorf("committed %v", got)
	}
	if _, ok := b.get(one); ok {
		t.Error("still waiting after the commit")
	}
}
