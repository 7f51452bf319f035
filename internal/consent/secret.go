package consent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

const maxSecretFile = 4 << 10

// ReadSecret reads the secret of a file that belongs to the one who runs this
// node and is closed to everybody else. It follows no symbolic link in the last
// step of the path. No error holds the secret.
func ReadSecret(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return "", fmt.Errorf("%s is a symbolic link: give the file itself", path)
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	const bits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	switch {
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is no regular file", path)
	case !ok || int(st.Uid) != os.Geteuid():
		return "", fmt.Errorf("%s belongs to another user: run as its owner, or chown it to yourself", path)
	case info.Mode()&bits&^0o600 != 0:
		return "", fmt.Errorf("the mode %04o of %s lets others in: run chmod 0600 on it", info.Mode().Perm(), path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecretFile))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	secret := strings.TrimSpace(string(b))
	if err := CheckSecret(secret); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return secret, nil
}
