package keyring

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Unsafe lists, in words for the operator, what still weakens the keyring
// though it works: each line says what is wrong and what to do. The home of
// the data is taken to be the folder that the keyring's folder lies in.
func (k *Keyring) Unsafe() []string {
	var warnings []string
	key, err := k.unlock.path()
	if err != nil {
		return nil // unreachable: the keyring was opened with it
	}
	home := filepath.Dir(absolute(k.dir))
	if rel, err := filepath.Rel(home, absolute(key)); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
		setting := settingIdentity
		if k.unlock.PassphraseFile != "" {
			setting = settingPassword
		}
		warnings = append(warnings, fmt.Sprintf("%s, which opens the keyring, lies in the same home as the data: who copies %s has both; move it to another disk or a credential store and set %s", key, home, setting))
	}
	for _, dir := range slices.Compact([]string{home, filepath.Dir(absolute(key))}) {
		info, err := os.Stat(dir)
		if err == nil && info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0 {
			warnings = append(warnings, fmt.Sprintf("others may write to %s (mode %04o) and put their own files in place of the keys: run chmod go-w on it", dir, info.Mode().Perm()))
		}
	}
	return warnings
}

// absolute spells path without symbolic links where that can be found out.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return path
}
