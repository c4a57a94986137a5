// Package sqlite is the embedded storage engine: a store.Store in one SQLite file,
// without cgo (modernc.org/sqlite).
//
// Start with Open.
//
// One connection writes, behind the group commit front of package batch, and also
// makes all checkpoints; others only read. The database is in WAL mode with
// synchronous=FULL, so that a commit that returned survives a power cut. One
// process may use a database at a time; a lock file next to it sees to that.
//
// It needs SQLite 3.51.3 or later: earlier ones can lose a committed transaction
// when a commit and a checkpoint meet (the "WAL reset" bug).
//
// It does not replicate: a disk that dies takes all with it since the last backup.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/comity-im/comity/internal/store"
	"github.com/comity-im/comity/internal/store/batch"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// applicationID marks our files in the SQLite header: "COMY".
	applicationID = 0x434F4D59

	pageSize = 8192

	// checkpointPages is how many pages may be written to the WAL before they are
	// copied into the database. More makes the pauses longer.
	checkpointPages = 1000
	// restartPages is when a checkpoint waits for readers, so that the WAL starts
	// anew instead of growing on.
	restartPages = 16 * checkpointPages
)

// minVersion is the first SQLite without the WAL reset bug.
var minVersion = [3]int{3, 51, 3}

// Config says where the database is and how it is used. Only Path is required.
type Config struct {
	// Path of the database file. It and its folder are made if they are missing.
	Path string
	// Now is the clock for assigned timestamps; time.Now.
	Now func() time.Time
	// Readers is the number of reading connections; one less than there are
	// processors, at least 2. More of them starve the writer.
	Readers int
	// QuickCheckBelow is the size in bytes up to which Open reads through the whole
	// file for damage. Above it only the parts that hold the structure are read,
	// and Check does the rest. 0 means 256 MiB; negative, never.
	QuickCheckBelow int64
	// Log gets the few things an operator should know; slog.Default().
	Log *slog.Logger
	// Batch sets the sizes of the group commit front.
	Batch batch.Config
}

// Store is the engine. It implements store.Store.
type Store struct {
	path   string
	now    func() time.Time
	log    *slog.Logger
	lock   *lockFile
	writer *sql.DB
	engine *engine
	front  *batch.Front[*tx]
	reader *sql.DB

	// mu guards stmts: the prepared statements of the reading connections.
	mu    sync.Mutex
	stmts map[string]*sql.Stmt

	devices deviceCache

	closeOnce sync.Once
	closeErr  error
	closed    chan struct{}
}

var _ store.Store = (*Store)(nil)

// Open opens or creates a database, brings its form up to date, and looks for
// damage. Its errors are store.ErrLocked, store.ErrCorrupt, store.ErrTooNew,
// store.ErrFull, or what the system said.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Path == "" {
		return nil, fmt.Errorf("%w: the database has no path", store.ErrInvalid)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Readers <= 0 {
		cfg.Readers = max(2, runtime.NumCPU()-1)
	}
	if cfg.QuickCheckBelow == 0 {
		cfg.QuickCheckBelow = 256 << 20
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	s := &Store{path: path, now: cfg.Now, log: cfg.Log, stmts: make(map[string]*sql.Stmt), closed: make(chan struct{})}
	if err := s.open(ctx, path, cfg); err != nil {
		s.release()
		return nil, fmt.Errorf("sqlite: open %s: %w", path, translate(err))
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, path string, cfg Config) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var err error
	if s.lock, err = lock(path + ".lock"); err != nil {
		return err
	}
	// Made here and not by SQLite, which would let everyone read it.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}

	if s.writer, err = sql.Open("sqlite", dsn(path, "_pragma=busy_timeout(10000)")); err != nil {
		return err
	}
	s.writer.SetMaxOpenConns(1)
	if err := checkVersion(ctx, s.writer); err != nil {
		return err
	}
	if err := prepareFile(ctx, s.writer, info.Size() == 0); err != nil {
		return err
	}
	if err := quickCheck(ctx, s.writer, cfg.QuickCheckBelow < 0 || info.Size() > cfg.QuickCheckBelow); err != nil {
		return err
	}
	if err := migrate(ctx, s.writer); err != nil {
		return err
	}
	// The names of the new files have to be on disk too, and that of the folder.
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := syncDir(d); err != nil {
			return err
		}
	}

	conn, err := s.writer.Conn(ctx)
	if err != nil {
		return err
	}
	s.engine = newEngine(conn)
	if s.reader, err = sql.Open("sqlite", dsn(path, "_pragma=busy_timeout(10000)", "_pragma=mmap_size(0)",
		"_pragma=cache_size(-16384)", "_pragma=query_only(1)")); err != nil {
		return err
	}
	s.reader.SetMaxOpenConns(cfg.Readers)
	s.reader.SetMaxIdleConns(cfg.Readers)
	if err := s.reader.PingContext(ctx); err != nil {
		return err
	}

	bc, report := cfg.Batch, cfg.Batch.Broken
	bc.Broken = func(err error) {
		s.log.Error("the store is broken and refuses everything from now on; check the disk, then restart", "code", store.Code(err), "err", err)
		if report != nil {
			report(err)
		}
	}
	s.front = batch.New(s.engine, bc)
	return nil
}

