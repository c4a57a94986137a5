package client

import (
	"context"
	"errors"
	"slices"
)

// ErrNoValue is returned by [Store.Get] for a row that does not exist.
var ErrNoValue = errors.New("client: no such row in the store")

// A Row is one value under a two-part name.
type Row struct {
	Bucket string
	Key    string
	Value  []byte
}

// A Key names a row.
type Key struct {
	Bucket string
	Key    string
}

// A Batch is a set of changes that are made together or not at all.
//
// Drop empties whole buckets, then Delete removes rows, then Put writes
// rows; a row that is both deleted and put exists afterwards.
type Batch struct {
	Drop   []string
	Delete []Key
	Put    []Row
	// Durable asks that Apply returns only once the batch, and every batch
	// before it, would survive a power failure. Without it a crash may undo
	// the batch, but only together with all batches after it.
	Durable bool
}

// Empty reports whether the batch changes nothing.
func (b *Batch) Empty() bool { return len(b.Drop) == 0 && len(b.Delete) == 0 && len(b.Put) == 0 }

// Set adds a row to the batch.
func (b *Batch) Set(bucket, key string, value []byte) {
	b.Put = append(b.Put, Row{bucket, key, value})
}

// Remove adds the removal of a row to the batch. It undoes an earlier Set.
func (b *Batch) Remove(bucket, key string) {
	b.Put = slices.DeleteFunc(b.Put, func(r Row) bool { return r.Bucket == bucket && r.Key == key })
	b.Delete = append(b.Delete, Key{bucket, key})
}

// Clear adds the removal of all rows of some buckets. It undoes earlier Sets.
func (b *Batch) Clear(buckets ...string) {
	b.Put = slices.DeleteFunc(b.Put, func(r Row) bool { return slices.Contains(buckets, r.Bucket) })
	b.Drop = append(b.Drop, buckets...)
}

// A Store keeps what a device must remember: keys, group state, messages
// that are not posted yet, and the decrypted history. Values are secret; an
// implementation for a shared or portable medium must encrypt and
// authenticate them (see package sqlitestore).
//
// All methods may be called concurrently. Apply is atomic, and batches take
// effect in the order in which Apply was called by one goroutine. Results
// and arguments are never shared: the store copies, or the caller does not
// change what it handed over.
type Store interface {
	// Get returns the value of a row, or an error that matches ErrNoValue.
	Get(ctx context.Context, bucket, key string) ([]byte, error)
	// GetMany returns the values of rows of one bucket in the order of
	// keys; a row that does not exist yields nil.
	GetMany(ctx context.Context, bucket string, keys []string) ([][]byte, error)
	// Bucket returns all rows of a bucket; an unknown bucket is empty.
	Bucket(ctx context.Context, bucket string) (map[string][]byte, error)
	// Apply makes the changes of a batch. After an error none was made.
	Apply(ctx context.Context, b Batch) error
	Close() error
}
