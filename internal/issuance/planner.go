package issuance

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/inventory"
)

const (
	// planEvery is how often versions that fall due are looked for.
	planEvery = 3 * time.Second

	// planBatch bounds one transaction, planBatches one run.
	planBatch, planBatches = 200, 50

	// planAgain is when a version is looked at again that could not be planned.
	planAgain = 5 * time.Minute
)

// plan starts the renewals that are due.
func (s *Service) plan(ctx context.Context) error {
	for range planBatches {
		due, err := s.planDue(ctx)
		if err != nil {
			return err
		}
		if due < planBatch {
			return nil
		}
	}
	return nil
}

// planDue starts one batch. When something is wrong with one version, the
// others go on by themselves.
func (s *Service) planDue(ctx context.Context) (int, error) {
	var due []inventory.Version
	err := s.db.InTx(ctx, func(tx *db.Tx) (err error) {
		if due, err = s.certificates.Due(ctx, tx, s.now(), planBatch); err != nil {
			return err
		}
		for _, v := range due {
			if err := s.renew(ctx, tx, v); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		return len(due), nil
	}
	if len(due) == 0 || ctx.Err() != nil {
		return 0, err
	}
	var failures []error
	for _, v := range due {
		failures = append(failures, s.renewAlone(ctx, v))
	}
	return len(due), errors.Join(failures...)
}

func (s *Service) renewAlone(ctx context.Context, v inventory.Version) error {
	err := s.db.InTx(ctx, func(tx *db.Tx) error { return s.renew(ctx, tx, v) })
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	s.log.ErrorContext(ctx, "renewal cannot be started; it is tried again", "certificate_id", v.CertificateID, "version_id", v.ID, "after", planAgain, "error", err)
	return s.db.InTx(ctx, func(tx *db.Tx) error {
		again := s.now().Add(planAgain)
		return s.certificates.SetDue(ctx, tx, v.ID, &again)
	})
}

// renew starts or retries the order that replaces a version, if it should be
// replaced still.
func (s *Service) renew(ctx context.Context, tx *db.Tx, due inventory.Version) error {
	c, err := s.certificates.Lock(ctx, tx, due.CertificateID)
	if err != nil {
		return err
	}
	v, err := s.certificates.Version(ctx, tx, due.ID)
	if err != nil || v.DueAt == nil || v.DueAt.After(s.now()) {
		return err // another replica was faster
	}
	kept, err := s.kept(ctx, tx, c, v)
	if err != nil {
		return err
	}
	last, found, err := s.store.latest(ctx, tx, c.ID, v.AgentID)
	if err != nil {
		return err
	}
	if !kept || found && last.State.Open() {
		return s.certificates.SetDue(ctx, tx, v.ID, nil)
	}
	if found && last.State == Failed {
		return s.renewAgain(ctx, tx, c, last)
	}
	_, err = s.Start(ctx, tx, c.ID, v.AgentID, inventory.Renew)
	return err
}

// kept reports whether a version is renewed by itself.
func (s *Service) kept(ctx context.Context, tx *db.Tx, c inventory.Certificate, v inventory.Version) (bool, error) {
	if !c.Renewal.Auto || c.ArchivedAt != nil || !v.Active() {
		return false, nil
	}
	_, enrolled, err := s.store.agent(ctx, tx, v.AgentID)
	if err != nil || !enrolled {
		return false, err
	}
	holders, err := s.certificates.Holders(ctx, tx, c.ID)
	return slices.Contains(holders, v.AgentID), err
}

// renewAgain retries the order that failed, or starts another when that one
// cannot lead to what is wished for.
func (s *Service) renewAgain(ctx context.Context, tx *db.Tx, c inventory.Certificate, o Order) error {
	wish, refused, err := s.wish(ctx, tx, c)
	if err != nil {
		return err
	}
	err = s.canRetry(ctx, tx, c, o)
	if err != nil && ignoreConflict(err) != nil {
		return err
	}
	if err != nil || !s.canReopen(o, wish) {
		_, err = s.Start(ctx, tx, c.ID, o.AgentID, inventory.Renew)
		return err
	}
	if err := s.reopen(ctx, tx, c, &o, wish, "Retried by itself"); err != nil || refused == nil || o.VersionID != "" {
		return err
	}
	return s.fail(ctx, tx, c, &o, refused.Error())
}
