// Package db is the one database layer over two engines: SQLite in the data
// directory for one machine, PostgreSQL for production and several replicas.
//
// SQL is written once, in the portable subset, in the package that owns the
// table; placeholders are $1, $2, ... in order of first appearance. What
// differs between the engines (row locks, wake-ups, error codes) is behind
// this package's functions. Times are UTC with microseconds, as that is what
// both engines keep.
package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Engine names the database engine in use.
type Engine string

// The engines.
const (
	SQLite   Engine = "sqlite"
	Postgres Engine = "postgres"
)

// ErrNoRows is what One answers when no row matches.
var ErrNoRows = sql.ErrNoRows

// Options say which database to open.
type Options struct {
	URL      string        // postgres://...; empty for SQLite in DataDir
	Password string        // for PostgreSQL, in place of one in the URL; empty for that
	Wait     time.Duration // how long to wait for PostgreSQL to let us in
	DataDir  string        // directory of the SQLite file; it must exist
	MaxConns int           // connections to PostgreSQL, or size of the reader pool on SQLite; 0 for the default
	Replica  string        // under which the others see that this one lives; empty for a database that is only looked at
	Logger   *slog.Logger
}

// DB is an open database.
type DB struct {
	engine  Engine
	writer  *sql.DB
	reader  *sql.DB
	pool    *pgxpool.Pool // PostgreSQL only
	hub     *hub
	replica string
	stop    context.CancelFunc
	done    chan struct{}
}

// Open connects to the database. The schema is Migrate's business.
func Open(ctx context.Context, opts Options) (*DB, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.URL == "" {
		return openSQLite(ctx, opts)
	}
	parsed, err := url.Parse(opts.URL)
	if err != nil || (parsed.Scheme != "postgres" && parsed.Scheme != "postgresql") {
		// The URL holds a password: neither it nor the parse error is shown.
		return nil, errors.New("database_url: it is not of the form postgres://user:password@host:5432/database")
	}
	return openPostgres(ctx, opts)
}

// Engine tells which engine is in use.
func (d *DB) Engine() Engine { return d.engine }

// Writer gives the handle that writes go through: one connection on SQLite.
// It is for libraries that keep tables of their own; features use InTx.
func (d *DB) Writer() *sql.DB { return d.writer }

// Pool gives the native pool on PostgreSQL, and nil on SQLite.
func (d *DB) Pool() *pgxpool.Pool { return d.pool }

// Read gives a handle for reads outside a transaction.
func (d *DB) Read() Querier { return d.reader }

// Ping checks that the database answers.
func (d *DB) Ping(ctx context.Context) error {
	if err := d.reader.PingContext(ctx); err != nil {
		return fmt.Errorf("the database does not answer: %w", err)
	}
	return nil
}

// Close ends the wake-up listener and closes all connections.
func (d *DB) Close() error {
	d.stop()
	<-d.done
	err := d.writer.Close()
	if d.reader != d.writer {
		err = errors.Join(err, d.reader.Close())
	}
	if d.pool != nil {
		d.pool.Close()
	}
	return err
}

// describe names the database for the log, without its password.
func describe(rawURL string) string {
	parsed, err := url.Parse(rawURL)
	if err != nil {
		return "postgres"
	}
	return parsed.Host + "/" + strings.TrimPrefix(parsed.Path, "/")
}
