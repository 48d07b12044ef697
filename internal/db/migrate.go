package db

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/certctl-io/certctl/internal/db/migrations"
)

// Migrate brings the schema up to date. Replicas that start together take
// turns under a lock of the database.
func (d *DB) Migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations.FS, string(d.engine))
	if err != nil {
		return fmt.Errorf("find migrations: %w", err)
	}
	dialect := goose.DialectSQLite3
	options := []goose.ProviderOption{goose.WithTableName("schema_migration")}
	if d.engine == Postgres {
		dialect = goose.DialectPostgres
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return fmt.Errorf("make migration lock: %w", err)
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	provider, err := goose.NewProvider(dialect, d.writer, files, options...)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate the database: %w", err)
	}
	return nil
}

// Exclusive runs fn while no other replica runs one of the same name. It is
// for start-up work that cannot be one transaction.
func (d *DB) Exclusive(ctx context.Context, name string, fn func() error) error {
	if d.engine == SQLite {
		return fn()
	}
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("take lock %s: %w", name, err)
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock(hashtextextended($1, 0))", name); err != nil {
		return fmt.Errorf("take lock %s: %w", name, err)
	}
	err = fn()
	_, unlockErr := conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock(hashtextextended($1, 0))", name)
	return errors.Join(err, unlockErr)
}
