package admin

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/internal/deny"
	"github.com/musenai/musen/internal/denylist"
)

// taken denies one block.
type taken struct{ mh multihash.Multihash }

// Denied implements deny.Denier.
func (d *taken) Denied(mh multihash.Multihash) bool { return string(d.mh) == string(mh) }

// P104, H52: the operator sees the lists, what is wrong with them, and which rule
// decides about a block, in any spelling of it; nobody gets a link to what is
// denied.
func TestDenylists(t *testing.T) {
	var lists *denylist.List
	var denied deny.Sources
	path := filepath.Join(t.TempDir(), "x.deny")
	write := func(text string) { must(t, os.WriteFile(path, []byte(text), 0o600)) }
	write("# nothing yet\n")
	w := newWorld(t, func(o *Options) {
		var err error
		lists, err = denylist.Open(denylist.Options{Files: []string{path}, Now: o.Now, Log: o.Log})
		must(t, err)
		denied.Add(lists)
		o.Denylists, o.Denied = lists, &denied
	})
	jazz := w.station("jazz")
	a, b, c := w.segment(jazz.ID, "a"), w.segment(jazz.ID, "b"), w.segment(jazz.ID, "c")
	ids := map[string]cid.Cid{}
	for _, s := range []wire.Added{a, b, c} {
		id, err := cid.Decode(s.CID)
		must(t, err)
		ids[s.CID] = id
	}
	denied.Add(&taken{ids[c.CID].Hash()})
	write("/ipfs/" + a.CID + "\n!/ipfs/" + b.CID + "\nnonsense\n/ipns/example.org\n")
	lists.Reload()
	all, err := w.local.Denylists(t.Context())
	if err != nil || len(all) != 1 || all[0].File != path || all[0].Rules != 1 || all[0].Passed != 1 || all[0].Faulted != 1 || all[0].Faults[0].Line != 3 {
		t.Errorf("%+v, %v", all, err)
	}
	st, err := w.local.Status(t.Context())
	if err != nil || !strings.Contains(strings.Join(st.Warnings, "\n"), path+" has faults") {
		t.Errorf("%q, %v", st.Warnings, err)
	}
	for id, want := range map[cid.Cid]string{
		ids[a.CID]: "a denylist denies it: " + path + ":1", cid.NewCidV1(cid.DagProtobuf, ids[a.CID].Hash()): "a denylist denies it: " + path + ":1",
		ids[b.CID]: "nothing denies it", ids[c.CID]: "it was taken down",
	} {
		v, err := w.local.Denial(t.Context(), id)
		if err != nil || v.Reason != want || v.Denied != (want != "nothing denies it") || (v.Rule != nil) != strings.Contains(want, path) {
			t.Errorf("%s: %+v, %v", id, v, err)
		}
		_, err = w.local.Link(t.Context(), id, wire.LinkRequest{})
		if refused, _ := errors.AsType[*client.Error](err); v.Denied != (refused != nil && refused.Code == "taken_down") {
			t.Errorf("link to %s: %v", id, err)
		}
	}
	write("/ipfs/" + b.CID + "\n!/ipfs/" + b.CID + "\n")
	lists.Reload()
	if v, err := w.local.Denial(t.Context(), ids[b.CID]); err != nil || v.Denied || v.Rule == nil || v.Rule.Line != 2 {
		t.Errorf("%+v, %v", v, err)
	}
	if st, err = w.local.Status(t.Context()); err != nil || strings.Contains(strings.Join(st.Warnings, "\n"), "denylist") {
		t.Errorf("%q, %v", st.Warnings, err)
	}
	bearer := w.remote(w.token(nil, "listen"))
	if _, err := bearer.Denylists(t.Context()); err == nil {
		t.Error("a listener sees the denylists")
	}
}
