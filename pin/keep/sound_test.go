package keep

import (
	"errors"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/pin/member"
)

// hopeless breaks own copies in such a way that nobody can mend them.
func (w *world) hopeless(roots ...cid.Cid) {
	for _, root := range roots {
		w.spoil(root, "gone")
		w.set(func() { w.mendErr[root] = errors.New("no peer has it") })
		w.k.Found(root, errors.New("gone"))
	}
}

// putBack brings back by hand what was gone.
func (w *world) putBack(roots ...cid.Cid) {
	w.set(func() {
		for _, root := range roots {
			delete(w.broken, root)
			delete(w.mendErr, root)
		}
	})
}

func alone(x *Want) { x.Min, x.Max = 1, 1 }

// A copy that was found to be whole, after it was given up for hours, is proved
// at once.
func TestOwnCopyThatIsSoundAgain(t *testing.T) {
	story(t, func(w *world) {
		w.start()
		root, other := w.add(1, alone), w.add(2, alone)
		time.Sleep(time.Minute)
		w.hopeless(root, other)
		time.Sleep(5 * time.Hour)
		w.putBack(root)
		for _, root := range []cid.Cid{root, other, seg(77), cid.Undef} {
			w.k.Sound(root)
		}
		time.Sleep(time.Second)
		w.sound(root)
		if _, own := w.ownCopy(other); own.State != Failed {
			t.Errorf("taken to be whole because somebody says so: %+v", own)
		}
	})
}

// That it is whole is not forgotten if an attempt to mend it is under way which
// does not know it yet.
func TestOwnCopyThatIsSoundWhileItIsMended(t *testing.T) {
	story(t, func(w *world) {
		w.mends = 20 * time.Second
		w.start()
		root := w.add(1, alone)
		time.Sleep(time.Minute)
		w.hopeless(root)
		time.Sleep(10 * time.Second)
		w.putBack(root)
		w.k.Sound(root)
		time.Sleep(2*w.mends - 9*time.Second)
		w.sound(root)
	})
}

// After a restart an own copy that failed is looked at anew, however often that
// was in vain before.
func TestOwnCopyThatIsSoundAfterARestart(t *testing.T) {
	story(t, func(w *world) {
		w.start()
		root := w.add(1, alone)
		time.Sleep(time.Minute)
		w.hopeless(root)
		time.Sleep(5 * time.Hour)
		w.stop()
		w.putBack(root)
		w.start()
		time.Sleep(time.Second)
		w.sound(root)
	})
}

// A peer that comes back while another one is asked in vain is asked next.
func TestOwnCopyIsMendedByWhoComesLater(t *testing.T) {
	story(t, func(w *world) {
		w.mends = 20 * time.Second
		a := w.join(1, member.Storage, "")
		b := w.join(2, member.Storage, "")
		w.start()
		time.Sleep(time.Second)
		root := w.add(1)
		time.Sleep(time.Minute)
		w.leave(a)
		w.leave(b)
		w.hopeless(root)
		time.Sleep(time.Hour)
		w.arrive(a) // it has lost its copy
		time.Sleep(5 * time.Second)
		w.arrive(b)
		time.AfterFunc(w.mends-6*time.Second, func() { w.putBack(root) }) // what began before b came is in vain
		w.set(func() { w.mendErr[root] = errors.New("no peer has it") })
		time.Sleep(2*w.mends + time.Second)
		w.whole(root, time.Second)
	})
}
