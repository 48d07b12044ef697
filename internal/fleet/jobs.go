package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"github.com/certctl-io/certctl/internal/db"
)

// purgeEvery is how often the ids of request tokens that are out of date are
// deleted. A busy agent leaves a few in a minute.
const purgeEvery = time.Minute

// PurgeTokens is the job that forgets the ids of request tokens a copy of which
// would be refused for its age.
type PurgeTokens struct{}

// Kind implements river.JobArgs.
func (PurgeTokens) Kind() string { return "fleet_purge_tokens" }

// InsertOpts implements river.JobArgsWithInsertOpts: the next run makes up for
// one that failed.
func (PurgeTokens) InsertOpts() river.InsertOpts { return river.InsertOpts{MaxAttempts: 1} }

type purgeWorker struct {
	river.WorkerDefaults[PurgeTokens]
	service *Service
}

// Work implements river.Worker.
func (w *purgeWorker) Work(ctx context.Context, _ *river.Job[PurgeTokens]) error {
	s := w.service
	return s.db.InTx(ctx, func(tx *db.Tx) error {
		if err := purgeSeen(ctx, tx, s.now()); err != nil {
			return fmt.Errorf("delete old request tokens: %w", err)
		}
		return nil
	})
}

// Register adds the workers of this feature.
func (s *Service) Register(w *river.Workers) { river.AddWorker(w, &purgeWorker{service: s}) }

// Periodic lists the jobs of this feature that run by the clock.
func (s *Service) Periodic() []*river.PeriodicJob {
	return []*river.PeriodicJob{river.NewPeriodicJob(
		river.PeriodicInterval(purgeEvery),
		func() (river.JobArgs, *river.InsertOpts) { return PurgeTokens{}, nil },
		&river.PeriodicJobOpts{RunOnStart: true},
	)}
}
