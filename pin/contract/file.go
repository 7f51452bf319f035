package contract

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// maxFile is longer than any contract that Save writes.
const maxFile = 64 << 10

// Load reads the contract that Save wrote. A file that is not there is an
// error that wraps fs.ErrNotExist, one that holds no contract ErrInvalid.
func Load(path string) (Contract, error) {
	c, err := load(path)
	if err != nil {
		return Contract{}, fmt.Errorf("load the contract %s: %w", path, err)
	}
	return c, nil
}

func load(path string) (c Contract, err error) {
	f, err := os.Open(path)
	if err != nil {
		return c, errors.Unwrap(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return c, err
	}
	if len(b) > maxFile {
		return c, fmt.Errorf("%w: longer than %d bytes", ErrInvalid, maxFile)
	}
	if err := json.Unmarshal(b, &c); err != nil && !errors.Is(err, ErrInvalid) {
		return c, fmt.Errorf("%w: %w", ErrInvalid, err)
	} else if err != nil {
		return c, err
	}
	return c, nil
}

// Save writes a contract that Check lets pass, for its owner alone. On return
// it is durable; a crash leaves the old file or the new one.
func Save(path string, c Contract) error {
	err := c.Check()
	if err == nil {
		err = save(path, c)
	}
	if err != nil {
		return fmt.Errorf("save the contract %s: %w", path, err)
	}
	return nil
}

func save(path string, c Contract) error {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".contract-") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append(b, '\n'))
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
