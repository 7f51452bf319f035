package control

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/musenai/musen/pin/wire"
)

// A shelf is the part of a datastore under a prefix.
type shelf struct {
	store  datastore.Batching
	prefix string
}

func (s shelf) key(parts ...string) datastore.Key {
	return datastore.RawKey(s.prefix + "/" + strings.Join(parts, "/"))
}

// A write puts a value, or deletes the key if there is none.
type write struct {
	key   datastore.Key
	value []byte
}

// commit makes writes, not yet durable ones.
func (s shelf) commit(ctx context.Context, writes []write) error {
	if len(writes) == 0 {
		return nil
	}
	b, err := s.store.Batch(ctx)
	if err != nil {
		return fmt.Errorf("write under %s: %w", s.prefix, err)
	}
	for _, w := range writes {
		if w.value == nil {
			err = b.Delete(ctx, w.key)
		} else {
			err = b.Put(ctx, w.key, w.value)
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", w.key, err)
		}
	}
	if err := b.Commit(ctx); err != nil {
		return fmt.Errorf("write under %s: %w", s.prefix, err)
	}
	return nil
}

// save makes writes and everything before them durable.
func (s shelf) save(ctx context.Context, writes []write) error {
	if len(writes) == 0 {
		return nil
	}
	if err := s.commit(ctx, writes); err != nil {
		return err
	}
	if err := s.store.Sync(ctx, datastore.NewKey(s.prefix)); err != nil {
		return fmt.Errorf("sync %s: %w", s.prefix, err)
	}
	return nil
}

// get returns the value of a key, nil if there is none.
func (s shelf) get(ctx context.Context, key datastore.Key) ([]byte, error) {
	b, err := s.store.Get(ctx, key)
	if err == datastore.ErrNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return b, nil
}

// each calls do with the last part of each key under one, and with its value
// unless q is for keys only.
func (s shelf) each(ctx context.Context, q query.Query, do func(name string, value []byte) error) error {
	for e, err := range datastore.QueryIter(ctx, s.store, q) {
		if err != nil {
			return fmt.Errorf("list %s: %w", q.Prefix, err)
		}
		if err := do(e.Key[strings.LastIndexByte(e.Key, '/')+1:], e.Value); err != nil {
			return fmt.Errorf("list %s: %s: %w", q.Prefix, e.Key, err)
		}
	}
	return nil
}

// A note is what is kept of an order under the CID of its segment: the number
// in 8 bytes, the first letter of the verb, and the rest.
type note struct {
	Size   int64     `cbor:"1,keyasint,omitempty"`
	Label  string    `cbor:"2,keyasint,omitempty"`
	Issued time.Time `cbor:"3,keyasint"`
	Lifted bool      `cbor:"4,keyasint,omitempty"`
}

func letter(v Verb) byte { return v[0] }

func verbOf(b byte) (Verb, error) {
	for _, v := range []Verb{Hold, Drop, Purge} {
		if letter(v) == b {
			return v, nil
		}
	}
	return "", fmt.Errorf("%w: verb %q", ErrInvalid, b)
}

func (o Order) kept() ([]byte, error) {
	b, err := wire.Marshal(note{o.Size, o.Label, o.Issued, o.Lifted})
	if err != nil {
		return nil, err
	}
	head := binary.BigEndian.AppendUint64(make([]byte, 0, 9+len(b)), o.Seq)
	return append(append(head, letter(o.Verb)), b...), nil
}

// keptHead is what a kept order begins with.
func keptHead(b []byte) (seq uint64, verb Verb, err error) {
	if len(b) < 9 {
		return 0, "", fmt.Errorf("%w: kept order of %d bytes", ErrInvalid, len(b))
	}
	verb, err = verbOf(b[8])
	return binary.BigEndian.Uint64(b), verb, err
}

// unkept is the kept order about a segment, without its peer.
func unkept(root cid.Cid, b []byte) (Order, error) {
	seq, verb, err := keptHead(b)
	if err != nil {
		return Order{}, err
	}
	var n note
	if err := wire.Unmarshal(b[9:], &n); err != nil {
		return Order{}, err
	}
	return Order{Seq: seq, Verb: verb, Root: root, Size: n.Size, Label: n.Label, Issued: n.Issued.UTC(), Lifted: n.Lifted}, nil
}

// seqName sorts as the number does.
func seqName(seq uint64) string { return fmt.Sprintf("%016x", seq) }

func nameSeq(s string) (uint64, error) { return strconv.ParseUint(s, 16, 64) }
