package member

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/wire"
)

// A Membership is the place that a peer has in a swarm, as it keeps it.
type Membership struct {
	Realm   string        `cbor:"1,keyasint"`
	Self    peer.ID       `cbor:"2,keyasint"`
	Role    Role          `cbor:"3,keyasint"`
	Name    string        `cbor:"4,keyasint"`
	Site    string        `cbor:"5,keyasint,omitempty"`
	Origins []Peer        `cbor:"6,keyasint"` // with the addresses of the invitation; the first signs rosters
	Roster  wire.Envelope `cbor:"7,keyasint"` // the newest
}

// check refuses a membership that no enrolment gives, and returns its roster.
func (m Membership) check() (Roster, error) {
	if len(m.Origins) == 0 {
		return Roster{}, fmt.Errorf("%w: it names no origin", ErrInvalid)
	}
	for _, p := range append([]Peer{{ID: m.Self, Role: m.Role, Name: m.Name, Site: m.Site}}, m.Origins...) {
		if _, err := p.check(); err != nil {
			return Roster{}, err
		}
	}
	if m.Role != Storage && m.Role != Replica {
		return Roster{}, fmt.Errorf("%w: a member is not a %s", ErrInvalid, m.Role)
	}
	return openRoster(m.Origins[0].ID, m.Realm, m.Roster)
}

// maxMembership bounds the file, in bytes.
const maxMembership = maxAnswer + 64<<10

// SaveMembership writes m to a file that its owner alone can read, in place of
// what was there: whole or not at all, and durable on return.
func SaveMembership(path string, m Membership) error {
	b, err := wire.Marshal(m)
	if err == nil {
		err = replace(path, b)
	}
	if err != nil {
		return fmt.Errorf("save the membership: %w", err)
	}
	return nil
}

// replace writes a file beside path and puts it in its place.
func replace(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// LoadMembership reads what SaveMembership wrote, and checks it.
func LoadMembership(path string) (Membership, error) {
	m, _, err := loadMembership(path)
	return m, err
}

func loadMembership(path string) (m Membership, r Roster, err error) {
	f, err := os.Open(path)
	if err != nil {
		return m, r, fmt.Errorf("load the membership: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxMembership+1))
	if err == nil && len(b) > maxMembership {
		err = wire.ErrTooLong
	}
	if err == nil {
		err = wire.Unmarshal(b, &m)
	}
	if err == nil {
		r, err = m.check()
	}
	if err != nil {
		return Membership{}, Roster{}, fmt.Errorf("load the membership from %s: %w", path, err)
	}
	return m, r, nil
}
