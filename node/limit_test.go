package node

import (
	"bytes"
	"errors"
	"testing"
)

// A limit that is changed holds from the next block on, in both directions.
func TestSetStorageMax(t *testing.T) {
	dir := t.TempDir()
	if _, err := Init(dir); err != nil {
		t.Fatal(err)
	}
	n, err := Open(t.Context(), Options{Dir: dir, StorageMax: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	add := func(b byte) error {
		_, _, _, err := n.Add(t.Context(), bytes.NewReader(bytes.Repeat([]byte{b}, 1<<20)))
		return err
	}
	if err := add(1); err != nil {
		t.Fatal(err)
	}
	n.SetStorageMax(1 << 20)
	if err := add(2); !errors.Is(err, ErrNoSpace) {
		t.Errorf("below what is taken: %v", err)
	}
	st, err := n.Stat()
	if err != nil || st.Max != 1<<20 || st.Room() != 0 || st.Used <= st.Max {
		t.Errorf("got %+v, %v", st, err)
	}
	n.SetStorageMax(0)
	if err := add(2); err != nil {
		t.Errorf("without a limit: %v", err)
	}
}
