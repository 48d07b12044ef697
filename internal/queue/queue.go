// Package queue runs background jobs on River, in the same database as
// everything else: a job is inserted in the transaction of the state change
// that asks for it, so neither exists without the other.
//
// A feature enqueues through an Inserter and registers its workers with River;
// a Runner works them. Jobs may run more than once and must be safe to repeat.
package queue

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/certctl-io/certctl/internal/db"
)

// The queues. Issuance has its own, so that housekeeping never delays it.
const (
	Default  = river.QueueDefault
	Issuance = "issuance"
)

// Migrate brings River's tables up to date. Replicas that start together take
// turns.
func Migrate(ctx context.Context, d *db.DB) error {
	return d.Exclusive(ctx, "river-migrations", func() error {
		migrator, err := rivermigrate.New(sqlDriver(d), nil)
		if err != nil {
			return fmt.Errorf("prepare job tables: %w", err)
		}
		if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
			return fmt.Errorf("migrate job tables: %w", err)
		}
		return nil
	})
}

func sqlDriver(d *db.DB) riverdriver.Driver[*sql.Tx] {
	if d.Engine() == db.SQLite {
		return riversqlite.New(d.Writer())
	}
	return riverdatabasesql.New(d.Writer())
}

// Inserter puts jobs into the queue.
type Inserter struct {
	client *river.Client[*sql.Tx]
}

// NewInserter makes an Inserter on the database.
func NewInserter(d *db.DB) (*Inserter, error) {
	// River tells the workers of a queue no more often than this, and what they
	// are not told of they find a second later.
	client, err := river.NewClient(sqlDriver(d), &river.Config{FetchCooldown: river.FetchCooldownMin})
	if err != nil {
		return nil, fmt.Errorf("open job queue: %w", err)
	}
	return &Inserter{client: client}, nil
}

// Enqueue inserts a job that becomes available when the transaction commits.
// Queue, uniqueness and attempts are the business of args' InsertOpts.
func (i *Inserter) Enqueue(ctx context.Context, tx *db.Tx, args river.JobArgs) error {
	return i.EnqueueAt(ctx, tx, args, time.Time{})
}

// EnqueueAt inserts a job that becomes available at a time.
func (i *Inserter) EnqueueAt(ctx context.Context, tx *db.Tx, args river.JobArgs, at time.Time) error {
	var opts river.InsertOpts
	if own, ok := args.(river.JobArgsWithInsertOpts); ok {
		opts = own.InsertOpts()
	}
	opts.ScheduledAt = at
	if _, err := i.client.InsertTx(ctx, tx.Tx, args, &opts); err != nil {
		return fmt.Errorf("enqueue %s: %w", args.Kind(), err)
	}
	return nil
}

// pgxDriver is what the working client uses on PostgreSQL: the native driver
// keeps LISTEN/NOTIFY.
func pgxDriver(d *db.DB) *riverpgxv5.Driver { return riverpgxv5.New(d.Pool()) }
