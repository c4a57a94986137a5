// Package sqlitestore is a [client.Store] in one SQLite file whose content
// is of no use without a passphrase or a key file.
//
// Start with [Open]. Every value is sealed with AES-256-GCM under a random
// data key; the row's name is authenticated with it, so rows can't be
// swapped. Names are stored as HMACs, so neither rooms nor users can be read
// from the file. The data key is wrapped with a key from a passphrase
// (Argon2id) or from a key file.
//
// What the file does show: how many rows there are, which of them share a
// bucket, their sizes, and when they change. A file that is replaced by an
// older copy of itself is not noticed here; a device notices it when the
// provider repeats messages that the copy has not sent.
//
// One process may have the file open; a lock file beside it sees to that.
package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	_ "modernc.org/sqlite" // the database engine

	"github.com/comity-im/comity/client"
)

// Errors of Open.
var (
	// ErrLocked: another process uses the file.
	ErrLocked = errors.New("sqlitestore: another process uses this store")
	// ErrWrongKey: the passphrase or key file does not open this store.
	ErrWrongKey = errors.New("sqlitestore: wrong passphrase or key file")
	// ErrCorrupt: a value was changed by someone who does not hold the key,
	// or the medium is damaged.
	ErrCorrupt = errors.New("sqlitestore: a stored value is damaged or was tampered with")
	// ErrVersion: the file is from a newer version of Comity.
	ErrVersion = errors.New("sqlitestore: the store has a format that this version does not know; use a newer one")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("sqlitestore: closed")
)

// formatVersion is the format that this package reads and writes.
const formatVersion = 1

const schema = `
CREATE TABLE IF NOT EXISTS header (
  id      INTEGER PRIMARY KEY CHECK (id = 1),
  version INTEGER NOT NULL,
  kdf     INTEGER NOT NULL,
  salt    BLOB    NOT NULL,
  time    INTEGER NOT NULL,
  memory  INTEGER NOT NULL,
  threads INTEGER NOT NULL,
  wrapped BLOB    NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS row (
  bucket BLOB NOT NULL,
  key    BLOB NOT NULL,
  value  BLOB NOT NULL,
  PRIMARY KEY (bucket, key)
) STRICT, WITHOUT ROWID;
`

// Store implements client.Store.
type Store struct {
	lock *lockFile
	db   *sql.DB
	seal *sealer

	// mu serialises use of the connection and guards the fields below. The
	// engine has one writer anyway, and a device's reads are short.
	mu     sync.Mutex
	conn   *sql.Conn
	full   bool // the connection syncs on commit
	get    *sql.Stmt
	all    *sql.Stmt
	put    *sql.Stmt
	del    *sql.Stmt
	drop   *sql.Stmt
	closed bool
}

// Open opens the store at path, and creates it if there is none. The
// directory must exist. It fails with an error that matches ErrLocked or
// ErrWrongKey, among others.
func Open(ctx context.Context, path string, key KeySource) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: %w", err)
	}
	lock, err := acquire(path + ".lock")
	if err != nil {
		return nil, err
	}
	s, err := open(ctx, path, key)
	if err != nil {
		lock.release()
		return nil, err
	}
	s.lock = lock
	return s, nil
}

func open(ctx context.Context, path string, key KeySource) (_ *Store, err error) {
	// The file is created here so that nobody else may ever read it.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("sqlitestore: %w", err)
	}
	dsn := (&url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: url.Values{
		"_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "secure_delete(ON)", "busy_timeout(5000)", "temp_store(MEMORY)", "cache_size(-2000)"},
	}.Encode()}).String()
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: %w", err)
	}
	s := &Store{db: db, full: true}
	defer func() {
		if err != nil {
			s.shut()
		}
	}()
	if s.conn, err = db.Conn(ctx); err != nil {
		return nil, fmt.Errorf("sqlitestore: open %s: %w", filepath.Base(path), err)
	}
	if _, err := s.conn.ExecContext(ctx, schema); err != nil {
		return nil, fmt.Errorf("sqlitestore: open %s: %w", filepath.Base(path), err)
	}
	if s.seal, err = s.unlock(ctx, key); err != nil {
		return nil, err
	}
	for _, p := range []struct {
		to    **sql.Stmt
		query string
	}{
		{&s.get, "SELECT value FROM row WHERE bucket = ? AND key = ?"},
		{&s.all, "SELECT key, value FROM row WHERE bucket = ?"},
		{&s.put, "INSERT INTO row (bucket, key, value) VALUES (?, ?, ?) ON CONFLICT (bucket, key) DO UPDATE SET value = excluded.value"},
		{&s.del, "DELETE FROM row WHERE bucket = ? AND key = ?"},
		{&s.drop, "DELETE FROM row WHERE bucket = ?"},
	} {
		if *p.to, err = s.conn.PrepareContext(ctx, p.query); err != nil {
			return nil, fmt.Errorf("sqlitestore: %w", err)
		}
	}
	return s, nil
}

// unlock reads the header, or writes a new one, and returns the data key.
func (s *Store) unlock(ctx context.Context, key KeySource) (*sealer, error) {
	h, err := readHeader(ctx, s.conn)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		h, data, err := newHeader(key)
		if err != nil {
			return nil, err
		}
		if err := h.write(ctx, s.conn); err != nil {
			return nil, err
		}
		return newSealer(data)
	case err != nil:
		return nil, fmt.Errorf("sqlitestore: read header: %w", err)
	}
	data, err := h.unwrap(key)
	if err != nil {
		return nil, err
	}
	return newSealer(data)
}

