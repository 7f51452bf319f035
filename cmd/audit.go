package cmd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/musenai/musen/internal/audit"
	"github.com/musenai/musen/internal/denylist"
	"github.com/musenai/musen/internal/watch"
	"github.com/musenai/musen/policy/folder"
)

// auditDir is the folder of the audit log in a home.
const auditDir = "audit"

// auditOrigin names the audit log of a node.
func auditOrigin(realm, peer string) string { return "musen/audit/" + realm + "/" + peer }

// openAudit opens the audit log, and compares it with what the catalogue knows.
func (n *runningNode) openAudit(ctx context.Context, home string) (err error) {
	dir := filepath.Join(home, auditDir)
	w := &auditWatch{origin: auditOrigin(n.keys.Realm(), blocks{n.node}.PeerID()), rows: n.rows, heads: make(chan struct{}, 1)}
	n.home, n.auditWatch = home, w
	n.audit, err = audit.Open(audit.Options{
		Dir: dir, Origin: w.origin, Cipher: n.keys.Catalogue(), Key: n.keys.AuditKey(),
		Now: time.Now, Free: func() int64 { return freeOn(dir) }, Tell: w.tell,
	})
	if err != nil {
		return &failure{exit: exitDamaged, code: "audit_log", cause: err, next: "see that the folder " + auditDir + " of the home can be written by the node; to begin another log, move it away and keep it"}
	}
	if err := n.compareAudit(ctx); err != nil {
		return errors.Join(err, n.audit.Close())
	}
	keep, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.keepHeads(keep)
	}()
	n.closers = append(n.closers, func() error {
		n.record(audit.Record{Event: "node.stopped", Outcome: audit.Done})
		stop()
		<-ended
		return n.audit.Close()
	})
	return nil
}

// freeOn is how many bytes are free on the disk of a folder; more than any disk
// has if that cannot be told.
func freeOn(dir string) int64 {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 1 << 62
	}
	return int64(st.Bavail) * st.Bsize
}

// record records what the node itself does. What it cannot record it does all
// the same, and says so in its log.
func (n *runningNode) record(r audit.Record) {
	if err := n.audit.Append(r); err != nil {
		n.log.Error("not recorded in the audit log", "event", r.Event, "outcome", r.Outcome, "err", err)
	}
}

// recordStart records that the node starts, and with what.
func (n *runningNode) recordStart() {
	n.record(audit.Record{Event: "node.started", Outcome: audit.Done, Facts: map[string]string{"version": version(), "role": n.cfg.Role}})
	n.recordConfig()
	n.recordPolicy(n.rules.State())
	for _, s := range n.lists.State() {
		n.recordDenylist(denylist.State{}, s)
	}
}

// recordDenylist records that a denylist was read, at the start or because it
// changed.
func (n *runningNode) recordDenylist(before, after denylist.State) {
	n.record(audit.Record{Event: "denylist.read", Outcome: audit.Done, Object: after.File, Facts: map[string]string{
		"rules": strconv.Itoa(after.Rules), "before": strconv.Itoa(before.Rules), "faults": strconv.Itoa(after.Faulted),
	}})
}

// recordPolicy records which policies are in force or were refused, and what is
// gone.
func (n *runningNode) recordPolicy(st folder.State) {
	r := audit.Record{Event: "policy.loaded", Outcome: audit.Done, Facts: map[string]string{"digest": st.Digest, "files": strconv.Itoa(len(st.Files))}}
	for name, lost := range map[string][]string{"lost_files": st.LostFiles, "lost_forbids": st.LostForbids} {
		if len(lost) > 0 {
			r.Facts[name] = fmt.Sprintf("%.2000s", strings.Join(lost, ", ")) // a record has its bounds
		}
	}
	if st.Fault != "" {
		r.Outcome, r.Code = audit.Refused, "policy_refused"
	}
	n.record(r)
}

// settingsFact has a keyed hash of each setting that is not the default.
const settingsFact = "set"

// recordConfig records the effective configuration: a digest, and which settings
// are others than at the start before. What they are is not said: of each that
// is not the default there is a keyed hash.
func (n *runningNode) recordConfig() {
	hashes := map[string]string{}
	for key, text := range n.cfg.NotDefault() {
		h := n.keys.Lookup()
		fmt.Fprintf(h, "musen audit config\x00%s\x00%s", key, text)
		hashes[key] = hex.EncodeToString(h.Sum(nil)[:8])
	}
	before := map[string]string{}
	last, found, err := n.audit.Latest("config.loaded")
	if err != nil {
		n.log.Error("which settings changed is not known", "err", err)
	}
	for word := range strings.FieldsSeq(last.Facts[settingsFact]) {
		key, hash, _ := strings.Cut(word, "=")
		before[key] = hash
	}
	var words, changed []string
	for _, key := range slices.Sorted(maps.Keys(hashes)) {
		words = append(words, key+"="+hashes[key])
		if before[key] != hashes[key] {
			changed = append(changed, key)
		}
		delete(before, key)
	}
	changed = append(changed, slices.Sorted(maps.Keys(before))...)
	text := strings.Join(words, " ")
	sum := sha256.Sum256([]byte(text))
	facts := map[string]string{"digest": hex.EncodeToString(sum[:]), settingsFact: text}
	if found && len(changed) > 0 {
		facts["changed"] = strings.Join(changed, " ")
	}
	n.record(audit.Record{Event: "config.loaded", Outcome: audit.Done, Facts: facts})
}

// ofAlarm is a record of what looked like abuse, or was done about it.
func ofAlarm(x watch.Alert, event string) audit.Record {
	return audit.Record{
		Event: event, Outcome: audit.Done, Object: holder(x),
		Facts: map[string]string{
			"rule": string(x.Rule), "count": strconv.Itoa(x.Count), "threshold": strconv.Itoa(x.Threshold), "window": x.Window.String(),
		},
	}
}

// holder is whom or what an alert is about.
func holder(x watch.Alert) string {
	switch {
	case x.Bearer.Subject != "":
		return fmt.Sprintf("subject %q, credential %s", x.Bearer.Subject, x.Bearer.Credential)
	case x.Bearer.Credential != "":
		return "credential " + x.Bearer.Credential
	case x.Share != "":
		return "share " + x.Share
	}
	return ""
}
