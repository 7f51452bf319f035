package node

import (
	"encoding/base32"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/ipfs/go-cid"
	flatfs "github.com/ipfs/go-ds-flatfs"
	"github.com/multiformats/go-multihash"
)

// digest is a SHA-256: what names a block whatever the spelling of its CID.
type digest [32]byte

// digestOf returns the SHA-256 that c names its block by. Blocks named by any
// other hash are not kept here.
func digestOf(c cid.Cid) (d digest, ok bool) {
	if !c.Defined() {
		return d, false
	}
	if p := c.Prefix(); p.MhType != multihash.SHA2_256 || p.MhLength != len(d) {
		return d, false
	}
	s := c.KeyString()
	copy(d[:], s[len(s)-len(d):])
	return d, true
}

// blockFiles reads the files of flatfs without flatfs, which would read a
// whole block to give a part of it.
type blockFiles struct {
	root  string
	shard flatfs.ShardFunc
	names *base32.Encoding
}

func newBlockFiles(root string) blockFiles {
	return blockFiles{
		root:  filepath.Clean(root),
		shard: flatfs.IPFS_DEF_SHARD.Func(),
		names: base32.StdEncoding.WithPadding(base32.NoPadding),
	}
}

// path is where flatfs keeps the block: a file named by the multihash in
// base32, in a folder named by the last letters of that but one.
func (b blockFiles) path(d digest) string {
	var mh [2 + len(d)]byte
	mh[0], mh[1] = multihash.SHA2_256, byte(len(d))
	copy(mh[2:], d[:])
	var name [(len(mh)*8 + 4) / 5]byte
	b.names.Encode(name[:], mh[:])
	key := string(name[:])
	return b.root + "/" + b.shard(key) + "/" + key + ".data"
}

// readAt reads a part of a block as an io.ReaderAt does. The bytes are not
// checked. A block that is not there gives an error that wraps fs.ErrNotExist.
func (b blockFiles) readAt(d digest, p []byte, off int64) (n int, err error) {
	fd, err := openFile(b.path(d))
	if err != nil {
		return 0, err
	}
	defer syscall.Close(fd)
	for n < len(p) {
		m, err := syscall.Pread(fd, p[n:], off+int64(n))
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return n, err
		case m == 0:
			return n, io.EOF
		default:
			n += m
		}
	}
	return n, nil
}

// read reads a whole block. The bytes are not checked.
func (b blockFiles) read(d digest) ([]byte, error) {
	fd, err := openFile(b.path(d))
	if err != nil {
		return nil, err
	}
	var st syscall.Stat_t
	err = syscall.Fstat(fd, &st)
	syscall.Close(fd)
	if err != nil {
		return nil, err
	}
	p := make([]byte, st.Size)
	n, err := b.readAt(d, p, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return p[:n], nil
}

// openFile opens without the poller, which is of no use to a file of a disk.
func openFile(path string) (fd int, err error) {
	for {
		fd, err = syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err != syscall.EINTR {
			return fd, err
		}
	}
}

// size is that of a block's file, if there is one.
func (b blockFiles) size(d digest) (size int64, there bool) {
	var st syscall.Stat_t
	for {
		err := syscall.Stat(b.path(d), &st)
		if err != syscall.EINTR {
			return st.Size, err == nil
		}
	}
}

// folder is where the file of a block is.
func (b blockFiles) folder(d digest) string { return filepath.Dir(b.path(d)) }

// all lists the blocks, in the order of their folders. Those that come or go
// meanwhile may be missing or in it.
func (b blockFiles) all() iter.Seq2[digest, error] {
	return func(yield func(digest, error) bool) {
		folders, err := os.ReadDir(b.root)
		if err != nil {
			yield(digest{}, err)
			return
		}
		for _, folder := range folders {
			if !folder.IsDir() || strings.HasPrefix(folder.Name(), ".") {
				continue
			}
			names, err := readNames(filepath.Join(b.root, folder.Name()))
			if err != nil {
				yield(digest{}, err)
				return
			}
			for _, name := range names {
				if d, ok := b.digest(name); ok && !yield(d, nil) {
					return
				}
			}
		}
	}
}

// digest is the inverse of path.
func (b blockFiles) digest(name string) (d digest, ok bool) {
	key, ok := strings.CutSuffix(name, ".data")
	if !ok {
		return d, false
	}
	mh, err := b.names.DecodeString(key)
	if err != nil || len(mh) != 2+len(d) || mh[0] != multihash.SHA2_256 || int(mh[1]) != len(d) {
		return d, false
	}
	copy(d[:], mh[2:])
	return d, true
}

func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}
