package cmd

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/musenai/musen/catalog"
	"github.com/musenai/musen/gateway/admin"
	"github.com/musenai/musen/internal/audit"
)

// An auditWatch is what the node knows of its audit log besides.
type auditWatch struct {
	origin string
	rows   *catalog.Catalog
	heads  chan struct{} // there is a head that the catalogue does not know

	mu     sync.Mutex
	start  []string // what was wrong when it was opened
	at     time.Time
	faults []string // what was wrong when it was verified then
}

// headRetry is how soon a head that the catalogue could not take is tried again.
const headRetry = 10 * time.Second

// check tells when the log was verified, and what was wrong with it.
func (w *auditWatch) check() (time.Time, []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at, slices.Concat(w.start, w.faults)
}

// kept is the head that the catalogue knows.
func (w *auditWatch) kept(ctx context.Context) (audit.Head, error) {
	return keptHead(ctx, w.rows, w.origin)
}

func keptHead(ctx context.Context, rows *catalog.Catalog, origin string) (head audit.Head, err error) {
	size, hash, err := rows.AuditHead(ctx, origin)
	if err == nil && size > 0 && len(hash) != len(head.Hash) {
		err = fmt.Errorf("the head of the audit log in the catalogue has %d bytes", len(hash))
	}
	copy(head.Hash[:], hash)
	head.Size = size
	return head, err
}

// state is what the admin API tells of it.
func (w *auditWatch) state(l *audit.Log) admin.AuditState {
	return admin.AuditState{Begun: l.Begun(), Kept: w.kept, Check: w.check}
}

// tell notes that the catalogue is to learn of a head. It does not wait.
func (w *auditWatch) tell(audit.Head) {
	select {
	case w.heads <- struct{}{}:
	default: // it will learn of the newest
	}
}

// compare looks whether the log still has what the catalogue knows it had.
func (n *runningNode) compareAudit(ctx context.Context) error {
	head, err := n.auditWatch.kept(ctx)
	if err != nil {
		return err
	}
	fault, err := n.audit.Confirm(audit.Known{Head: head, Where: "the catalogue"})
	if err != nil || fault == nil {
		return err
	}
	n.auditWatch.start = append(n.auditWatch.start, fault.String())
	n.log.Error("the audit log was cut or put back", "what", fault.String())
	n.record(audit.Record{Event: "log.replaced", Outcome: audit.Done, Facts: map[string]string{"what": fault.String(), "size": strconv.FormatUint(head.Size, 10)}})
	return nil
}

// keepHeads has the catalogue learn of heads until ctx ends, and of the last.
func (n *runningNode) keepHeads(ctx context.Context) {
	w := n.auditWatch
	var failed error
	put := func(ctx context.Context) {
		h := n.audit.Head()
		err := w.rows.PutAuditHead(ctx, w.origin, h.Size, h.Hash[:])
		if err != nil && failed == nil && ctx.Err() == nil {
			n.log.Warn("the catalogue does not know the head of the audit log; it is tried again", "err", err)
		}
		failed = err
	}
	for {
		var again <-chan time.Time
		if failed != nil {
			again = time.After(headRetry)
		}
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			put(last)
			cancel()
			return
		case <-w.heads:
		case <-again:
		}
		put(ctx)
	}
}

// watchAudit verifies the whole log now and again, until the node stops, and
// tells the operator's own system what it found, and a checkpoint.
func (n *runningNode) watchAudit() {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for tick := time.NewTicker(n.cfg.Audit.CheckEvery); ; {
			if err := n.checkAudit(ctx); err != nil && ctx.Err() == nil {
				n.log.Error("the audit log could not be verified", "err", err)
			}
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
			}
		}
	}()
	n.closers = append(n.closers, func() error {
		stop()
		<-ended
		return nil
	})
}

func (n *runningNode) checkAudit(ctx context.Context) error {
	w := n.auditWatch
	head, err := w.kept(ctx)
	if err != nil {
		return err
	}
	r, err := audit.Verify(filepath.Join(n.home, auditDir), audit.Known{Head: head, Where: "the catalogue"})
	if err != nil {
		return err
	}
	var faults []string
	for _, f := range r.Faults {
		faults = append(faults, f.String())
	}
	w.mu.Lock()
	w.at, w.faults = time.Now(), faults
	w.mu.Unlock()
	n.record(audit.Record{Event: "log.verified", Outcome: audit.Done, Facts: map[string]string{
		"records": strconv.FormatUint(r.Head.Size, 10), "faults": strconv.Itoa(len(faults)),
	}})
	if len(faults) > 0 {
		n.log.Error("the audit log is not as it was written", "what", faults[0], "faults", len(faults))
	}
	return n.tellAudit(ctx)
}

// tellAudit tells the operator's own system, if there is one.
func (n *runningNode) tellAudit(ctx context.Context) error {
	sender := n.alarm.sender
	if sender == nil {
		return nil
	}
	if _, faults := n.auditWatch.check(); len(faults) > 0 {
		sender.Send("musen.audit_fault", map[string]any{"log": n.auditWatch.origin, "faults": faults[:min(len(faults), 5)]})
	}
	signed, key, err := n.audit.Checkpoint()
	if err != nil {
		return err
	}
	sender.Send("musen.audit_checkpoint", map[string]string{"log": n.auditWatch.origin, "checkpoint": signed, "key": key})
	warnings, err := n.admin.Warnings(ctx)
	if err == nil && len(warnings) > 0 {
		sender.Send("musen.warnings", map[string]any{"log": n.auditWatch.origin, "warnings": warnings})
	}
	return err
}
