package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"math"

	"github.com/comity-im/comity/internal/store"
)

// write runs fn in a batch. fn may be run more than once. What it gives is handed
// out only after the commit: after the error of a context fn may still be running.
func write[R any](ctx context.Context, s *Store, size int, fn func(*tx) (R, error)) (R, error) {
	var res, zero R
	err := s.front.Do(ctx, size, func(t *tx) error {
		r, err := fn(t)
		if err == nil {
			res = r
		}
		return err
	})
	if err != nil {
		return zero, err
	}
	return res, nil
}

// exec is write without a result.
func (s *Store) exec(ctx context.Context, size int, fn func(*tx) error) error {
	return s.front.Do(ctx, size, fn)
}

// usable tells why reads are refused, if they are.
func (s *Store) usable() error {
	select {
	case <-s.closed:
		return store.ErrClosed
	default:
		return s.front.Err()
	}
}

// reading gives the prepared form of a query for the reading connections.
func (s *Store) reading(ctx context.Context, query string) (*sql.Stmt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Under the lock, so that none is prepared once release has closed them.
	if err := s.usable(); err != nil {
		return nil, err
	}
	if stmt, ok := s.stmts[query]; ok {
		return stmt, nil
	}
	stmt, err := s.reader.PrepareContext(ctx, query)
	if err != nil {
		return nil, translate(err)
	}
	s.stmts[query] = stmt
	return stmt, nil
}

// one reads one row; store.ErrNotFound if there is none.
func (s *Store) one(ctx context.Context, query string, args []any, read func(scan func(...any) error) error) error {
	stmt, err := s.reading(ctx, query)
	if err != nil {
		return err
	}
	err = read(stmt.QueryRowContext(ctx, args...).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return store.ErrNotFound
	}
	return s.fault(err)
}

// row reads one row into dest; store.ErrNotFound if there is none.
func (s *Store) row(ctx context.Context, query string, args []any, dest ...any) error {
	return s.one(ctx, query, args, func(scan func(...any) error) error { return scan(dest...) })
}

// errEnough ends a reading before the last row.
var errEnough = errors.New("sqlite: enough")

// rows calls each for every row, until it gives errEnough.
func (s *Store) rows(ctx context.Context, query string, args []any, each func(scan func(...any) error) error) error {
	stmt, err := s.reading(ctx, query)
	if err != nil {
		return err
	}
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return s.fault(err)
	}
	if err := drain(rows, each); !errors.Is(err, errEnough) {
		return s.fault(err)
	}
	return nil
}

// fault gives the error of a reading. When the store was closed or broke meanwhile,
// that is what it says.
func (s *Store) fault(err error) error {
	if err == nil {
		return nil
	}
	if why := s.usable(); why != nil {
		return why
	}
	return translate(err)
}

// nowMs is the clock in the unit of the store.
func (s *Store) nowMs() uint64 { return uint64(max(0, s.now().UnixMilli())) }

// bits keeps all 64 bits of a number in a signed column. SQL must not compare it.
func bits(n uint64) int64 { return int64(n) }

// bounded is a number that SQL compares: positions, ids and times. What is too
// large is as good as infinite.
func bounded(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// blob is never NULL.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// hashOrNull keeps the hash that means none out of unique indexes.
func hashOrNull(h store.Hash) any {
	if h == (store.Hash{}) {
		return nil
	}
	return h[:]
}

// limit is what SQL takes for "no limit" where ours is 0.
func limit(n int) int {
	if n <= 0 {
		return -1
	}
	return n
}
