package issuance

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/duration"
	"github.com/certctl-io/certctl/internal/inventory"
)

// locked reads an order with its certificate, and locks both: the certificate
// for the decision, the order against progress that a driver saves meanwhile.
func (s *Service) locked(ctx context.Context, tx *db.Tx, orderID string) (inventory.Certificate, Order, error) {
	o, err := s.store.order(ctx, tx, orderID, "")
	if err != nil {
		return inventory.Certificate{}, Order{}, err
	}
	c, err := s.certificates.Lock(ctx, tx, o.CertificateID)
	if err != nil {
		return inventory.Certificate{}, Order{}, err
	}
	o, err = s.store.order(ctx, tx, orderID, tx.ForUpdate())
	return c, o, err
}

// move changes the state of an order, in this one place: it refuses what is not
// in the table of moves, stores the order, and writes the line of the timeline.
// The message is a sentence without its full stop; the reason is the order's
// own.
func (s *Service) move(ctx context.Context, tx *db.Tx, o *Order, to State, reason, message string) error {
	if !o.State.Can(to) {
		return fmt.Errorf("order %s cannot go from %q to %q", o.ID, o.State, to)
	}
	from, now := o.State, s.now()
	o.State, o.StateReason, o.UpdatedAt = to, reason, now
	o.NextTryAt, o.FinishedAt = nil, nil
	switch to {
	case Pending, Signing:
		o.Attempts = 0
	case Done, Failed, Cancelled:
		o.FinishedAt = &now
		tx.AfterCommit(func() { s.finished(string(to)) })
	}
	write := s.store.update
	if from == unborn {
		write = s.store.insert
	}
	if err := write(ctx, tx, *o); err != nil {
		return err
	}
	return s.tell(ctx, tx, *o, "order."+string(to), message)
}

// tell writes a line of an order's timeline.
func (s *Service) tell(ctx context.Context, tx *db.Tx, o Order, kind, message string) error {
	detail := map[string]any{"agent_id": o.AgentID, "reason": o.Reason}
	if o.VersionID != "" {
		detail["version_id"] = o.VersionID
	}
	if o.Attempts > 0 {
		detail["attempts"] = o.Attempts
	}
	return inventory.Record(ctx, tx, inventory.Event{
		At: s.now(), CertificateID: o.CertificateID, OrderID: o.ID, Kind: kind, Message: strings.TrimSuffix(message, ".") + ".", Detail: detail,
	})
}

// postpone keeps the state of an order and says when its step is tried again.
func (s *Service) postpone(ctx context.Context, tx *db.Tx, o *Order, pause time.Duration, reason, message string) error {
	now := s.now()
	next := now.Add(pause)
	o.StateReason, o.UpdatedAt, o.NextTryAt = reason, now, &next
	if err := s.store.update(ctx, tx, *o); err != nil {
		return err
	}
	return s.tell(ctx, tx, *o, "order.postponed", fmt.Sprintf("%s; next try in %s", message, readable(pause)))
}

// readable rounds a time for a sentence.
func readable(d time.Duration) duration.Duration {
	return duration.Duration(max(d.Round(time.Second), time.Second))
}

// fail ends an order until it is retried.
func (s *Service) fail(ctx context.Context, tx *db.Tx, c inventory.Certificate, o *Order, reason string) error {
	if err := s.leave(ctx, tx, *o, reason); err != nil {
		return err
	}
	if err := s.move(ctx, tx, o, Failed, reason, "The order failed: "+reason); err != nil {
		return err
	}
	failures, _, err := s.store.happened(ctx, tx, o.ID, "order."+string(Failed))
	if err != nil {
		return err
	}
	return s.reschedule(ctx, tx, c, *o, failures)
}

// cancel ends an order for good.
func (s *Service) cancel(ctx context.Context, tx *db.Tx, c inventory.Certificate, o *Order, reason string) error {
	if err := s.leave(ctx, tx, *o, reason); err != nil {
		return err
	}
	if err := s.move(ctx, tx, o, Cancelled, reason, "The order was cancelled: "+reason); err != nil {
		return err
	}
	const patient = 16 // a person who cancels a renewal does not want the next one at once
	return s.reschedule(ctx, tx, c, *o, patient)
}

// leave takes back what the state of an order has others do.
func (s *Service) leave(ctx context.Context, tx *db.Tx, o Order, reason string) error {
	switch o.State {
	case Pending:
		return s.tasks.FinishCSR(ctx, tx, o.ID)
	case Issued:
		return s.deployments.CancelOrder(ctx, tx, o.ID, reason)
	default:
		return nil
	}
}

// reschedule says when the planner looks at the version in use again, after an
// order for another one came to nothing.
func (s *Service) reschedule(ctx context.Context, tx *db.Tx, c inventory.Certificate, o Order, failures int) error {
	v, found, err := s.certificates.Active(ctx, tx, o.CertificateID, o.AgentID)
	if err != nil || !found {
		return err
	}
	var due *time.Time
	if c.Renewal.Auto && c.ArchivedAt == nil {
		now := s.now()
		at := now.Add(renewalWait(failures, v.NotAfter.Sub(now), s.jitter()))
		if v.RenewAt.After(at) {
			at = v.RenewAt
		}
		due = &at
	}
	return s.certificates.SetDue(ctx, tx, v.ID, due)
}

// finish makes the version of an order the active one of its holder.
func (s *Service) finish(ctx context.Context, tx *db.Tx, c inventory.Certificate, o *Order) error {
	v, err := s.certificates.Version(ctx, tx, o.VersionID)
	if err != nil {
		return err
	}
	if v.RevokedAt != nil {
		return s.fail(ctx, tx, c, o, "its version was revoked before it was in use everywhere")
	}
	var due *time.Time
	if c.Renewal.Auto && c.ArchivedAt == nil {
		due = &v.RenewAt
	}
	if err := s.certificates.Activate(ctx, tx, v, s.now(), due); err != nil {
		return err
	}
	message := fmt.Sprintf("Done: the version is in use and valid until %s", v.NotAfter.UTC().Format(time.RFC3339))
	return s.move(ctx, tx, o, Done, "", message)
}
