package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
)

const (
	// jobTimeout bounds one run of a job. Work that takes longer is a state
	// column and the next job.
	jobTimeout = time.Minute

	// rescueAfter is when a job counts as lost with its replica, unless it is
	// known before that the replica died.
	rescueAfter = jobTimeout + 30*time.Second

	// fetchCooldown bounds the rate of fetches, and with it throughput: workers
	// divided by cooldown.
	fetchCooldown = 20 * time.Millisecond

	// defaultWorkers is the number of jobs of one queue that run at once.
	defaultWorkers = 32
)

// Config says how jobs are run.
type Config struct {
	Replica  string // stays the same when this replica restarts, differs between replicas
	Workers  int    // jobs of one queue that run at once; 0 for the default
	Registry *river.Workers
	Periodic []*river.PeriodicJob
	Logger   *slog.Logger
}

// client is what Runner needs of River's client, whose type differs by engine.
type client interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
	StopAndCancel(ctx context.Context) error
}

// Runner works the jobs. Exactly one replica at a time enqueues the periodic
// ones.
type Runner struct {
	db      *db.DB
	client  client
	replica string
	log     *slog.Logger
}

// NewRunner makes a Runner that works nothing until Start.
func NewRunner(d *db.DB, config Config) (*Runner, error) {
	workers := config.Workers
	if workers == 0 {
		workers = defaultWorkers
	}
	riverConfig := &river.Config{
		ID:                   config.Replica,
		Logger:               quiet(config.Logger),
		Workers:              config.Registry,
		PeriodicJobs:         config.Periodic,
		Queues:               map[string]river.QueueConfig{Default: {MaxWorkers: workers}, Issuance: {MaxWorkers: workers}},
		FetchCooldown:        fetchCooldown,
		JobTimeout:           jobTimeout,
		RescueStuckJobsAfter: rescueAfter,
		Middleware:           []rivertype.Middleware{&verdict{log: config.Logger}},
	}
	runner := &Runner{db: d, replica: config.Replica, log: config.Logger}
	var err error
	if d.Engine() == db.SQLite {
		runner.client, err = river.NewClient(sqlDriver(d), riverConfig)
	} else {
		river.AddWorker(config.Registry, river.WorkFunc(runner.releaseDead))
		riverConfig.PeriodicJobs = append(slices.Clone(config.Periodic), releasePeriodic())
		runner.client, err = river.NewClient(pgxDriver(d), riverConfig)
	}
	if err != nil {
		return nil, fmt.Errorf("prepare job runner: %w", err)
	}
	return runner, nil
}

// Start begins to work jobs, first of all those that an earlier life of this
// replica was killed in.
func (r *Runner) Start(ctx context.Context) error {
	if err := r.releaseOrphans(ctx); err != nil {
		return err
	}
	// The jobs outlive ctx: Stop decides when they end.
	if err := r.client.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("start job runner: %w", err)
	}
	return nil
}

// Stop lets running jobs finish until ctx ends, then cancels them and hands
// them back to the queue.
func (r *Runner) Stop(ctx context.Context) error {
	err := r.client.Stop(ctx)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		handBack, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = r.client.StopAndCancel(handBack)
	}
	if err != nil {
		return fmt.Errorf("stop job runner: %w", err)
	}
	return nil
}

// verdict turns the kind of a job's error into what River does next.
type verdict struct {
	river.MiddlewareDefaults
	log *slog.Logger
}

// Work implements rivertype.WorkerMiddleware.
func (v *verdict) Work(ctx context.Context, job *rivertype.JobRow, inner func(context.Context) error) error {
	err := inner(ctx)
	if err == nil {
		return nil
	}
	if errors.Is(ctx.Err(), context.Canceled) && !errors.Is(context.Cause(ctx), rivertype.ErrJobCancelledRemotely) {
		return river.JobSnooze(0) // shutting down: the next start works it
	}
	var snooze *rivertype.JobSnoozeError
	var cancelled *rivertype.JobCancelError
	if errors.As(err, &snooze) || errors.As(err, &cancelled) {
		return err
	}
	v.log.WarnContext(ctx, "job failed", "job", job.Kind, "job_id", job.ID, "attempt", job.Attempt, "error", err)
	switch found, ok := problem.As(err); {
	case ok && found.Kind == problem.KindTemporary && found.After > 0:
		return river.JobSnooze(found.After)
	case ok && found.Kind != problem.KindTemporary && found.Kind != problem.KindInternal:
		return river.JobCancel(err)
	default:
		return err
	}
}

// quiet keeps River's routine lines out of the log: they tell of River, not of
// certificates.
func quiet(log *slog.Logger) *slog.Logger {
	return slog.New(levelFloor{log.Handler(), slog.LevelWarn})
}

type levelFloor struct {
	slog.Handler
	floor slog.Level
}

// Enabled implements slog.Handler.
func (l levelFloor) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= l.floor && l.Handler.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (l levelFloor) WithAttrs(attrs []slog.Attr) slog.Handler {
	return levelFloor{l.Handler.WithAttrs(attrs), l.floor}
}

// WithGroup implements slog.Handler.
func (l levelFloor) WithGroup(name string) slog.Handler {
	return levelFloor{l.Handler.WithGroup(name), l.floor}
}
