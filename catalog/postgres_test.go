package catalog_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/musenai/musen/catalog"
	"github.com/musenai/musen/internal/testpg"
)

// postgres makes fixtures whose store is a database of that server each.
func postgres(server *testpg.Server) factory {
	var databases atomic.Int64
	return func(t testing.TB) func(catalog.Options) *catalog.Catalog {
		file := newDatabase(t, server, fmt.Sprintf("db%d", databases.Add(1)))
		open := catalog.CreatePostgres
		return func(o catalog.Options) *catalog.Catalog {
			t.Helper()
			c, err := open(t.Context(), file, o)
			noErr(t, err)
			open = catalog.OpenPostgres
			return c
		}
	}
}

// newDatabase makes a database, and a file with what connects to it.
func newDatabase(t testing.TB, server *testpg.Server, name string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "connection")
	noErr(t, os.WriteFile(file, []byte(server.Database(name)+"\n"), 0o600))
	return file
}

// The same suite as on SQLite.
func TestPostgres(t *testing.T) {
	suite(t, postgres(testpg.Start(t)))
}
