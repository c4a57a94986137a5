package sqlite

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/internal/store/storetest"
)

func TestMain(m *testing.M) {
	storetest.Child(func(path string) (store.Store, error) {
		return Open(context.Background(), Config{Path: path})
	})
	goleak.VerifyTestMain(m)
}

func factory(tb testing.TB) storetest.Open {
	path := filepath.Join(tb.TempDir(), "data", "comity.db")
	return func(tb testing.TB, now func() time.Time) store.Store {
		tb.Helper()
		s, err := Open(context.Background(), Config{Path: path, Now: now})
		if err != nil {
			tb.Fatal(err)
		}
		return s
	}
}

func TestStore(t *testing.T) { storetest.Run(t, factory) }

func TestCrash(t *testing.T) {
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	storetest.Crash(t, filepath.Join(t.TempDir(), "comity.db"), rounds, func(path string) (store.Store, error) {
		return Open(context.Background(), Config{Path: path})
	})
}

func BenchmarkStore(b *testing.B) { storetest.Bench(b, factory) }

func TestModel(t *testing.T) { storetest.Model(t, factory) }
