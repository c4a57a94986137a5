package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/internal/store/batch"
)

// engine is the one writing connection, as package batch wants it. Only the
// goroutine of the front uses it.
type engine struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
	// rooms holds rows of rooms as this connection has last read or written them.
	// No one else writes, so it is true until something is undone: then it is
	// emptied.
	rooms map[string]roomRow
	// written is the count of pages written when the last checkpoint was made.
	written int
}

// tx is the transaction under way. The engine has but one.
type tx struct {
	e      *engine
	writes int
}

func newEngine(conn *sql.Conn) *engine {
	return &engine{conn: conn, stmts: make(map[string]*sql.Stmt), rooms: make(map[string]roomRow)}
}

func (e *engine) close() error {
	var errs []error
	for _, stmt := range e.stmts {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(append(errs, e.conn.Close())...)
}

// stmt gives the prepared form of a query. Nothing of the writer is tied to a
// caller's context: a statement that is cut off half-way would abort the whole batch.
func (e *engine) stmt(query string) (*sql.Stmt, error) {
	if stmt, ok := e.stmts[query]; ok {
		return stmt, nil
	}
	stmt, err := e.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	e.stmts[query] = stmt
	return stmt, nil
}

func (e *engine) exec(query string) error {
	stmt, err := e.stmt(query)
	if err != nil {
		return err
	}
	_, err = stmt.Exec()
	return err
}

// Begin implements batch.Engine.
func (e *engine) Begin() (*tx, error) {
	if err := e.exec("BEGIN IMMEDIATE"); err != nil {
		return nil, translate(err)
	}
	return &tx{e: e}, nil
}

// Commit implements batch.Engine.
func (e *engine) Commit(*tx) error { return translate(e.exec("COMMIT")) }

// Rollback implements batch.Engine. After some errors SQLite has rolled back by
// itself.
func (e *engine) Rollback(*tx) error {
	clear(e.rooms)
	err := e.exec("ROLLBACK")
	if err != nil && strings.Contains(err.Error(), "no transaction is active") {
		return nil
	}
	return translate(err)
}

// Tidy implements batch.Engine: it copies the WAL into the database when it is long.
func (e *engine) Tidy() error {
	written, err := e.pagesWritten()
	if err != nil {
		return err
	}
	if written-e.written < checkpointPages {
		return nil
	}
	e.written = written
	pages, err := e.checkpoint("PASSIVE")
	if err != nil || pages < restartPages {
		return err
	}
	_, err = e.checkpoint("RESTART")
	return err
}

// checkpoint gives the length of the WAL in pages.
func (e *engine) checkpoint(mode string) (int, error) {
	stmt, err := e.stmt("PRAGMA wal_checkpoint(" + mode + ")")
	if err != nil {
		return 0, translate(err)
	}
	var busy, pages, copied int
	if err := stmt.QueryRow().Scan(&busy, &pages, &copied); err != nil {
		return 0, translate(err)
	}
	return pages, nil
}

// pagesWritten counts the pages this connection has written to the WAL, ever.
func (e *engine) pagesWritten() (n int, err error) {
	err = e.conn.Raw(func(c any) error {
		s, ok := c.(driver.DBStatus)
		if !ok {
			return errors.New("sqlite: the driver does not count pages")
		}
		n, _, err = s.Status(driver.DBStatusCacheWrite, false)
		return err
	})
	return n, err
}

// Classify implements batch.Engine.
func (e *engine) Classify(err error) batch.Class {
	if errors.Is(err, store.ErrCorrupt) {
		return batch.Fatal
	}
	var se *driver.Error
	if !errors.As(err, &se) {
		return batch.Refused
	}
	switch se.Code() & 0xff {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT:
		return batch.Aborted
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN,
		sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERNAL, sqlite3.SQLITE_MISUSE:
		return batch.Fatal
	}
	return batch.Refused
}

// translate gives errors of SQLite and of the system the sentinel that fits. The
// cause stays in the chain.
func translate(err error) error {
	if err == nil || store.Code(err) != "" {
		return err
	}
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%w (cause: %w)", store.ErrFull, err)
	}
	var se *driver.Error
	if !errors.As(err, &se) {
		return err
	}
	switch se.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w (cause: %w)", store.ErrFull, err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w (cause: %w)", store.ErrCorrupt, err)
	}
	return err
}

// maxRooms is how many rows of rooms are kept.
const maxRooms = 10_000

// remember keeps the row of a room.
func (t *tx) remember(uri string, r roomRow) {
	if len(t.e.rooms) >= maxRooms {
		clear(t.e.rooms)
	}
	t.e.rooms[uri] = r
}

// Writes implements batch.Tx.
func (t *tx) Writes() int { return t.writes }

// Savepoint implements batch.Tx.
func (t *tx) Savepoint() error { return translate(t.e.exec("SAVEPOINT op")) }

// Release implements batch.Tx.
func (t *tx) Release() error { return translate(t.e.exec("RELEASE op")) }

// Return implements batch.Tx.
func (t *tx) Return() error {
	clear(t.e.rooms)
	if err := t.e.exec("ROLLBACK TO op"); err != nil {
		return translate(err)
	}
	return translate(t.e.exec("RELEASE op"))
}

// exec runs a statement that changes something.
func (t *tx) exec(query string, args ...any) (sql.Result, error) {
	stmt, err := t.e.stmt(query)
	if err != nil {
		return nil, translate(err)
	}
	t.writes++
	res, err := stmt.Exec(args...)
	return res, translate(err)
}

// do runs a statement whose result is of no interest.
func (t *tx) do(query string, args ...any) error {
	_, err := t.exec(query, args...)
	return err
}

// insert runs an INSERT and gives the id of the row.
func (t *tx) insert(query string, args ...any) (uint64, error) {
	res, err := t.exec(query, args...)
	if err != nil {
		return 0, err
	}
	id, err := res.LastInsertId()
	return uint64(id), err
}

// row reads one row into dest. It tells whether there was one.
func (t *tx) row(query string, args []any, dest ...any) (bool, error) {
	stmt, err := t.e.stmt(query)
	if err != nil {
		return false, translate(err)
	}
	err = stmt.QueryRow(args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, translate(err)
}

// rows calls each for every row.
func (t *tx) rows(query string, args []any, each func(scan func(...any) error) error) error {
	stmt, err := t.e.stmt(query)
	if err != nil {
		return translate(err)
	}
	rows, err := stmt.Query(args...)
	if err != nil {
		return translate(err)
	}
	return drain(rows, each)
}

func drain(rows *sql.Rows, each func(scan func(...any) error) error) error {
	defer rows.Close()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return translate(err)
		}
	}
	return translate(rows.Err())
}

// lockFile keeps other processes out. The file stays when it is released: to
// remove it would race with the next one.
type lockFile struct{ f *os.File }

func lock(path string) (*lockFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("%w (does another user own the folder?)", err)
		}
		return nil, err
	}
	if err := flock(f); err != nil {
		f.Close()
		return nil, err
	}
	return &lockFile{f}, nil
}

func (l *lockFile) release() error { return l.f.Close() }
