package db

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	connectTimeout = 10 * time.Second

	// defaultPostgresConns leaves room for three replicas under PostgreSQL's
	// own default of 100 connections.
	defaultPostgresConns = 25

	// minPostgresConns is what one replica holds by itself: two listeners (wake-ups
	// and jobs) and the leader's, and one to work with.
	minPostgresConns = 4
)

func openPostgres(ctx context.Context, opts Options) (*DB, error) {
	config, err := pgxpool.ParseConfig(opts.URL)
	if err != nil {
		return nil, errors.New("database_url: it cannot be parsed; check its parameters and that special characters of the password are percent-encoded")
	}
	if opts.MaxConns > 0 && opts.MaxConns < minPostgresConns {
		return nil, fmt.Errorf("database_max_conns: %d is too few, a replica needs at least %d", opts.MaxConns, minPostgresConns)
	}
	config.MaxConns = defaultPostgresConns
	if opts.MaxConns > 0 {
		config.MaxConns = int32(min(opts.MaxConns, 10_000))
	}
	config.ConnConfig.ConnectTimeout = connectTimeout
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "certctl"
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", describe(opts.URL), err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("connect to database %s: %w", describe(opts.URL), err)
	}
	handle := stdlib.OpenDBFromPool(pool)
	handle.SetMaxIdleConns(0) // idle connections belong to the pool
	listening, stop := context.WithCancel(context.Background())
	d := &DB{engine: Postgres, writer: handle, reader: handle, pool: pool, hub: newHub(), stop: stop, done: make(chan struct{})}
	go d.listen(listening, opts.Logger)
	return d, nil
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
