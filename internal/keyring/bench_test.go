package keyring

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/musenai/musen/policy"
)

// One data key made, and one released, as every add and every cold open does.
func BenchmarkDataKey(b *testing.B) {
	dir := b.TempDir()
	unlock := Unlock{IdentityFile: filepath.Join(dir, "identity.txt")}
	e, err := policy.NewEngine(policy.EngineOptions{Now: time.Now})
	if err == nil {
		err = GenerateIdentity(unlock.IdentityFile)
	}
	if err == nil {
		err = Create(filepath.Join(dir, "keyring"), unlock)
	}
	if err != nil {
		b.Fatal(err)
	}
	k, err := Open(filepath.Join(dir, "keyring"), unlock)
	if err == nil {
		err = k.AddStation(jazz)
	}
	if err != nil {
		b.Fatal(err)
	}
	d := e.Decide(policy.LocalOperator(), policy.Listen, policy.Resource{Station: jazz, Segment: song})
	_, w, err := k.NewDataKey(jazz, song)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("New", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := k.NewDataKey(jazz, song); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Release", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := k.Release(d, jazz, song, w); err != nil {
				b.Fatal(err)
			}
		}
	})
}
