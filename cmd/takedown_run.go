package cmd

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog/ledger"
)

// openTakedowns opens what a home keeps of takedowns apart from its catalogue.
func openTakedowns(home string) (*ledger.Ledger, error) {
	l, err := ledger.Open(filepath.Join(home, takedownsFile))
	if err != nil {
		return nil, damagedTakedowns(err)
	}
	return l, nil
}

func damagedTakedowns(err error) error {
	return &failure{exit: exitDamaged, code: "takedowns", cause: fmt.Errorf("read what was taken down, the file %s: %w", takedownsFile, err), next: "nothing was changed"}
}

// enforceLater has the origin act on a takedown that another gateway made. What
// does not fit is found by the next comparison of all copies.
func (n *runningNode) enforceLater(t musen.Takedown) {
	select {
	case n.enforced <- t:
	default:
	}
}

// enforceTakedowns has the origin act on takedowns of other gateways until the
// node stops.
func (n *runningNode) enforceTakedowns() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ctx.Done():
				return
			case t := <-n.enforced:
				if err := n.origin.Enforce(ctx, t); err != nil && ctx.Err() == nil {
					n.log.Error("copies of what was taken down were not told", "cid", t.CID.String(), "err", err)
				}
			}
		}
	}()
	n.closers = append(n.closers, func() error {
		cancel()
		<-ended
		return nil
	})
}
