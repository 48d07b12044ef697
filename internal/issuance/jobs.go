package issuance

import (
	"context"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/certctl-io/certctl/internal/deployment"
	"github.com/certctl-io/certctl/internal/queue"
)

// signArgs is the job that has an order signed. Each move of an order to
// signing comes with one, which lives until the order has left that state. It
// is not unique: River would then also drop the job of a retry that comes while
// the one before is about to end.
type signArgs struct {
	OrderID string `json:"order_id"`
}

// Kind implements river.JobArgs.
func (signArgs) Kind() string { return "issuance_sign" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (signArgs) InsertOpts() river.InsertOpts { return river.InsertOpts{Queue: queue.Issuance} }

// planArgs is the periodic job that starts the renewals that are due.
type planArgs struct{}

// Kind implements river.JobArgs.
func (planArgs) Kind() string { return "issuance_plan" }

// InsertOpts implements river.JobArgsWithInsertOpts: one run at a time, and the
// next one makes up for one that failed.
func (planArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: 1, UniqueOpts: river.UniqueOpts{ByState: []rivertype.JobState{
		rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRunning, rivertype.JobStateScheduled,
	}}}
}

// Register adds the workers of this package.
func (s *Service) Register(workers *river.Workers) {
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, job *river.Job[signArgs]) error {
		return s.sign(ctx, job.Args.OrderID)
	}))
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, _ *river.Job[planArgs]) error {
		return s.plan(ctx)
	}))
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, job *river.Job[deployment.Settled]) error {
		return s.settled(ctx, job.Args.OrderID)
	}))
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, job *river.Job[deployment.Assigned]) error {
		return s.assigned(ctx, job.Args.CertificateID)
	}))
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, job *river.Job[rejoinedArgs]) error {
		return s.rejoined(ctx, job.Args.AgentID, job.Args.At)
	}))
}

// Periodic lists the periodic jobs of this package.
func (s *Service) Periodic() []*river.PeriodicJob {
	return []*river.PeriodicJob{river.NewPeriodicJob(
		river.PeriodicInterval(planEvery),
		func() (river.JobArgs, *river.InsertOpts) { return planArgs{}, nil },
		&river.PeriodicJobOpts{RunOnStart: true},
	)}
}