// dsn is the name of a database for the driver. It never makes a file.
func dsn(path string, params ...string) string {
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(path)}
	return u.String() + "?mode=rw&" + strings.Join(params, "&")
}

func checkVersion(ctx context.Context, db *sql.DB) error {
	var version string
	if err := db.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version); err != nil {
		return err
	}
	if !versionOK(version) {
		return fmt.Errorf("SQLite %s can lose committed data (WAL reset bug); build with %d.%d.%d or later",
			version, minVersion[0], minVersion[1], minVersion[2])
	}
	return nil
}

func versionOK(version string) bool {
	parts := strings.Split(version, ".")
	for i, least := range minVersion {
		n := 0
		if i < len(parts) {
			var err error
			if n, err = strconv.Atoi(parts[i]); err != nil {
				return false
			}
		}
		if n != least {
			return n > least
		}
	}
	return true
}

// prepareFile makes sure that the file is ours and sets how the one writing
// connection works.
func prepareFile(ctx context.Context, db *sql.DB, fresh bool) error {
	if fresh {
		if _, err := db.ExecContext(ctx, "PRAGMA page_size="+strconv.Itoa(pageSize)); err != nil {
			return err
		}
	}
	var id, tables int
	if err := db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return err
	}
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return err
	}
	switch {
	case id == applicationID:
	case id == 0 && tables == 0: // new, or cut off while it was made
		if _, err := db.ExecContext(ctx, "PRAGMA application_id="+strconv.Itoa(applicationID)); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%w: it is a database of another program", store.ErrCorrupt)
	}
	for _, p := range []struct{ set, get, want string }{
		{"PRAGMA journal_mode=WAL", "PRAGMA journal_mode", "wal"},
		{"PRAGMA synchronous=FULL", "PRAGMA synchronous", "2"},
		// Checkpoints are made by engine.Tidy, which sees their errors.
		{"PRAGMA wal_autocheckpoint=0", "PRAGMA wal_autocheckpoint", "0"},
		{"PRAGMA journal_size_limit=268435456", "PRAGMA journal_size_limit", "268435456"},
		{"PRAGMA cache_size=-65536", "PRAGMA cache_size", "-65536"},
		{"PRAGMA cell_size_check=ON", "PRAGMA cell_size_check", "1"},
		{"PRAGMA mmap_size=0", "", ""}, // gives no row where it is compiled out
	} {
		if _, err := db.ExecContext(ctx, p.set); err != nil {
			return err
		}
		if p.get == "" {
			continue
		}
		var got string
		if err := db.QueryRowContext(ctx, p.get).Scan(&got); err != nil {
			return err
		}
		if got != p.want {
			return fmt.Errorf("%s gave %q, not %q", p.set, got, p.want)
		}
	}
	return nil
}

