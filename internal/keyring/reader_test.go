package keyring

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
)

// A reader has the keys that the writer makes while both run, and changes
// nothing in the folder.
func TestReader(t *testing.T) {
	writer, dir, unlock := filled(t)
	halfWritten := filepath.Join(dir, tempPrefix+"x")
	if err := os.WriteFile(halfWritten, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := OpenReader(dir, unlock)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(halfWritten); err != nil {
		t.Errorf("what the writer is about to write is gone: %v", err)
	}
	if _, _, err := reader.NewDataKey(talk, song); !errors.Is(err, ErrNoKey) {
		t.Fatalf("a station without a key: %v", err)
	}
	if err := writer.AddStation(talk); err != nil {
		t.Fatal(err)
	}
	key, wrapped, err := writer.NewDataKey(talk, song)
	if err != nil {
		t.Fatal(err)
	}
	got, err := reader.Release(allow(t, policy.Listen, talk, song), talk, song, wrapped)
	if err != nil || string(got) != string(key) {
		t.Fatalf("the reader opens another key: %v", err)
	}
	if err := writer.RemoveStation(talk); err != nil {
		t.Fatal(err)
	}
	if err := reader.Reload(); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Release(allow(t, policy.Listen, talk, song), talk, song, wrapped); !errors.Is(err, musen.ErrUnavailable) {
		t.Errorf("a key that was destroyed: %v", err)
	}
	for _, err := range []error{reader.AddStation(talk), reader.RemoveStation(jazz)} {
		if err == nil || !strings.Contains(err.Error(), "at the origin") {
			t.Errorf("a reader changes the keyring: %v", err)
		}
	}
	if _, _, err := writer.NewDataKey(jazz, song); err != nil {
		t.Errorf("the writer lost a key: %v", err)
	}
}

// P75: a reader has the keys of credentials that the writer rotated, without a
// restart, and rotates none itself.
func TestReaderFollowsRotation(t *testing.T) {
	writer, dir, unlock := filled(t)
	reader, err := OpenReader(dir, unlock)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	reload := func(want bool) {
		t.Helper()
		if changed, err := reader.ReloadCredentials(); err != nil || changed != want {
			t.Errorf("changed is %t, %v", changed, err)
		}
	}
	reload(false)
	if _, err := writer.RotateIssuer(now, time.Hour); err != nil {
		t.Fatal(err)
	}
	link, err := writer.RotateLink(now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	reload(true)
	reload(false)
	kid, key := writer.IssuerKey()
	got, gotKey := reader.IssuerKey()
	gotLink, _ := reader.LinkKey()
	if got != kid || !gotKey.Equal(key) || gotLink != link || len(reader.OldIssuerKeys(now)) != 1 || len(reader.OldLinkKeys(now)) != 1 || len(reader.OldSessionKeys(now)) != 1 {
		t.Error("a reader has other keys than the writer")
	}
	_, err = reader.RotateIssuer(now, time.Hour)
	_, linkErr := reader.RotateLink(now, time.Hour)
	for _, err := range []error{err, linkErr} {
		if err == nil || !strings.Contains(err.Error(), "at the origin") {
			t.Errorf("a reader rotates: %v", err)
		}
	}
	sound, err := os.ReadFile(filepath.Join(dir, secretsFile))
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, secretsFile, sound[:len(sound)/2])
	if changed, err := reader.ReloadCredentials(); changed || err == nil {
		t.Errorf("half a file: changed is %t, %v", changed, err)
	}
	if again, _ := reader.IssuerKey(); again != kid {
		t.Error("a file that is not sound changed the keys")
	}
	put(t, dir, secretsFile, sound)
	reload(false)
}

// A file that is not sound changes nothing in a reader.
func TestReaderKeepsTheLastGood(t *testing.T) {
	_, dir, unlock := filled(t)
	reader, err := OpenReader(dir, unlock)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, stationsFile)
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{"zeros": make([]byte, len(sound)), "cut": sound[:len(sound)/2], "changed": []byte(strings.Replace(string(sound), jazz, talk, 1))} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := reader.Reload(); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := reader.NewDataKey(jazz, song); err != nil {
			t.Errorf("%s: a key is lost: %v", name, err)
		}
	}
	if err := os.WriteFile(path, sound, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := reader.Reload(); err != nil {
		t.Error(err)
	}
}
