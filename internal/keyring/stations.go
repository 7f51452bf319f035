package keyring

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/musenai/musen"
)

const (
	stationsFormat = "musen stations 1"
	// checkText is the known value whose wrapped form every stations.json
	// carries: it opens under the right root key and for unchanged bytes only.
	checkText    = "these stations belong to this keyring"
	maxIDLength  = 64
	overheadRoot = 5 + 12 + 16 // key prefix, nonce and tag of Tink's AES-GCM
)

// stationsDoc is the JSON of stations.json.
type stationsDoc struct {
	Format   string       `json:"format"`
	Realm    string       `json:"realm"`
	Stations []stationDoc `json:"stations"` // by id, ascending
	Check    []byte       `json:"check"`
}

type stationDoc struct {
	ID   string       `json:"id"`
	Keys []generation `json:"keys"` // by generation, ascending
}

// A generation is one station key, wrapped by the root key.
type generation struct {
	Number  uint32 `json:"generation"` // from 1
	Wrapped []byte `json:"wrapped"`
}

// parseStations accepts exactly what encode writes.
func parseStations(b []byte) (*stationsDoc, error) {
	doc := new(stationsDoc)
	if err := decodeExactly(b, doc, stationsFormat); err != nil {
		return nil, err
	}
	if len(doc.Check) != len(checkText)+overheadRoot || doc.Stations == nil {
		return nil, fmt.Errorf("%w: its list or its check value is missing: restore it from a backup", ErrDamaged)
	}
	last := ""
	for _, s := range doc.Stations {
		if err := checkID(s.ID); err != nil {
			return nil, fmt.Errorf("%w: %v: restore it from a backup", ErrDamaged, err)
		}
		if s.ID <= last {
			return nil, fmt.Errorf("%w: station %q is listed twice or out of order: restore it from a backup", ErrDamaged, s.ID)
		}
		last = s.ID
		if err := checkGenerations(s.Keys); err != nil {
			return nil, fmt.Errorf("%w: station %q: %v: restore it from a backup", ErrDamaged, s.ID, err)
		}
	}
	return doc, nil
}

func checkGenerations(keys []generation) error {
	if len(keys) == 0 {
		return errors.New("it has no key")
	}
	last := uint32(0)
	for _, g := range keys {
		if g.Number <= last {
			return fmt.Errorf("generation %d is listed twice or out of order", g.Number)
		}
		last = g.Number
		if len(g.Wrapped) != secretSize+overheadRoot {
			return fmt.Errorf("the key of generation %d has the wrong length", g.Number)
		}
	}
	return nil
}

// checkID refuses what cannot be the id of a station or a segment.
func checkID(id string) error {
	ok := id != "" && len(id) <= maxIDLength
	for _, c := range []byte(id) {
		ok = ok && c > ' ' && c < 0x7f
	}
	if !ok {
		return fmt.Errorf("%.80q is not an id: %w", id, musen.ErrInvalid)
	}
	return nil
}

func (d *stationsDoc) encode() []byte {
	b, err := json.Marshal(d)
	if err != nil {
		panic(err) // unreachable: strings, numbers and bytes only
	}
	return b
}

// authenticated are the bytes that the check value binds: all but itself.
func (d *stationsDoc) authenticated() []byte {
	bare := *d
	bare.Check = nil
	return associated("musen stations", d.Realm, string(bare.encode()))
}

// associated encodes parts so that no two lists of parts give the same bytes.
func associated(parts ...string) []byte {
	var b []byte
	for _, p := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return b
}

// loadStations takes stations.json into use after it has opened the check
// value and every station key in it.
func (k *Keyring) loadStations(b []byte) error {
	doc, err := parseStations(b)
	if err != nil {
		return err
	}
	if doc.Realm != k.realm {
		return fmt.Errorf("%w: it belongs to another keyring (realm %.40q, not %q): put back the copy that belongs to this %s", ErrDamaged, doc.Realm, k.realm, secretsFile)
	}
	if _, err := k.root.Decrypt(doc.Check, doc.authenticated()); err != nil {
		return fmt.Errorf("%w: it was changed, or does not belong to this %s: restore it from a backup", ErrDamaged, secretsFile)
	}
	stations := make(map[string][]generation, len(doc.Stations))
	for _, s := range doc.Stations {
		for _, g := range s.Keys {
			if k.has(s.ID, g) {
				continue
			}
			key, err := k.unwrapStation(s.ID, g)
			if err != nil {
				return fmt.Errorf("%w: the key of generation %d of station %q does not open: restore it from a backup", ErrDamaged, g.Number, s.ID)
			}
			clear(key)
		}
		stations[s.ID] = s.Keys
	}
	k.stations, k.written = stations, sha256.Sum256(b)
	return nil
}

// has reports whether that very key of a station is in use, and so opens.
func (k *Keyring) has(station string, g generation) bool {
	return slices.ContainsFunc(k.stations[station], func(known generation) bool {
		return known.Number == g.Number && bytes.Equal(known.Wrapped, g.Wrapped)
	})
}