// quickCheck looks for damage. When it is partial, it reads the schema and the
// first row by every index, so that it costs milliseconds on any size.
func quickCheck(ctx context.Context, db *sql.DB, partial bool) error {
	if !partial {
		return reportDamage(ctx, db, "PRAGMA quick_check(1)")
	}
	rows, err := db.QueryContext(ctx, "SELECT type, name, tbl_name FROM sqlite_schema WHERE rootpage > 0")
	if err != nil {
		return err
	}
	defer rows.Close()
	var reads []string
	for rows.Next() {
		var kind, name, table string
		if err := rows.Scan(&kind, &name, &table); err != nil {
			return err
		}
		q := `SELECT 1 FROM "` + table + `" NOT INDEXED LIMIT 1`
		if kind == "index" && !strings.HasPrefix(name, "sqlite_autoindex_") {
			continue // partial ones can't be named in a plain query
		}
		reads = append(reads, q)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, q := range reads {
		var one int
		if err := db.QueryRowContext(ctx, q).Scan(&one); err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
	}
	return nil
}

// querier is a sql.DB, a sql.Conn or a sql.Tx.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// reportDamage runs a check of SQLite and gives what it found as ErrCorrupt.
func reportDamage(ctx context.Context, db querier, pragma string) error {
	rows, err := db.QueryContext(ctx, pragma)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var found string
		if err := rows.Scan(&found); err != nil {
			return err
		}
		if found != "ok" {
			return fmt.Errorf("%w (%s)", store.ErrCorrupt, found)
		}
	}
	return rows.Err()
}

// migrate brings the form of the database up to date.
func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	current, target, err := p.GetVersions(ctx)
	if err != nil {
		return err
	}
	if current > target {
		return fmt.Errorf("%w (its form is %d, this program knows %d)", store.ErrTooNew, current, target)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// Close waits for writes under way, then releases the database.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		close(s.closed)
		s.front.Close()
		s.closeErr = s.release()
	})
	return s.closeErr
}

// release closes what was opened, in the reverse order.
func (s *Store) release() error {
	var errs []error
	s.mu.Lock()
	for _, stmt := range s.stmts {
		errs = append(errs, stmt.Close())
	}
	clear(s.stmts)
	s.mu.Unlock()
	if s.reader != nil {
		errs = append(errs, s.reader.Close())
	}
	if s.engine != nil {
		errs = append(errs, s.engine.close())
	}
	if s.writer != nil {
		errs = append(errs, s.writer.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.release())
	}
	return errors.Join(errs...)
}

// Check implements store.Store.
func (s *Store) Check(ctx context.Context) error {
	if err := s.usable(); err != nil {
		return err
	}
	if err := reportDamage(ctx, s.reader, "PRAGMA integrity_check(1)"); err != nil {
		return s.fault(err)
	}
	// Logs have no gaps, and heads say where they end.
	var room string
	err := s.reader.QueryRowContext(ctx, `SELECT r.uri FROM room AS r
		LEFT JOIN (SELECT room_id, count(*) AS n, max(pos) AS last FROM event GROUP BY room_id) AS e ON e.room_id = r.id
		WHERE r.head <> coalesce(e.n, 0) OR r.head <> coalesce(e.last, 0) LIMIT 1`).Scan(&room)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return s.fault(err)
	}
	return fmt.Errorf("%w (the log of room %s has a gap)", store.ErrCorrupt, room)
}

// Backup writes a copy of the database, as it is at one moment, to a new file,
// while the store is in use. When it returns nil, the copy is on stable storage.
// The file must not exist: store.ErrExists.
func (s *Store) Backup(ctx context.Context, path string) error {
	if err := s.usable(); err != nil {
		return err
	}
	// Made here, so that no one else can read it and nothing is overwritten.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s", store.ErrExists, path)
	}
	if err != nil {
		return fmt.Errorf("sqlite: backup: %w", err)
	}
	defer f.Close()
	err = s.copyTo(ctx, path)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		os.Remove(path)
		return fmt.Errorf("sqlite: backup to %s: %w", path, s.fault(err))
	}
	return nil
}

// copyTo uses a connection of its own: those for reading may not write anywhere.
func (s *Store) copyTo(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite", dsn(s.path, "_pragma=busy_timeout(10000)"))
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, "VACUUM INTO ?", path)
	return err
}
