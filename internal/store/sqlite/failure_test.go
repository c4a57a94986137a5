package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/comity-im/comity/internal/store"
)

const room = "mimi://hub.example/r/a"

func mustOpen(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// put appends an event of a size, of which i is the name.
func put(s *Store, i, size int) error {
	body := make([]byte, size)
	copy(body, fmt.Sprint(i))
	_, err := s.Append(context.Background(), store.Append{
		Room: room, Events: []store.NewEvent{{Hash: sha256.Sum256(fmt.Append(nil, i)), Body: body}},
		State: store.Delta{Put: []store.KV{{Key: "last", Value: fmt.Append(nil, i)}}},
	})
	return err
}

// written makes a room with n events in a new database and closes it.
func written(t *testing.T, n int) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "comity.db")
	s := mustOpen(t, path)
	create(t, s)
	for i := range n {
		if err := put(s, i, 4000); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func create(t *testing.T, s *Store) {
	t.Helper()
	if _, err := s.CreateRoom(t.Context(), store.CreateRoom{Room: room, Hub: "hub.example"}); err != nil {
		t.Fatal(err)
	}
}

// acked checks that the log consists of the events named, no more and no less.
func acked(t *testing.T, s *Store, want []int) {
	t.Helper()
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	events, err := s.ReadLog(t.Context(), room, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(events) != len(want) {
		t.Fatalf("%d events are there, %d were acknowledged", len(events), len(want))
	}
	for i, n := range want {
		if events[i].Hash != sha256.Sum256(fmt.Append(nil, n)) {
			t.Errorf("event %d is not %d", i, n)
		}
	}
}

func TestVersion(t *testing.T) {
	for v, want := range map[string]bool{
		"3.51.3": true, "3.51.10": true, "3.52.0": true, "3.54.1": true, "4.0.0": true, "3.52": true,
		"3.51.2": false, "3.40.1": false, "3.51": false, "2.99.99": false, "x": false, "": false,
	} {
		if got := versionOK(v); got != want {
			t.Errorf("versionOK(%q) = %t", v, got)
		}
	}
}

func TestHowItIsOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "comity ü?#%.db")
	s := mustOpen(t, path)
	create(t, s)
	err := s.exec(t.Context(), 0, func(tx *tx) error {
		for pragma, want := range map[string]string{
			"synchronous": "2", "journal_mode": "wal", "page_size": "8192", "wal_autocheckpoint": "0", "mmap_size": "0",
		} {
			var got string
			if _, err := tx.row("PRAGMA "+pragma, nil, &got); err != nil {
				return err
			}
			if got != want {
				t.Errorf("%s is %s, want %s", pragma, got, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := s.reader.Exec("DELETE FROM room"); err == nil {
		t.Error("a reading connection can write")
	}
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if perm := info.Mode().Perm(); perm != 0o600 {
			t.Errorf("%s has mode %o", suffix, perm)
		}
	}
}

func TestLocked(t *testing.T) {
	path := written(t, 1)
	s := mustOpen(t, path)
	_, err := Open(t.Context(), Config{Path: path})
	if !errors.Is(err, store.ErrLocked) || store.Code(err) != "STORE-LOCKED" {
		t.Errorf("got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, path)
}

func TestTooNew(t *testing.T) {
	path := written(t, 1)
	db, err := sql.Open("sqlite", dsn(path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, 1)"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	_, err = Open(t.Context(), Config{Path: path})
	if !errors.Is(err, store.ErrTooNew) {
		t.Errorf("got %v", err)
	}
}

func TestCorrupt(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, path string)
		large  bool // as if the file were too large to be read through
	}{
		{"not a database", func(t *testing.T, path string) { overwrite(t, path, 0, []byte("this is not it, really not")) }, false},
		{"not a database, large", func(t *testing.T, path string) { overwrite(t, path, 0, []byte("this is not it, really not")) }, true},
		{"cut off", func(t *testing.T, path string) { truncate(t, path, 5*pageSize) }, false},
		{"cut off, large", func(t *testing.T, path string) { truncate(t, path, 5*pageSize) }, true},
		{"pages zeroed", func(t *testing.T, path string) {
			for page := int64(1); page < 30; page++ {
				overwrite(t, path, page*pageSize, make([]byte, 64))
			}
		}, false},
		{"schema", func(t *testing.T, path string) { overwrite(t, path, 100, make([]byte, 200)) }, true},
		{"of another program", func(t *testing.T, path string) { overwrite(t, path, 68, []byte("ELSE")) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := written(t, 100)
			c.damage(t, path)
			cfg := Config{Path: path}
			if c.large {
				cfg.QuickCheckBelow = -1
			}
			s, err := Open(t.Context(), cfg)
			if err == nil {
				s.Close()
			}
			if !errors.Is(err, store.ErrCorrupt) || store.Code(err) != "STORE-CORRUPT" {
				t.Errorf("got %v", err)
			}
			// The lock is free again, for the repair.
			if l, err := lock(path + ".lock"); err != nil {
				t.Error(err)
			} else {
				l.release()
			}
		})
	}
}

// TestCheckFindsDamage damages what Open does not read in a large database.
func TestCheckFindsDamage(t *testing.T) {
	path := written(t, 400)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	// The content of a page in the midst of the log goes.
	overwrite(t, path, info.Size()/pageSize/2*pageSize, make([]byte, pageSize))
	s, err := Open(t.Context(), Config{Path: path, QuickCheckBelow: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Check(t.Context()); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}

func TestCheckFindsGap(t *testing.T) {
	s := mustOpen(t, written(t, 5))
	if err := s.exec(t.Context(), 0, func(tx *tx) error { return tx.do("DELETE FROM event WHERE pos = 3") }); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context()); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}

func overwrite(t *testing.T, path string, at int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// TestNeighbours has an operation that fails in the midst of its writing, in one
// batch with others: it leaves nothing and they don't notice.
func TestNeighbours(t *testing.T) {
	s := mustOpen(t, written(t, 0))
	held, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	once := sync.OnceFunc(func() { close(held); <-release })
	wg.Go(func() { s.exec(context.Background(), 0, func(*tx) error { once(); return nil }) })
	<-held
	errs := make([]error, 9)
	for i := range errs {
		wg.Go(func() {
			if i == 4 {
				errs[i] = s.exec(context.Background(), 0, func(tx *tx) error {
					if _, err := tx.append(1, roomRow{id: 1, head: 50}, &store.Append{Room: room, Events: []store.NewEvent{{Body: []byte("x")}}}); err != nil {
						return err
					}
					// A constraint that the engine has not checked for.
					return tx.do("INSERT INTO room (id, uri, hub, is_hub, epoch, head, last_ts) VALUES (1, 'x', 'x', 0, 0, 0, 0)")
				})
				return
			}
			errs[i] = put(s, i, 100)
		})
	}
	close(release)
	wg.Wait()
	for i, err := range errs {
		if (err != nil) != (i == 4) {
			t.Errorf("operation %d: %v", i, err)
		}
	}
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	info, err := s.Room(t.Context(), room)
	if err != nil || info.Head != 8 {
		t.Errorf("head %d, error %v; want 8", info.Head, err)
	}
}

// TestFull lets the database grow to a limit, which SQLite treats like a full disk.
func TestFull(t *testing.T) {
	path := written(t, 0)
	s := mustOpen(t, path)
	limit := func(pages int) {
		t.Helper()
		if err := s.exec(t.Context(), 0, func(tx *tx) error {
			_, err := tx.row(fmt.Sprint("PRAGMA max_page_count=", pages), nil, new(int))
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	limit(100)
	var good []int
	var err error
	i := 0
	for ; i < 1000; i++ {
		if err = put(s, i, 4000); err != nil {
			break
		}
		good = append(good, i)
	}
	if !errors.Is(err, store.ErrFull) || store.Code(err) != "STORE-FULL" {
		t.Fatalf("after %d: %v", i, err)
	}
	acked(t, s, good)
	state, _, err := s.RoomState(t.Context(), room)
	if err != nil || string(state["last"]) != fmt.Sprint(good[len(good)-1]) {
		t.Errorf("the last record is %q, error %v", state["last"], err)
	}
	limit(10000)
	for n := i; n < i+20; n++ {
		if err := put(s, n, 4000); err != nil {
			t.Fatal(err)
		}
		good = append(good, n)
	}
	acked(t, s, good)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	acked(t, mustOpen(t, path), good)
}

func TestBackup(t *testing.T) {
	s := mustOpen(t, written(t, 20))
	copied := filepath.Join(t.TempDir(), "copy.db")
	if err := s.Backup(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	if err := put(s, 20, 10); err != nil { // goes on, and is not in the copy
		t.Fatal(err)
	}
	if err := s.Backup(t.Context(), copied); !errors.Is(err, store.ErrExists) {
		t.Errorf("over an existing file: %v", err)
	}
	if info, err := os.Stat(copied); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, error %v", info.Mode(), err)
	}
	want := make([]int, 20)
	for i := range want {
		want[i] = i
	}
	c := mustOpen(t, copied)
	acked(t, c, want)
	if err := put(c, 99, 10); err != nil {
		t.Errorf("the copy can't be used: %v", err)
	}
	if err := s.Backup(t.Context(), filepath.Join(t.TempDir(), "no such folder", "x.db")); err == nil {
		t.Error("no error where there is no folder")
	}
}

// TestCloseWhileReading checks that readings that are cut off say why.
func TestCloseWhileReading(t *testing.T) {
	s := mustOpen(t, written(t, 50))
	var wg sync.WaitGroup
	started := make(chan struct{}, 8)
	for range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				_, err := s.ReadLog(context.Background(), room, 0, 0, 0)
				if err == nil {
					_, _, err = s.RoomState(context.Background(), room)
				}
				if i == 3 {
					started <- struct{}{}
				}
				if err != nil {
					if !errors.Is(err, store.ErrClosed) {
						t.Errorf("got %v", err)
					}
					return
				}
			}
		})
	}
	for range 8 {
		<-started
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

// TestTidy checks that the WAL does not grow for ever, even with readers about.
func TestTidy(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 300 MB")
	}
	path := written(t, 0)
	s := mustOpen(t, path)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if _, err := s.ReadLog(context.Background(), room, 0, 10, 0); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	const body = 1 << 20
	for i := range 300 {
		if err := put(s, i, body); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
	info, err := os.Stat(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	// Readers delay a restart by a little; without one there would be over 300 MB.
	if most := int64(restartPages+restartPages/2) * (pageSize + 24); info.Size() > most {
		t.Errorf("the WAL has %d bytes, at most %d are wanted", info.Size(), most)
	}
}
