package issuer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river"
)

// checkEvery is how often the CAs are asked whether they could issue.
const checkEvery = 15 * time.Minute

// checkArgs is the periodic job that checks all enabled issuers.
type checkArgs struct{}

// Kind implements river.JobArgs.
func (checkArgs) Kind() string { return "issuer_check" }

// InsertOpts implements river.JobArgsWithInsertOpts: the next run makes up for
// one that failed.
func (checkArgs) InsertOpts() river.InsertOpts { return river.InsertOpts{MaxAttempts: 1} }

// Register adds the workers of this package.
func (s *Service) Register(workers *river.Workers) {
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, _ *river.Job[checkArgs]) error {
		return s.checkAll(ctx)
	}))
}

// Periodic lists the periodic jobs of this package.
func (s *Service) Periodic() []*river.PeriodicJob {
	return []*river.PeriodicJob{river.NewPeriodicJob(
		river.PeriodicInterval(checkEvery),
		func() (river.JobArgs, *river.InsertOpts) { return checkArgs{}, nil },
		&river.PeriodicJobOpts{RunOnStart: true},
	)}
}

// checkAll checks the enabled issuers. One that fails does not keep the others
// back; that a CA is not well is logged when it is news.
func (s *Service) checkAll(ctx context.Context) error {
	ids, err := enabledIssuers(ctx, s.db.Read())
	if err != nil {
		return err
	}
	var failures []error
	for _, issuerID := range ids {
		before, err := s.Get(ctx, issuerID)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		after, err := s.CheckNow(ctx, issuerID)
		if err != nil {
			failures = append(failures, fmt.Errorf("check issuer %s: %w", before.Name, err))
			continue
		}
		if after.CheckError != "" && after.CheckError != before.CheckError {
			s.log.WarnContext(ctx, "issuer is not well", "issuer", after.Name, "reason", after.CheckError)
		}
	}
	return errors.Join(failures...)
}
