// Package memstore is a [client.Store] in memory: for tests, for
// simulations, and for a browser tab that is to forget everything.
//
// It also plays a power failure: [Store.Crash] returns what a disk would
// hold, so a test can stop a device at any instant.
package memstore

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"sync"

	"github.com/comity-im/comity/client"
)

// ErrClosed is returned after Close.
var ErrClosed = errors.New("memstore: closed")

// Store implements client.Store. The zero value is not ready; see New.
type Store struct {
	// mu guards all fields. synced is the state as of the last durable
	// batch, kept only if crashes are to be played.
	mu      sync.Mutex
	rows    map[string]map[string][]byte
	later   []client.Batch // since the last durable batch
	synced  map[string]map[string][]byte
	track   bool
	closed  bool
	failing error
	batches int
}

// New returns an empty store.
func New() *Store { return &Store{rows: map[string]map[string][]byte{}} }

// NewCrashable returns an empty store for which Crash works; it uses twice
// the memory.
func NewCrashable() *Store {
	s := New()
	s.track = true
	s.synced = map[string]map[string][]byte{}
	return s
}

// Get implements client.Store.
func (s *Store) Get(_ context.Context, bucket, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	v, ok := s.rows[bucket][key]
	if !ok {
		return nil, client.ErrNoValue
	}
	return bytes.Clone(v), nil
}

// GetMany implements client.Store.
func (s *Store) GetMany(_ context.Context, bucket string, keys []string) ([][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	out := make([][]byte, len(keys))
	for i, k := range keys {
		if v, ok := s.rows[bucket][k]; ok {
			out[i] = append([]byte{}, v...)
		}
	}
	return out, nil
}

// Bucket implements client.Store.
func (s *Store) Bucket(_ context.Context, bucket string) (map[string][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	out := make(map[string][]byte, len(s.rows[bucket]))
	for k, v := range s.rows[bucket] {
		out[k] = bytes.Clone(v)
	}
	return out, nil
}

// Apply implements client.Store.
func (s *Store) Apply(_ context.Context, b client.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if s.failing != nil {
		return s.failing
	}
	put := make([]client.Row, len(b.Put))
	for i, r := range b.Put {
		put[i] = client.Row{Bucket: r.Bucket, Key: r.Key, Value: append([]byte{}, r.Value...)}
	}
	b.Put = put
	s.batches++
	apply(s.rows, b)
	if s.track {
		s.later = append(s.later, b)
		if b.Durable {
			for _, l := range s.later {
				apply(s.synced, l)
			}
			s.later = nil
		}
	}
	return nil
}

func apply(rows map[string]map[string][]byte, b client.Batch) {
	for _, bucket := range b.Drop {
		delete(rows, bucket)
	}
	for _, k := range b.Delete {
		delete(rows[k.Bucket], k.Key)
	}
	for _, r := range b.Put {
		m := rows[r.Bucket]
		if m == nil {
			m = map[string][]byte{}
			rows[r.Bucket] = m
		}
		m[r.Key] = r.Value
	}
}

// Crash returns a store that holds what a disk could hold if the power
// failed now: everything up to the last durable batch, and after it the
// first keep batches that were not durable. The old store is closed. It
// panics unless the store is from NewCrashable.
func (s *Store) Crash(keep int) *Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.track {
		panic("memstore: Crash needs a store from NewCrashable")
	}
	s.closed = true
	n := NewCrashable()
	for _, rows := range []map[string]map[string][]byte{n.rows, n.synced} {
		for bucket, m := range s.synced {
			rows[bucket] = maps.Clone(m)
		}
		for _, b := range s.later[:min(keep, len(s.later))] {
			apply(rows, b)
		}
	}
	return n
}

// Unsynced returns how many batches a crash could undo.
func (s *Store) Unsynced() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.later)
}

// Batches returns how many batches were applied.
func (s *Store) Batches() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.batches
}

// Fail makes every Apply return err until it is called with nil: a full
// disk.
func (s *Store) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing = err
}

// Close implements client.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}
