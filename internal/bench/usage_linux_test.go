package bench

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/comity-im/comity/internal/admin"
)

func TestUsageOf(t *testing.T) {
	// Some processor time, which another source knows, too.
	var times syscall.Rusage
	spent := func() float64 {
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &times); err != nil {
			t.Fatal(err)
		}
		return time.Duration(times.Utime.Nano() + times.Stime.Nano()).Seconds()
	}
	for begin := spent(); spent() < begin+0.1; {
	}
	before := spent()
	u := usageOf(os.Getpid())
	after := spent()
	if u.err != nil || u.cpu < before-0.05 || u.cpu > after+0.05 {
		t.Errorf("%v s, %v; want between %v and %v", u.cpu, u.err, before, after)
	}
	if u.resident < 1<<20 || u.resident > 1<<36 {
		t.Errorf("%d octets of memory", u.resident)
	}
	if u := usageOf(1 << 30); u.err == nil {
		t.Error("a process that is not there has used processor time")
	}
}

func TestPidOf(t *testing.T) {
	dir, err := os.MkdirTemp("", "bench") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if _, err := pidOf(filepath.Join(dir, "none")); err == nil {
		t.Error("a folder without a provider has a process")
	}
	l, err := admin.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if pid, err := pidOf(dir); pid != os.Getpid() || err != nil {
		t.Errorf("process %d, %v; want %d", pid, err, os.Getpid())
	}
}
