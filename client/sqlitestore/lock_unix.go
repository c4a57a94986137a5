//go:build unix

package sqlitestore

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// A lockFile keeps other processes out as long as it is open. The kernel
// releases it when the process ends, however that happens; the file stays.
type lockFile struct{ f *os.File }

func acquire(path string) (*lockFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: lock file: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrLocked
		}
		return nil, fmt.Errorf("sqlitestore: lock file: %w", err)
	}
	return &lockFile{f}, nil
}

func (l *lockFile) release() { _ = l.f.Close() }
