package issuance

import (
	"context"
	"slices"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/inventory"
)

// Reconcile starts and ends orders until they are what the certificate and its
// targets ask for. It is called after any change of those, and changes nothing
// when nothing is amiss.
func (s *Service) Reconcile(ctx context.Context, tx *db.Tx, certificateID string, reason inventory.OrderReason) error {
	c, err := s.certificates.Lock(ctx, tx, certificateID)
	if err != nil {
		return err
	}
	holders, err := s.certificates.Holders(ctx, tx, c.ID)
	if err != nil {
		return err
	}
	if err := s.release(ctx, tx, c, holders); err != nil {
		return err
	}
	if c.ArchivedAt != nil {
		return s.shelve(ctx, tx, c)
	}
	wish, _, err := s.wish(ctx, tx, c)
	if err != nil {
		return err
	}
	for _, agentID := range holders {
		if err := s.provide(ctx, tx, c, agentID, wish, reason); err != nil {
			return err
		}
	}
	return nil
}

// shelve ends the work on an archived certificate. What is served stays so.
func (s *Service) shelve(ctx context.Context, tx *db.Tx, c inventory.Certificate) error {
	open, err := s.store.open(ctx, tx, c.ID)
	if err != nil {
		return err
	}
	for _, o := range open {
		if err := s.cancel(ctx, tx, c, &o, "the certificate was archived"); err != nil {
			return err
		}
	}
	active, err := s.certificates.ActiveVersions(ctx, tx, c.ID)
	if err != nil {
		return err
	}
	for _, v := range active {
		if err := s.certificates.SetDue(ctx, tx, v.ID, nil); err != nil {
			return err
		}
	}
	return nil
}

// release ends what there is for agents that are no key holders any more.
func (s *Service) release(ctx context.Context, tx *db.Tx, c inventory.Certificate, holders []string) error {
	open, err := s.store.open(ctx, tx, c.ID)
	if err != nil {
		return err
	}
	for _, o := range open {
		if slices.Contains(holders, o.AgentID) {
			continue
		}
		if err := s.cancel(ctx, tx, c, &o, "the agent has no target of the certificate any more"); err != nil {
			return err
		}
	}
	active, err := s.certificates.ActiveVersions(ctx, tx, c.ID)
	if err != nil {
		return err
	}
	for _, v := range active {
		if slices.Contains(holders, v.AgentID) {
			continue
		}
		if err := s.retire(ctx, tx, v); err != nil {
			return err
		}
	}
	return nil
}

// retire takes a version whose holder left out of use.
func (s *Service) retire(ctx context.Context, tx *db.Tx, v inventory.Version) error {
	name, _, err := s.store.agent(ctx, tx, v.AgentID)
	if err != nil {
		return err
	}
	if err := s.certificates.Retire(ctx, tx, v.CertificateID, v.AgentID, s.now()); err != nil {
		return err
	}
	return inventory.Record(ctx, tx, inventory.Event{
		At: s.now(), CertificateID: v.CertificateID, OrderID: v.OrderID, Kind: "version.retired",
		Message: "Agent " + name + " has no target of the certificate any more: its version is not kept up.",
		Detail:  map[string]any{"agent_id": v.AgentID, "version_id": v.ID},
	})
}

// provide sees to it that one key holder has, or is about to get, what is
// wished for.
func (s *Service) provide(ctx context.Context, tx *db.Tx, c inventory.Certificate, agentID string, wish Spec, reason inventory.OrderReason) error {
	if _, enrolled, err := s.store.agent(ctx, tx, agentID); err != nil || !enrolled {
		return err
	}
	last, found, err := s.store.latest(ctx, tx, c.ID, agentID)
	if err != nil {
		return err
	}
	if found && last.State.Open() {
		if last.fits(wish) {
			return s.extend(ctx, tx, c, &last)
		}
		if err := s.cancel(ctx, tx, c, &last, "the certificate asks for something else now"); err != nil {
			return err
		}
		last = Order{}
	}
	v, found, err := s.certificates.Active(ctx, tx, c.ID, agentID)
	if err != nil {
		return err
	}
	if found {
		served, err := s.store.specOfVersion(ctx, tx, v)
		if err != nil {
			return err
		}
		if served.serves(wish) && v.State(s.now()) == inventory.VersionActive {
			return s.keep(ctx, tx, c, v, last)
		}
	}
	_, err = s.Start(ctx, tx, c.ID, agentID, reason)
	return err
}

// extend brings the version of an open order to targets that its holder got
// meanwhile. The order may have waited for a target that left.
func (s *Service) extend(ctx context.Context, tx *db.Tx, c inventory.Certificate, o *Order) error {
	if o.State != Issued {
		return nil
	}
	v, err := s.certificates.Version(ctx, tx, o.VersionID)
	if err != nil {
		return err
	}
	if _, err := s.deployments.StartMissing(ctx, tx, v); err != nil {
		return err
	}
	return s.settle(ctx, tx, c, o)
}

// keep brings the version in use to targets that do not have it, and follows a
// change of the renewal policy. The pause after a failed renewal is kept.
func (s *Service) keep(ctx context.Context, tx *db.Tx, c inventory.Certificate, v inventory.Version, last Order) error {
	if _, err := s.deployments.StartMissing(ctx, tx, v); err != nil {
		return err
	}
	var due *time.Time
	if c.Renewal.Auto {
		due = &v.RenewAt
		if v.DueAt != nil && (last.State == Failed || last.State == Cancelled) {
			due = v.DueAt
		}
	}
	return s.certificates.SetDue(ctx, tx, v.ID, due)
}
