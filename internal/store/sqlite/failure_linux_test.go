package sqlite

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/comity-im/comity/internal/store"
)

// TestDiskFull fills a real file system. Each round there is again a little space.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=12m"); err != nil {
		t.Skipf("can't mount a small file system (not root?): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	const rounds, slice = 4, 1 << 20
	if err := os.WriteFile(ballast, make([]byte, rounds*slice), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "comity.db")
	s := mustOpen(t, path)
	create(t, s)
	var good []int
	next := 0
	for round := range rounds {
		var err error
		for n := 0; n < 20_000; n++ {
			// Sizes vary, so that it fills up at different places.
			if err = put(s, next, 100+(next*7919)%9000); err != nil {
				break
			}
			good = append(good, next)
			next++
		}
		if !errors.Is(err, store.ErrFull) {
			t.Fatalf("round %d: after %d events: %v", round, len(good), err)
		}
		// It stays so, and reading goes on.
		if err := put(s, next, 1<<20); !errors.Is(err, store.ErrFull) {
			t.Errorf("round %d: again: %v", round, err)
		}
		acked(t, s, good)
		if err := os.Truncate(ballast, int64(rounds-1-round)*slice); err != nil {
			t.Fatal(err)
		}
		before := len(good)
		for range 10 {
			if err := put(s, next, 500); err != nil {
				t.Fatalf("round %d: with space again: %v", round, err)
			}
			good = append(good, next)
			next++
		}
		if len(good) != before+10 {
			t.Fatal("nothing was written")
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	acked(t, mustOpen(t, path), good)
}

const writeErrorEnv = "COMITY_SQLITE_WRITE_ERROR"

// TestWriteError has the system refuse a write for another reason than a full disk
// (a limit on the size of files, in a child process): the store breaks and stays
// broken, and all that was acknowledged is there after a restart.
func TestWriteError(t *testing.T) {
	if path := os.Getenv(writeErrorEnv); path != "" {
		writeUntilBroken(t, path)
		return
	}
	path := written(t, 0)
	cmd := exec.Command(os.Args[0], "-test.run=^TestWriteError$")
	cmd.Env = append(os.Environ(), writeErrorEnv+"="+path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var good []int
	for line := range strings.Lines(string(out)) {
		if n, ok := strings.CutPrefix(strings.TrimSpace(line), "acked "); ok {
			i, err := strconv.Atoi(n)
			if err != nil {
				t.Fatal(err)
			}
			good = append(good, i)
		}
	}
	if len(good) == 0 || !bytes.Contains(out, []byte("PASS")) {
		t.Fatalf("%d acks\n%s", len(good), out)
	}
	acked(t, mustOpen(t, path), good)
}

func writeUntilBroken(t *testing.T, path string) {
	signal.Ignore(unix.SIGXFSZ)
	s := mustOpen(t, path)
	const most = 3 << 20
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: most, Max: most}); err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		if i == 10_000 {
			t.Fatal("the limit has no effect")
		}
		err := put(s, i, 2000)
		if err == nil {
			fmt.Println("acked", i)
			continue
		}
		if !errors.Is(err, store.ErrBroken) {
			t.Fatalf("got %v, want ErrBroken", err)
		}
		break
	}
	if err := put(s, 1_000_000, 1); !errors.Is(err, store.ErrBroken) || store.Code(err) != "STORE-BROKEN" {
		t.Errorf("writing afterwards: %v", err)
	}
	if _, err := s.ReadLog(t.Context(), room, 0, 0, 0); !errors.Is(err, store.ErrBroken) {
		t.Errorf("reading afterwards: %v", err)
	}
	if err := s.Check(t.Context()); !errors.Is(err, store.ErrBroken) {
		t.Errorf("checking afterwards: %v", err)
	}
}
