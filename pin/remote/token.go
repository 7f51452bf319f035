package remote

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

const maxToken = 4 << 10

// ErrToken says that a token file is not one to be used. No error about one
// holds the token.
var ErrToken = errors.New("not to be used")

// readToken reads the token of a service: one line of printable ASCII without
// spaces, in a file that belongs to the one who runs this node and is closed to
// everybody else. It follows no symbolic link in the last step of the path.
func readToken(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, syscall.ELOOP):
		return "", unfit(path, "it is a symbolic link: give the file itself")
	case err != nil:
		return "", unfit(path, innermost(err).Error())
	}
	defer f.Close()
	if err := checkPrivate(path, f); err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", unfit(path, innermost(err).Error())
	}
	token := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	switch strange := strings.IndexFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }); {
	case token == "":
		return "", unfit(path, "it is empty")
	case len(b) > maxToken:
		return "", unfit(path, fmt.Sprintf("it is longer than %d bytes", maxToken))
	case strings.ContainsAny(token, "\r\n"):
		return "", unfit(path, "it has more than one line")
	case strange >= 0:
		return "", unfit(path, "it holds spaces, control characters or others that are not printable ASCII")
	}
	return token, nil
}

func unfit(path, why string) error {
	return fmt.Errorf("token file %.200q: %w: %s", path, ErrToken, why)
}

// checkPrivate refuses a file that others own or may reach.
func checkPrivate(path string, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return unfit(path, innermost(err).Error())
	}
	if !info.Mode().IsRegular() {
		return unfit(path, "it is no regular file")
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
		return unfit(path, "it belongs to another user: run as its owner, or chown it to yourself")
	}
	const bits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	if info.Mode()&bits&^0o600 != 0 {
		return unfit(path, fmt.Sprintf("its mode %04o lets others in: run chmod 0600 on it", info.Mode().Perm()))
	}
	return nil
}
