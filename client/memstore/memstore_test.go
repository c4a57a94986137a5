package memstore_test

import (
	"errors"
	"testing"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/client/memstore"
	"github.com/comity-im/comity/client/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) client.Store { return memstore.New() })
}

func TestCrash(t *testing.T) {
	s := memstore.NewCrashable()
	put := func(key string, durable bool) {
		b := client.Batch{Durable: durable}
		b.Set("a", key, []byte(key))
		if err := s.Apply(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	put("1", false)
	put("2", true)
	put("3", false)
	put("4", false)
	if n := s.Unsynced(); n != 2 {
		t.Fatalf("%d batches unsynced, want 2", n)
	}
	after := s.Crash(1)
	if err := s.Apply(t.Context(), client.Batch{}); !errors.Is(err, memstore.ErrClosed) {
		t.Errorf("the crashed store answers: %v", err)
	}
	for key, kept := range map[string]bool{"1": true, "2": true, "3": true, "4": false} {
		if _, err := after.Get(t.Context(), "a", key); (err == nil) != kept {
			t.Errorf("row %s: %v, want kept=%v", key, err, kept)
		}
	}
	// What survived one crash survives the next.
	again := after.Crash(0)
	if _, err := again.Get(t.Context(), "a", "3"); err != nil {
		t.Errorf("row 3 after a second crash: %v", err)
	}
}
