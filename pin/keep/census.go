package keep

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// A Count is how many segments a peer has, by state.
type Count struct {
	Ordered, Held, Proved, Failed int
	Last                          time.Time // when one was last proved; zero: never
}

// Census counts the copies of all peers. It looks at every segment.
func (k *Keeper) Census() map[peer.ID]Count {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := map[peer.ID]Count{}
	for _, s := range k.segments {
		for i := range s.slots {
			x := &s.slots[i]
			c := all[x.h.id]
			if last := at(x.proved); last.After(c.Last) {
				c.Last = last
			}
			switch x.stage.state() {
			case Ordered:
				c.Ordered++
			case Held:
				c.Held++
			case Proved:
				c.Proved++
			case Failed, Lost:
				c.Failed++
			}
			all[x.h.id] = c
		}
	}
	return all
}