// writeStations makes stations durable as stations.json and takes them into
// use. The caller holds the lock, or is the only one who knows k.
func (k *Keyring) writeStations(stations map[string][]generation) error {
	doc := &stationsDoc{Format: stationsFormat, Realm: k.realm, Stations: []stationDoc{}}
	for _, id := range slices.Sorted(maps.Keys(stations)) {
		doc.Stations = append(doc.Stations, stationDoc{ID: id, Keys: stations[id]})
	}
	check, err := k.root.Encrypt([]byte(checkText), doc.authenticated())
	if err != nil {
		return fmt.Errorf("seal %s: %w", stationsFile, err)
	}
	doc.Check = check
	b := doc.encode()
	if len(b) > maxStationsSize {
		return fmt.Errorf("write %s: %w: it would have %d bytes", stationsFile, musen.ErrTooLarge, len(b))
	}
	if err := replaceFile(k.dir, stationsFile, b); err != nil {
		return err
	}
	k.stations, k.written = stations, sha256.Sum256(b)
	return nil
}

// change lets f change a copy of the stations, and makes the copy durable. It
// refuses when the file is no longer the one that this keyring knows: another
// process, or a write of this one that failed half-way, changed it.
func (k *Keyring) change(f func(map[string][]generation) error) error {
	if k.reader {
		return errReader
	}
	b, err := k.read(stationsFile, maxStationsSize)
	if err != nil {
		return err
	}
	if sha256.Sum256(b) != k.written {
		return fmt.Errorf("%s: %w: it changed since this process opened it: stop every process on this home and start one again", filepath.Join(k.dir, stationsFile), ErrDamaged)
	}
	stations := maps.Clone(k.stations)
	if err := f(stations); err != nil {
		return err
	}
	return k.writeStations(stations)
}

// AddStation gives a station its first key, durably. A station that has one
// keeps it.
func (k *Keyring) AddStation(station string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := checkID(station)
	if err == nil && len(k.stations[station]) == 0 {
		err = k.change(func(m map[string][]generation) error { return k.addGeneration(m, station) })
	}
	if err != nil {
		return fmt.Errorf("add the key of station %q: %w", station, err)
	}
	return nil
}

// addGeneration adds the next generation of the key of a station to m.
func (k *Keyring) addGeneration(m map[string][]generation, station string) error {
	next := generation{Number: 1}
	if keys := m[station]; len(keys) > 0 {
		next.Number = keys[len(keys)-1].Number + 1
	}
	var err error
	if next.Wrapped, err = k.wrapNewStationKey(station, next.Number); err != nil {
		return err
	}
	m[station] = append(slices.Clone(m[station]), next)
	return nil
}

// RemoveStation destroys all keys of a station, durably: no data key of it can
// be opened any more. The old bytes are overwritten where the file system lets
// them be; copies of the folder that were made elsewhere are not reached. A
// station without keys is no error.
func (k *Keyring) RemoveStation(station string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.stations[station]; !ok {
		return nil
	}
	err := k.change(func(m map[string][]generation) error {
		delete(m, station)
		return nil
	})
	if err != nil {
		return fmt.Errorf("destroy the keys of station %q: %w", station, err)
	}
	return nil
}

// find returns the key of a station of that generation, or the newest for 0. A
// reader looks into the folder before it says that there is none.
func (k *Keyring) find(station string, number uint32) (generation, error) {
	g, err := k.lookUp(station, number)
	if err == nil || !k.reader {
		return g, err
	}
	if reloadErr := k.Reload(); reloadErr != nil {
		return g, errors.Join(err, reloadErr)
	}
	return k.lookUp(station, number)
}

func (k *Keyring) lookUp(station string, number uint32) (generation, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	keys := k.stations[station]
	if len(keys) == 0 {
		return generation{}, fmt.Errorf("%w: this keyring has no key of station %q: if it was put back from a backup, a newer %s is needed", ErrNoKey, station, stationsFile)
	}
	if number == 0 {
		return keys[len(keys)-1], nil
	}
	i, ok := slices.BinarySearchFunc(keys, number, func(g generation, n uint32) int { return cmp.Compare(g.Number, n) })
	if !ok {
		return generation{}, fmt.Errorf("%w: station %q has no key of generation %d, the newest is %d: if the keyring was put back from a backup, a newer %s is needed",
			ErrNoKey, station, number, keys[len(keys)-1].Number, stationsFile)
	}
	return keys[i], nil
}

// errReader refuses what only the process may do that has the folder to itself.
var errReader = errors.New("this process only reads the keyring: do it at the origin")

// Reload takes into use what another process wrote to stations.json since it
// was read last: new keys, and that others are destroyed. It is for a reader,
// and does nothing in any other keyring. If the file is not sound, what was
// read last stays in use.
func (k *Keyring) Reload() error {
	if !k.reader {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var err error
	for range 3 { // a file that is replaced while it is read has its old bytes blanked
		var b []byte
		if b, err = k.read(stationsFile, maxStationsSize); err != nil || sha256.Sum256(b) == k.written {
			break
		}
		if err = k.loadStations(b); err == nil {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("read the keys of stations again: %s: %w", filepath.Join(k.dir, stationsFile), err)
	}
	return nil
}
