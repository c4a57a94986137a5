package sqlitestore

import (
	"bytes"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/client/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cheap is a passphrase with parameters that suit tests.
func cheap(text string) KeySource { return &passphrase{[]byte(text), 1, 64, 1} }

func mustOpen(t *testing.T, path string, key KeySource) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) client.Store {
		return mustOpen(t, filepath.Join(t.TempDir(), "s.db"), cheap("secret"))
	})
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := mustOpen(t, path, cheap("secret"))
	if err := s.Apply(t.Context(), client.Batch{Durable: true, Put: []client.Row{{Bucket: "b", Key: "k", Value: []byte("v")}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path, cheap("secret")); !errors.Is(err, ErrLocked) {
		t.Errorf("second Open: %v, want ErrLocked", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path, cheap("Secret")); !errors.Is(err, ErrWrongKey) {
		t.Errorf("wrong passphrase: %v, want ErrWrongKey", err)
	}
	if _, err := Open(t.Context(), path, cheap("")); err == nil {
		t.Error("an empty passphrase was accepted")
	}
	kf, err := KeyFile(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path, kf); !errors.Is(err, ErrWrongKey) {
		t.Errorf("key file for a passphrase: %v, want ErrWrongKey", err)
	}
	s = mustOpen(t, path, cheap("secret"))
	defer s.Close()
	if v, err := s.Get(t.Context(), "b", "k"); err != nil || string(v) != "v" {
		t.Errorf("got %q, %v", v, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
}

func TestKeyFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.db")
	first, err := KeyFile(filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info.Mode(), err)
	}
	mustOpen(t, path, first).Close()
	again, err := KeyFile(filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	mustOpen(t, path, again).Close()
	other, err := KeyFile(filepath.Join(dir, "other"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path, other); !errors.Is(err, ErrWrongKey) {
		t.Errorf("other key file: %v, want ErrWrongKey", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bad"), []byte("1234"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := KeyFile(filepath.Join(dir, "bad")); err == nil {
		t.Error("a short key file was accepted")
	}
}

func TestRekey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := mustOpen(t, path, cheap("old"))
	if err := s.Apply(t.Context(), client.Batch{Put: []client.Row{{Bucket: "b", Key: "k", Value: []byte("v")}}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Rekey(t.Context(), cheap("not it"), cheap("new")); !errors.Is(err, ErrWrongKey) {
		t.Fatalf("Rekey with the wrong passphrase: %v", err)
	}
	if err := s.Rekey(t.Context(), cheap("old"), cheap("new")); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := Open(t.Context(), path, cheap("old")); !errors.Is(err, ErrWrongKey) {
		t.Errorf("the old passphrase: %v, want ErrWrongKey", err)
	}
	s = mustOpen(t, path, cheap("new"))
	defer s.Close()
	if v, err := s.Get(t.Context(), "b", "k"); err != nil || string(v) != "v" {
		t.Errorf("got %q, %v", v, err)
	}
}

// TestNothingLeaks looks for names and values in the bytes of the files.
func TestNothingLeaks(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.db")
	s := mustOpen(t, path, cheap("secret"))
	needle := strings.Repeat("needle-in-the-hay", 3)
	var b client.Batch
	b.Set("bucket-"+needle, "key-"+needle, []byte("value-"+needle))
	b.Durable = true
	if err := s.Apply(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	look := func() {
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var total int
		for _, f := range files {
			data, err := os.ReadFile(filepath.Join(dir, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			total += len(data)
			if bytes.Contains(data, []byte("needle")) {
				t.Errorf("%s shows what it should hide", f.Name())
			}
		}
		if total == 0 {
			t.Fatal("no file was written")
		}
	}
	look()
	s.Close()
	look()
}

// TestTampering changes, swaps and moves stored values behind the back of
// the store.
func TestTampering(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := mustOpen(t, path, cheap("secret"))
	var b client.Batch
	b.Set("b", "1", []byte("first value"))
	b.Set("b", "2", []byte("other value"))
	if err := s.Apply(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	s.Close()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	// Both rows get the sealed value of one of them: it fits only there.
	if _, err := db.Exec("UPDATE row SET value = (SELECT value FROM row ORDER BY key LIMIT 1)"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	s = mustOpen(t, path, cheap("secret"))
	defer s.Close()
	_, err1 := s.Get(t.Context(), "b", "1")
	_, err2 := s.Get(t.Context(), "b", "2")
	if errors.Is(err1, ErrCorrupt) == errors.Is(err2, ErrCorrupt) {
		t.Errorf("swapped values: %v and %v; want exactly one ErrCorrupt", err1, err2)
	}
	if _, err := s.Bucket(t.Context(), "b"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Bucket: %v, want ErrCorrupt", err)
	}
}

func TestHostileHeader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	mustOpen(t, path, cheap("secret")).Close()
	for _, change := range []struct {
		set  string
		want error
	}{
		{"memory = 4000000000", ErrCorrupt},
		{"time = 0", ErrCorrupt},
		{"time = 1, memory = 128", ErrWrongKey},
		{"memory = 64, version = 2", ErrVersion},
	} {
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec("UPDATE header SET " + change.set); err != nil {
			t.Fatal(err)
		}
		db.Close()
		if _, err := Open(t.Context(), path, cheap("secret")); !errors.Is(err, change.want) {
			t.Errorf("%s: %v, want %v", change.set, err, change.want)
		}
	}
}

func BenchmarkApply(b *testing.B) {
	for name, durable := range map[string]bool{"durable": true, "later": false} {
		b.Run(name, func(b *testing.B) {
			s, err := Open(b.Context(), filepath.Join(b.TempDir(), "s.db"), cheap("secret"))
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			v := make([]byte, 300)
			for b.Loop() {
				batch := client.Batch{Durable: durable}
				batch.Set("group", "ratchet", v)
				batch.Set("history", "1", v)
				batch.Set("room", "cursor", v[:16])
				if err := s.Apply(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
