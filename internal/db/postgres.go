package db

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/certctl-io/certctl/internal/problem"
)

const (
	connectTimeout = 10 * time.Second

	// defaultPostgresConns leaves room for three replicas under PostgreSQL's
	// own default of 100 connections.
	defaultPostgresConns = 25

	// listeners is the connections that one replica keeps beside the pool: one
	// for wake-ups, and one that the job runner takes out of the pool for good.
	listeners = 2

	// Between two attempts to reach a database, and between two reports of that.
	reachPause  = time.Second
	reachReport = 10 * time.Second

	// minPostgresConns leaves two to work with: who holds a lock for the whole
	// installation needs another for the work.
	minPostgresConns = listeners + 2
)

func openPostgres(ctx context.Context, opts Options) (*DB, error) {
	config, err := pgxpool.ParseConfig(opts.URL)
	if err != nil {
		return nil, errors.New("database_url: it cannot be parsed; check its parameters and that special characters of the password are percent-encoded")
	}
	if opts.MaxConns > 0 && opts.MaxConns < minPostgresConns {
		return nil, fmt.Errorf("database_max_conns: %d is too few, a replica needs at least %d", opts.MaxConns, minPostgresConns)
	}
	config.MaxConns = defaultPostgresConns - listeners
	if opts.MaxConns > 0 {
		config.MaxConns = int32(min(opts.MaxConns, 10_000)) - listeners
	}
	config.ConnConfig.ConnectTimeout = connectTimeout
	if opts.Password != "" {
		config.ConnConfig.Password = opts.Password
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "certctl"
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", describe(opts.URL), err)
	}
	if err := reach(ctx, pool, opts); err != nil {
		pool.Close()
		return nil, problem.Temporary(fmt.Errorf("database_url: cannot work with the database %s: %w", describe(opts.URL), cause(err)), 0).
			Hint("check that PostgreSQL runs there, and that the database, the user and the password exist")
	}
	handle := stdlib.OpenDBFromPool(pool)
	handle.SetMaxIdleConns(0) // idle connections belong to the pool
	listening, stop := context.WithCancel(context.Background())
	d := &DB{engine: Postgres, writer: handle, reader: handle, pool: pool, hub: newHub(), stop: stop, done: make(chan struct{}), replica: opts.Replica}
	go d.listen(listening, opts.Logger)
	return d, nil
}

// reach waits until the database lets us in. It tries again whatever the
// reason: a server that starts, a name that is not known yet, and a user or a
// database that is about to be made are all refused in ways of their own.
func reach(ctx context.Context, pool *pgxpool.Pool, opts Options) error {
	began := time.Now()
	var told time.Time
	for {
		err := pool.Ping(ctx)
		left := opts.Wait - time.Since(began)
		if err == nil || left < reachPause || ctx.Err() != nil {
			if err == nil && !told.IsZero() {
				opts.Logger.InfoContext(ctx, "the database lets us in", "database", describe(opts.URL), "waited", (opts.Wait - left).Round(time.Millisecond).String())
			}
			return err
		}
		if time.Since(told) >= reachReport {
			told = time.Now()
			opts.Logger.WarnContext(ctx, "the server waits for its database", "database", describe(opts.URL), "error", cause(err), "at_most", left.Round(time.Second).String())
		}
		pause := time.NewTimer(reachPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
	}
}

// cause is why a connection failed, without what the library says about it and
// the log repeats.
func cause(err error) error {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return errors.New(refused.Message)
	}
	var network *net.OpError
	if errors.As(err, &network) {
		return network
	}
	return err
}

var retriedCodes = []string{
	"40001", // serialization_failure
	"40P01", // deadlock_detected
}

func postgresBusy(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && slices.Contains(retriedCodes, e.Code)
}

// postgresUnique reads the columns from the detail, which names them in every
// language: Key (name)=(web) already exists.
func postgresUnique(err error, table string, columns []string) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) || e.Code != "23505" || e.TableName != table {
		return false
	}
	return strings.Contains(e.Detail, "("+strings.Join(columns, ", ")+")=(")
}

func postgresForeignKey(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "23503"
}

// wakeChannel carries the wake-ups of all topics between replicas.
const wakeChannel = "certctl_wake"

// listenRetry is the pause before a lost listener connects again.
const listenRetry = time.Second

// waitForWakes passes on what other replicas notify until the connection
// breaks or ctx ends.
func (d *DB) waitForWakes(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, d.pool.Config().ConnConfig)
	if err != nil {
		return fmt.Errorf("connect the wake-up listener: %w", err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}()
	if d.replica != "" {
		// Shared, as the server may not have noticed yet that an earlier life of
		// this replica is over.
		if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock_shared(hashtextextended($1, 0))", aliveLock(d.replica)); err != nil {
			return fmt.Errorf("show that this replica lives: %w", err)
		}
	}
	if _, err := conn.Exec(ctx, "LISTEN "+wakeChannel); err != nil {
		return fmt.Errorf("listen for wake-ups: %w", err)
	}
	d.hub.wakeAll() // what was notified while nobody listened
	for {
		note, err := conn.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("wait for wake-ups: %w", err)
		}
		topic, payload, _ := strings.Cut(note.Payload, " ")
		d.hub.publish(topic, payload)
	}
}

// aliveLock names the lock that a replica holds for as long as it lives.
func aliveLock(replica string) string { return "replica " + replica }

// Alive reports whether a replica has its connection to the database. A process
// that was killed loses it at once, one that was cut off when the server gives
// it up; one that connects again is without it for a moment.
func (tx *Tx) Alive(ctx context.Context, replica string) (bool, error) {
	if tx.db.engine == SQLite {
		return true, nil // there is only this one
	}
	gone, err := One[bool](ctx, tx, "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))", aliveLock(replica))
	if err != nil {
		return false, fmt.Errorf("ask whether replica %s lives: %w", replica, err)
	}
	return !gone, nil
}
