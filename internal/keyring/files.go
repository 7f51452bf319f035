package keyring

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// tempPrefix begins the names of files that are being written. They hold
// nothing that is needed after a crash.
const tempPrefix = ".writing-"

// makeDir makes dir, mode 0700, durably. One that is there is left as it is.
func makeDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	}
	return syncDir(filepath.Dir(dir))
}

func checkDir(dir string, uid int) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("%w: make a home with musen init, or give the right one", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%s: %w: it is not a folder but %s: put the folder itself there", dir, ErrUnsafe, kind(info.Mode()))
	}
	return checkAccess(dir, info, uid, 0o700)
}

// checkAccess refuses what others own or may reach: no bit beyond allowed.
func checkAccess(path string, info fs.FileInfo, uid int, allowed fs.FileMode) error {
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != uid {
		return fmt.Errorf("%s: %w: it belongs to another user: run as its owner, or chown it to yourself", path, ErrUnsafe)
	}
	const bits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	if extra := info.Mode() & bits &^ allowed; extra != 0 {
		return fmt.Errorf("%s: %w: its mode %04o lets others in: run chmod %04o on it", path, ErrUnsafe, info.Mode().Perm(), allowed)
	}
	return nil
}

func kind(m fs.FileMode) string {
	switch {
	case m&fs.ModeSymlink != 0:
		return "a symbolic link"
	case m.IsDir():
		return "a folder"
	case m.IsRegular():
		return "a file"
	}
	return "a special file"
}

// readPrivate reads a small file that must be regular, owned by uid and closed
// to everybody else. It follows no symbolic link in the last step of the path.
func readPrivate(path string, uid int, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s: %w: it is a symbolic link: put the file itself there", path, ErrUnsafe)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w: it is not a file but %s: put the file itself there", path, ErrUnsafe, kind(info.Mode()))
	}
	if err := checkAccess(path, info, uid, 0o600); err != nil {
		return nil, err
	}
	if info.Size() == 0 || info.Size() > limit {
		return nil, fmt.Errorf("%s: %w: it has %d bytes, not 1 to %d: restore it from a backup", path, ErrDamaged, info.Size(), limit)
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b, nil
}

// replaceFile makes data the whole of the file name in dir, mode 0600. It is
// durable on return. After a crash at any point the file is the old one or the
// new one, whole; what may be left besides has a name with tempPrefix. After
// an error either may be there.
func replaceFile(dir, name string, data []byte) error {
	path := filepath.Join(dir, name)
	tmp, err := writeTemp(dir, data)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	old, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NOFOLLOW, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(tmp))
	}
	if old != nil {
		defer old.Close()
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(tmp))
	}
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if old != nil {
		overwrite(old)
	}
	return nil
}

// writeTemp writes data to a new file of mode 0600 in dir, and syncs it.
func writeTemp(dir string, data []byte) (path string, err error) {
	f, err := os.CreateTemp(dir, tempPrefix+"*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// overwrite blanks the bytes of a file that has no name any more, so that keys
// which were taken out of it do not stay on the disk. A file system that copies
// on write keeps them all the same, so this is an effort and not a promise.
func overwrite(f *os.File) {
	info, err := f.Stat()
	if err != nil {
		return
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Nlink != 0 {
		return // somebody keeps another name of it
	}
	if _, err := f.WriteAt(make([]byte, info.Size()), 0); err == nil {
		_ = f.Sync()
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// removeLeftovers removes what writes that were cut short left in dir.
func removeLeftovers(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) && e.Type().IsRegular() {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("remove the remains of a write: %w", err)
			}
		}
	}
	return nil
}
