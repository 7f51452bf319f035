package catalog_test

import (
	"path/filepath"
	"testing"

	"github.com/musenai/musen/catalog"
)

func TestSQLite(t *testing.T) {
	suite(t, func(t *testing.T) func(catalog.Options) *catalog.Catalog {
		path := filepath.Join(t.TempDir(), "catalogue.db")
		return func(o catalog.Options) *catalog.Catalog {
			t.Helper()
			c, err := catalog.Open(t.Context(), path, o)
			noErr(t, err)
			return c
		}
	})
}