// Rekey replaces the passphrase or key file. The data key stays, so who has
// an old copy of the file and the old passphrase can still read that copy,
// and newer ones from which the data key was taken.
func (s *Store) Rekey(ctx context.Context, from, to KeySource) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	h, err := readHeader(ctx, s.conn)
	if err != nil {
		return fmt.Errorf("sqlitestore: read header: %w", err)
	}
	data, err := h.unwrap(from)
	if err != nil {
		return err
	}
	h, err = wrapHeader(to, data)
	if err != nil {
		return err
	}
	if err := s.sync(true); err != nil {
		return err
	}
	return h.write(ctx, s.conn)
}

// Get implements client.Store.
func (s *Store) Get(ctx context.Context, bucket, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	return s.getLocked(ctx, s.seal.bucket(bucket), bucket, key)
}

func (s *Store) getLocked(ctx context.Context, bucketMAC []byte, bucket, key string) ([]byte, error) {
	keyMAC := s.seal.key(bucket, key)
	var sealed []byte
	err := s.get.QueryRowContext(ctx, bucketMAC, keyMAC).Scan(&sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, client.ErrNoValue
	}
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: read: %w", err)
	}
	_, value, err := s.seal.open(bucketMAC, keyMAC, sealed)
	return value, err
}

// GetMany implements client.Store.
func (s *Store) GetMany(ctx context.Context, bucket string, keys []string) ([][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	out := make([][]byte, len(keys))
	bucketMAC := s.seal.bucket(bucket)
	for i, k := range keys {
		v, err := s.getLocked(ctx, bucketMAC, bucket, k)
		switch {
		case errors.Is(err, client.ErrNoValue):
		case err != nil:
			return nil, err
		default:
			out[i] = v
		}
	}
	return out, nil
}

// Bucket implements client.Store.
func (s *Store) Bucket(ctx context.Context, bucket string) (map[string][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	bucketMAC := s.seal.bucket(bucket)
	rows, err := s.all.QueryContext(ctx, bucketMAC)
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: read: %w", err)
	}
	defer rows.Close()
	out := map[string][]byte{}
	for rows.Next() {
		var keyMAC, sealed []byte
		if err := rows.Scan(&keyMAC, &sealed); err != nil {
			return nil, fmt.Errorf("sqlitestore: read: %w", err)
		}
		key, value, err := s.seal.open(bucketMAC, keyMAC, sealed)
		if err != nil {
			return nil, err
		}
		out[key] = value
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("sqlitestore: read: %w", err)
	}
	return out, nil
}

// Apply implements client.Store. A durable batch costs one fsync of the
// write-ahead log, which also covers all batches before it.
func (s *Store) Apply(ctx context.Context, b client.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// Once begun, a batch is finished: a statement that is interrupted half
	// way would only have to be rolled back.
	ctx = context.WithoutCancel(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if err := s.sync(b.Durable); err != nil {
		return err
	}
	if _, err := s.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("sqlitestore: begin: %w", err)
	}
	err := s.write(ctx, &b)
	if err == nil {
		_, err = s.conn.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		// Some failures, such as a full disk, have rolled back already.
		_, _ = s.conn.ExecContext(ctx, "ROLLBACK")
		return fmt.Errorf("sqlitestore: write: %w", err)
	}
	return nil
}

func (s *Store) write(ctx context.Context, b *client.Batch) error {
	for _, bucket := range b.Drop {
		if _, err := s.drop.ExecContext(ctx, s.seal.bucket(bucket)); err != nil {
			return err
		}
	}
	for _, k := range b.Delete {
		if _, err := s.del.ExecContext(ctx, s.seal.bucket(k.Bucket), s.seal.key(k.Bucket, k.Key)); err != nil {
			return err
		}
	}
	for _, r := range b.Put {
		bucketMAC, keyMAC := s.seal.bucket(r.Bucket), s.seal.key(r.Bucket, r.Key)
		if _, err := s.put.ExecContext(ctx, bucketMAC, keyMAC, s.seal.seal(bucketMAC, keyMAC, r.Key, r.Value)); err != nil {
			return err
		}
	}
	if b.Durable && b.Empty() {
		// A transaction without changes would not sync the ones before it.
		if _, err := s.conn.ExecContext(ctx, "UPDATE header SET version = version WHERE id = 1"); err != nil {
			return err
		}
	}
	return nil
}

// sync sets whether the next commit waits for the medium.
func (s *Store) sync(full bool) error {
	if s.full == full {
		return nil
	}
	mode := "NORMAL"
	if full {
		mode = "FULL"
	}
	if _, err := s.conn.ExecContext(context.Background(), "PRAGMA synchronous = "+mode); err != nil {
		return fmt.Errorf("sqlitestore: %w", err)
	}
	s.full = full
	return nil
}

// Close implements client.Store. It is safe to call twice.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.shut()
	s.lock.release()
	return err
}

func (s *Store) shut() error {
	for _, st := range []*sql.Stmt{s.get, s.all, s.put, s.del, s.drop} {
		if st != nil {
			_ = st.Close()
		}
	}
	if s.conn != nil {
		_ = s.conn.Close()
	}
	if s.seal != nil {
		s.seal.wipe()
	}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("sqlitestore: close: %w", err)
	}
	return nil
}
