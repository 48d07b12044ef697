package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"modernc.org/sqlite" // registers the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// openSQLite opens two handles on one file: a writer with a single connection,
// so that writers queue in Go and never meet SQLITE_BUSY inside the process,
// and a pool of readers that WAL mode keeps from blocking.
func openSQLite(ctx context.Context, opts Options) (*DB, error) {
	path := filepath.Join(opts.DataDir, "certctl.db")
	if err := closeToOthers(path); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	writer, err := sql.Open("sqlite", sqliteDSN(path, "immediate", false))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	writer.SetMaxOpenConns(1)
	if err := writer.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), writer.Close())
	}
	reader, err := sql.Open("sqlite", sqliteDSN(path, "deferred", true))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), writer.Close())
	}
	readers := opts.MaxConns
	if readers <= 0 {
		readers = max(4, runtime.NumCPU())
	}
	reader.SetMaxOpenConns(readers)
	reader.SetMaxIdleConns(readers)
	done := make(chan struct{})
	close(done)
	return &DB{engine: SQLite, writer: writer, reader: reader, hub: newHub(), stop: func() {}, done: done}, nil
}

// closeToOthers makes the database a file that only this user reads, also in a
// directory that others can enter. SQLite gives the files beside it, such as
// the write-ahead log, the same mode.
func closeToOthers(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(file.Chmod(0o600), file.Close())
}

func sqliteDSN(path, lock string, readOnly bool) string {
	pragmas := []string{
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)",
		"temp_store(MEMORY)", "cache_size(-16000)",
	}
	if readOnly {
		pragmas = append(pragmas, "query_only(1)")
	}
	query := url.Values{"_pragma": pragmas, "_txlock": {lock}, "_time_format": {"sqlite"}}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}).String()
}

func sqliteBusy(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_BUSY
}

// sqliteUnique reads the columns from the message, as the engine tells them
// nowhere else: "UNIQUE constraint failed: agent.name".
func sqliteUnique(err error, table string, columns []string) (matched bool) {
	var e *sqlite.Error
	if !errors.As(err, &e) || e.Code()&0xff != sqlite3.SQLITE_CONSTRAINT {
		return false
	}
	qualified := make([]string, len(columns))
	for i, column := range columns {
		qualified[i] = table + "." + column
	}
	_, failed, found := strings.Cut(e.Error(), "UNIQUE constraint failed: ")
	failed, _, _ = strings.Cut(failed, " (")
	return found && failed == strings.Join(qualified, ", ")
}

func sqliteForeignKey(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code() == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY
}
