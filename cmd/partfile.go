package cmd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/internal/cidpath"
)

// A partFile is a sink that outlives an interruption: a file of its own for
// each segment beside the one that it will be, and one with the ETag of what
// is in it.
type partFile struct {
	*os.File
	etagFile string
}

// openPart opens the partial file for what url names, and makes it if it is
// not there.
func openPart(out, url string) (*partFile, error) {
	name := out + "." + segmentName(url) + ".part"
	f, err := openRegular(name, os.O_CREATE|os.O_RDWR|os.O_APPEND|syscall.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	return &partFile{File: f, etagFile: name + ".etag"}, nil
}

// segmentName tells what one URL names from what another does.
func segmentName(link string) string {
	u, err := url.Parse(link)
	if err == nil {
		if id := listenCID(u.Path); id.Defined() {
			return id.String()
		}
		link = u.Scheme + "://" + u.Host + u.EscapedPath() // no query: that is a credential
	}
	sum := sha256.Sum256([]byte(link))
	return hex.EncodeToString(sum[:8])
}

// listenCID is the CID in a path /listen/{cid}; any other path has none.
func listenCID(path string) cid.Cid {
	name, ok := strings.CutPrefix(path, "/listen/")
	if !ok {
		return cid.Undef
	}
	id, _ := cidpath.Parse(name)
	return id
}

// openRegular opens a file, which must be a regular one. It does not wait for
// the other end of a pipe.
func openRegular(name string, flag int) (*os.File, error) {
	f, err := os.OpenFile(name, flag|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("open %q: it is not a regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// etag is the ETag of what is in the file, or nothing if it is not known.
func (p *partFile) etag() string {
	f, err := openRegular(p.etagFile, os.O_RDONLY|syscall.O_NOFOLLOW)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 1<<10))
	if err != nil {
		return ""
	}
	return strongETag(string(b))
}

// restart empties the file before it notes the ETag of what comes.
func (p *partFile) restart(etag string) error {
	if err := p.Truncate(0); err != nil {
		return err
	}
	if err := os.Remove(p.etagFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if etag == "" {
		return nil
	}
	f, err := os.OpenFile(p.etagFile, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(etag)
	return errors.Join(err, f.Close())
}

// fetchFile downloads to path, which appears only when it is whole. What was
// fetched before an interruption is gone on with.
func (d *download) fetchFile(ctx context.Context, path string, force bool) (err error) {
	if err := checkFree(path, force); err != nil {
		return err
	}
	part, err := openPart(path, d.url)
	if err != nil {
		return err
	}
	defer part.Close()
	defer func() {
		if err != nil {
			part.dropEmpty()
		}
	}()
	info, err := part.Stat()
	if err != nil {
		return err
	}
	d.have, d.etag = info.Size(), part.etag()
	if err := d.to(ctx, part); err != nil {
		return err
	}
	if err := part.Sync(); err != nil {
		return err
	}
	if err := checkFree(path, force); err != nil {
		return err
	}
	if err := os.Rename(part.Name(), path); err != nil {
		return err
	}
	if err := os.Remove(part.etagFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// dropEmpty removes a part that holds nothing to go on with.
func (p *partFile) dropEmpty() {
	if info, err := p.Stat(); err == nil && info.Size() == 0 {
		os.Remove(p.Name())
		os.Remove(p.etagFile)
	}
}

// checkFree refuses to replace a file unless forced to, and never anything
// that is not one.
func checkFree(path string, force bool) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return &failure{exit: exitConflict, code: "file_exists", what: fmt.Sprintf("%q is there and is not a regular file", path), next: "name another file with -o; - writes to standard output"}
	case !force:
		return &failure{exit: exitConflict, code: "file_exists", what: fmt.Sprintf("%q is there already", path), next: "give --force to replace it, or name another file with -o"}
	}
	return nil
}
