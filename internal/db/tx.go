package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Querier runs statements: a Tx, or the handle that Read gives.
type Querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Tx is a transaction. It commits when the function given to InTx returns nil.
type Tx struct {
	*sql.Tx
	db          *DB
	afterCommit []func()
}

const (
	txAttempts  = 8
	txFirstWait = 5 * time.Millisecond
)

// InTx runs fn in a transaction and commits it when fn returns nil. The engine
// may refuse a transaction because of another one that runs at the same time;
// fn is then called again, so it must do nothing but database work.
func (d *DB) InTx(ctx context.Context, fn func(tx *Tx) error) error {
	wait := txFirstWait
	for attempt := 1; ; attempt++ {
		err := d.tryTx(ctx, fn)
		if err == nil || attempt == txAttempts || !(postgresBusy(err) || sqliteBusy(err)) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait/2 + rand.N(wait)):
		}
		wait *= 2
	}
}

func (d *DB) tryTx(ctx context.Context, fn func(tx *Tx) error) error {
	began, err := d.writer.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	tx := &Tx{Tx: began, db: d}
	// A panic in fn must not leave the only SQLite writer inside a transaction.
	defer func() { _ = began.Rollback() }()
	if err := fn(tx); err != nil {
		return err
	}
	if err := began.Commit(); err != nil {
		return fmt.Errorf("commit transaction: %w", err)
	}
	for _, hook := range tx.afterCommit {
		hook()
	}
	return nil
}

// ExecContext implements Querier.
func (tx *Tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return tx.Tx.ExecContext(tx.statement(ctx), query, args...)
}

// QueryContext implements Querier.
func (tx *Tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return tx.Tx.QueryContext(tx.statement(ctx), query, args...)
}

// statement gives the context of one statement. SQLite's driver watches a
// context that can end with a goroutine for each statement; on a busy machine
// the only writer would spend most of its time waiting for those to be
// scheduled. Its statements are short.
func (tx *Tx) statement(ctx context.Context) context.Context {
	if tx.db.engine == SQLite {
		return context.WithoutCancel(ctx)
	}
	return ctx
}

// AfterCommit runs hook once the transaction has committed. What must not be
// lost belongs into the transaction; a hook is for wake-ups and caches.
func (tx *Tx) AfterCommit(hook func()) { tx.afterCommit = append(tx.afterCommit, hook) }

// Notify wakes the subscribers of topic, on all replicas, when and if the
// transaction commits. A topic has no spaces.
func (tx *Tx) Notify(ctx context.Context, topic, payload string) error {
	if tx.db.engine == SQLite {
		tx.AfterCommit(func() { tx.db.hub.publish(topic, payload) })
		return nil
	}
	_, err := tx.ExecContext(ctx, "SELECT pg_notify($1, $2)", wakeChannel, topic+" "+payload)
	if err != nil {
		return fmt.Errorf("notify %s: %w", topic, err)
	}
	return nil
}

// ForUpdate is the clause that locks the rows a SELECT reads until the
// transaction ends. On SQLite a writing transaction excludes all others.
func (tx *Tx) ForUpdate() string {
	if tx.db.engine == SQLite {
		return ""
	}
	return " FOR UPDATE"
}

// SkipLocked is ForUpdate that leaves out the rows another transaction holds.
func (tx *Tx) SkipLocked() string {
	if tx.db.engine == SQLite {
		return ""
	}
	return " FOR UPDATE SKIP LOCKED"
}

// Lock takes an advisory lock that all replicas respect until the transaction
// ends.
func (tx *Tx) Lock(ctx context.Context, name string) error {
	if tx.db.engine == SQLite {
		return nil
	}
	_, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", name)
	if err != nil {
		return fmt.Errorf("take lock %s: %w", name, err)
	}
	return nil
}

// IsUnique reports whether err says that a row with the same values in these
// columns of the table exists already. The columns are in the order of the
// constraint or index.
func IsUnique(err error, table string, columns ...string) bool {
	return err != nil && (postgresUnique(err, table, columns) || sqliteUnique(err, table, columns))
}

// IsForeignKey reports whether err says that a row is still referred to, or
// refers to one that does not exist.
func IsForeignKey(err error) bool {
	return err != nil && (postgresForeignKey(err) || sqliteForeignKey(err))
}

// IsNoRows reports whether err says that One found nothing.
func IsNoRows(err error) bool { return errors.Is(err, ErrNoRows) }
