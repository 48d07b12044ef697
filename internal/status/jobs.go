package status

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
)

const (
	// sweepInterval is how often documents that are due are looked for.
	sweepInterval = time.Minute

	// crlsPerSweep and responsesPerSweep bound one run; the next follows in a
	// minute. A day of half lives holds 720 runs.
	crlsPerSweep      = 100
	responsesPerSweep = 10_000

	// responsesPerBatch bounds one transaction.
	responsesPerBatch = 200
)

// publishArgs is the job that replaces the CRL of a shard after a revocation.
// It is not unique: one that runs already may have read the list before this
// revocation. A second run finds nothing due.
type publishArgs struct {
	IssuerID string `json:"issuer_id" db:"issuer_id"`
	Shard    int    `json:"shard" db:"shard"`
}

// Kind implements river.JobArgs.
func (publishArgs) Kind() string { return "status_publish_crl" }

// sweepArgs is the periodic job that replaces what is due.
type sweepArgs struct{}

// Kind implements river.JobArgs.
func (sweepArgs) Kind() string { return "status_sweep" }

// InsertOpts implements river.JobArgsWithInsertOpts: one sweep at a time.
func (sweepArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: 1, UniqueOpts: river.UniqueOpts{ByState: []rivertype.JobState{
		rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRunning, rivertype.JobStateScheduled,
	}}}
}

// Register adds the workers of this package.
func (s *Service) Register(workers *river.Workers) {
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, job *river.Job[publishArgs]) error {
		return s.publishRevocation(ctx, job.Args)
	}))
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, _ *river.Job[sweepArgs]) error {
		return s.sweep(ctx)
	}))
}

// Periodic lists the periodic jobs of this package.
func (s *Service) Periodic() []*river.PeriodicJob {
	return []*river.PeriodicJob{river.NewPeriodicJob(
		river.PeriodicInterval(sweepInterval),
		func() (river.JobArgs, *river.InsertOpts) { return sweepArgs{}, nil },
		&river.PeriodicJobOpts{RunOnStart: true},
	)}
}

// publishRevocation replaces a CRL. Issuers whose status is served elsewhere
// have none, and what is left of one that was deleted goes too.
func (s *Service) publishRevocation(ctx context.Context, args publishArgs) error {
	_, err := s.publish(ctx, args.IssuerID, args.Shard)
	if problem.KindOf(err) == problem.KindNotFound {
		return s.db.InTx(ctx, func(tx *db.Tx) error { return deleteCRL(ctx, tx, args.IssuerID, args.Shard) })
	}
	return err
}

// sweep replaces the CRLs and OCSP responses that are due. One that fails does
// not keep the others back.
func (s *Service) sweep(ctx context.Context) error {
	due, err := dueCRLs(ctx, s.db.Read(), s.now(), crlsPerSweep)
	if err != nil {
		return err
	}
	var failures []error
	for _, args := range due {
		failures = append(failures, s.publishRevocation(ctx, args))
	}
	return errors.Join(append(failures, s.sweepResponses(ctx))...)
}

func (s *Service) sweepResponses(ctx context.Context) error {
	signedBefore := s.now().Add(documentLife - refreshAfter)
	issuers, err := issuersWithDueResponses(ctx, s.db.Read(), signedBefore)
	if err != nil {
		return err
	}
	var failures []error
	for _, id := range issuers {
		failures = append(failures, s.refreshResponses(ctx, id, signedBefore))
	}
	failures = append(failures, s.db.InTx(ctx, func(tx *db.Tx) error { return deleteStale(ctx, tx, s.now()) }))
	return errors.Join(failures...)
}

// refreshResponses signs the responses of one issuer anew, batch by batch.
func (s *Service) refreshResponses(ctx context.Context, issuerID string, signedBefore time.Time) error {
	signer, err := s.signer(ctx, issuerID)
	if problem.KindOf(err) == problem.KindNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	for total := 0; total < responsesPerSweep; {
		var signed int
		err := s.db.InTx(ctx, func(tx *db.Tx) error {
			due, err := lockDueResponses(ctx, tx, issuerID, signedBefore, s.now(), responsesPerBatch)
			if err != nil {
				return err
			}
			signed = len(due)
			return s.signAgain(ctx, tx, signer, issuerID, due)
		})
		if err != nil {
			return fmt.Errorf("refresh OCSP responses of issuer %s: %w", issuerID, err)
		}
		if total += signed; signed < responsesPerBatch {
			return nil
		}
	}
	return nil
}

func (s *Service) signAgain(ctx context.Context, tx *db.Tx, signer *signer, issuerID string, due []dueResponse) error {
	for _, r := range due {
		serial, err := pki.ParseSerial(r.Serial)
		if err != nil {
			return err
		}
		d, err := signer.sign(hashOf(r.Hash), serial, r.fact, s.now())
		if err != nil {
			return err
		}
		if err := storeResponse(ctx, tx, issuerID, r.Serial, r.Hash, d); err != nil {
			return err
		}
	}
	return nil
}

// hashOf is the inverse of hashSymbols.
func hashOf(symbol string) crypto.Hash {
	if symbol == hashSymbols[crypto.SHA256] {
		return crypto.SHA256
	}
	return crypto.SHA1
}
