package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"github.com/certctl-io/certctl/internal/db"
)

const (
	// releaseEvery is how often replicas are looked for that died.
	releaseEvery = 5 * time.Second

	// releaseGrace is the least age in seconds of the jobs that are taken from
	// one: a replica that starts, or connects again, is not seen for a moment.
	releaseGrace = 5
)

// releaseOrphans gives back the jobs of an earlier life of this replica.
func (r *Runner) releaseOrphans(ctx context.Context) error {
	query, args := "UPDATE river_job SET state = 'available' WHERE state = 'running'", []any{}
	if r.db.Engine() == db.Postgres {
		query += " AND attempted_by[array_length(attempted_by, 1)] = $1"
		args = append(args, r.replica)
	}
	return r.db.InTx(ctx, func(tx *db.Tx) error {
		if _, err := db.Exec(ctx, tx, query, args...); err != nil {
			return fmt.Errorf("release jobs of an earlier run: %w", err)
		}
		return nil
	})
}

// releaseArgs is the periodic job that gives back the jobs of replicas that
// died and do not come back. River rescues them as well, but only when no job
// could run any more. It is needed on PostgreSQL, where there are replicas.
type releaseArgs struct{}

// Kind implements river.JobArgs.
func (releaseArgs) Kind() string { return "queue_release" }

// InsertOpts implements river.JobArgsWithInsertOpts: the next run makes up for
// one that failed.
func (releaseArgs) InsertOpts() river.InsertOpts { return river.InsertOpts{MaxAttempts: 1} }

func releasePeriodic() *river.PeriodicJob {
	return river.NewPeriodicJob(
		river.PeriodicInterval(releaseEvery),
		func() (river.JobArgs, *river.InsertOpts) { return releaseArgs{}, nil },
		&river.PeriodicJobOpts{RunOnStart: true},
	)
}

func (r *Runner) releaseDead(ctx context.Context, _ *river.Job[releaseArgs]) error {
	replicas, err := db.All[string](ctx, r.db.Read(), `
		SELECT DISTINCT attempted_by[array_length(attempted_by, 1)] FROM river_job
		WHERE state = 'running' AND attempted_at < now() - make_interval(secs => $1)`, releaseGrace)
	if err != nil {
		return fmt.Errorf("list replicas that run jobs: %w", err)
	}
	for _, replica := range replicas {
		if replica == r.replica {
			continue
		}
		if err := r.releaseOf(ctx, replica); err != nil {
			return err
		}
	}
	return nil
}

// releaseOf gives back the jobs of a replica, if it is dead. It cannot come to
// life unnoticed before that is done.
func (r *Runner) releaseOf(ctx context.Context, replica string) error {
	var released int64
	err := r.db.InTx(ctx, func(tx *db.Tx) error {
		released = 0
		alive, err := tx.Alive(ctx, replica)
		if err != nil || alive {
			return err
		}
		released, err = db.Exec(ctx, tx, `
			UPDATE river_job SET state = 'available'
			WHERE state = 'running' AND attempted_by[array_length(attempted_by, 1)] = $1 AND attempted_at < now() - make_interval(secs => $2)`,
			replica, releaseGrace)
		return err
	})
	if err != nil {
		return fmt.Errorf("release jobs of replica %s: %w", replica, err)
	}
	if released > 0 {
		r.log.WarnContext(ctx, "a replica died; its jobs are run again", "replica", replica, "jobs", released)
	}
	return nil
}
