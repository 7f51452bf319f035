package catalog_test

import (
	"bytes"
	"testing"
)

// H55: the head of each audit log is kept apart, and the last one counts.
func testAuditHeads(t *testing.T, f *fixture) {
	ctx := t.Context()
	if size, hash, err := f.AuditHead(ctx, "a"); err != nil || size != 0 || hash != nil {
		t.Errorf("%d, %x, %v", size, hash, err)
	}
	noErr(t, f.PutAuditHead(ctx, "a", 7, []byte{7}))
	noErr(t, f.PutAuditHead(ctx, "b", 1, []byte{1}))
	noErr(t, f.PutAuditHead(ctx, "a", 8, []byte{8}))
	f.reopen()
	if size, hash, err := f.AuditHead(ctx, "a"); err != nil || size != 8 || !bytes.Equal(hash, []byte{8}) {
		t.Errorf("%d, %x, %v", size, hash, err)
	}
}
