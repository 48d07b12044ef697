package issuance

import (
	"context"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/problem"
)

// settled takes note that no deployment of an order is open any more. An order
// that had failed is done after all when its deployments were retried by
// themselves and none of them fails now.
func (s *Service) settled(ctx context.Context, orderID string) error {
	return s.db.InTx(ctx, func(tx *db.Tx) error {
		c, o, err := s.locked(ctx, tx, orderID)
		if err != nil {
			return err
		}
		if o.State != Failed || o.VersionID == "" {
			return s.settle(ctx, tx, c, &o)
		}
		open, failed, _, err := s.deployments.Outcome(ctx, tx, o.ID)
		if err != nil || open > 0 || failed > 0 {
			return err
		}
		if err := s.canRetry(ctx, tx, c, o); err != nil {
			return ignoreConflict(err)
		}
		if err := s.move(ctx, tx, &o, Issued, "", "The deployments that had failed were retried"); err != nil {
			return err
		}
		return s.finish(ctx, tx, c, &o)
	})
}

// settle ends an issued order when none of its deployments is open any more.
func (s *Service) settle(ctx context.Context, tx *db.Tx, c inventory.Certificate, o *Order) error {
	if o.State != Issued {
		return nil
	}
	open, failed, reason, err := s.deployments.Outcome(ctx, tx, o.ID)
	switch {
	case err != nil || open > 0:
		return err
	case failed > 0:
		return s.fail(ctx, tx, c, o, reason)
	default:
		return s.finish(ctx, tx, c, o)
	}
}

// assigned follows a certificate that gained or lost a target.
func (s *Service) assigned(ctx context.Context, certificateID string) error {
	return s.db.InTx(ctx, func(tx *db.Tx) error {
		return s.Reconcile(ctx, tx, certificateID, inventory.TargetAdded)
	})
}

// ignoreConflict drops the error that says that something else came first.
func ignoreConflict(err error) error {
	if problem.KindOf(err) == problem.KindConflict {
		return nil
	}
	return err
}
