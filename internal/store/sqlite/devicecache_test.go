package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/comity-im/comity/internal/store"
)

func enrolled(t *testing.T, s *Store, uri string) store.Device {
	t.Helper()
	const user = "mimi://hub.example/u/alice"
	code := store.Hash{1, byte(len(uri))}
	d := store.Device{URI: uri, User: user, PublicKey: []byte{1}, Certificate: []byte{2}, Data: []byte{3}}
	for _, err := range []error{
		s.PutUser(t.Context(), store.User{URI: user}),
		s.PutEnrolment(t.Context(), store.Enrolment{CodeHash: code, User: user, Expires: 10}),
		s.UseEnrolment(t.Context(), code, d, 1),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// Once PutDevice has returned, nobody reads the device as it was before,
// whoever reads it meanwhile.
func TestRevocationCountsAtOnce(t *testing.T) {
	s := mustOpen(t, filepath.Join(t.TempDir(), "comity.db"))
	const uri = "mimi://hub.example/d/alice/phone"
	d := enrolled(t, s, uri)
	var written atomic.Uint64 // Revoked of the last write that has returned
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				least := written.Load()
				got, err := s.Device(t.Context(), uri)
				if err != nil || got.Revoked < least {
					t.Errorf("revoked at %d is read after %d was written (%v)", got.Revoked, least, err)
					return
				}
			}
		})
	}
	for n := uint64(1); n <= 100; n++ {
		d.Revoked = n
		ctx, cancel := t.Context(), func() {}
		if n%3 == 0 { // given up while it is written: it counts all the same
			ctx, cancel = context.WithCancel(ctx)
			go cancel()
		}
		err := s.PutDevice(ctx, d)
		cancel()
		switch {
		case err == nil:
			written.Store(n)
		case !errors.Is(err, context.Canceled):
			t.Fatal(err)
		}
	}
	stop()
	wg.Wait()
	if err := s.RemoveDevice(t.Context(), uri); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Device(t.Context(), uri); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a removed device: %v", err)
	}
}

func TestDeviceCache(t *testing.T) {
	s := mustOpen(t, filepath.Join(t.TempDir(), "comity.db"))
	const uri = "mimi://hub.example/d/alice/phone"
	enrolled(t, s, uri)
	for range 3 {
		d, err := s.Device(t.Context(), uri)
		if err != nil || d.PublicKey[0] != 1 || d.Certificate[0] != 2 || d.Data[0] != 3 {
			t.Fatalf("%+v, %v", d, err)
		}
		d.PublicKey[0], d.Certificate[0], d.Data[0] = 9, 9, 9 // the caller's own
	}
	if len(s.devices.devices) != 1 {
		t.Errorf("%d devices are kept, want 1", len(s.devices.devices))
	}
	for i := range maxCachedDevices + 10 {
		_, mark, _ := s.devices.get("x")
		s.devices.put(store.Device{URI: fmt.Sprint(i)}, mark)
	}
	if n := len(s.devices.devices); n != maxCachedDevices {
		t.Errorf("%d devices are kept, want %d", n, maxCachedDevices)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Device(t.Context(), uri); !errors.Is(err, store.ErrClosed) {
		t.Errorf("from a closed store: %v", err)
	}
}
