package deployment

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/certctl-io/certctl/internal/audit"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/problem"
)

// Assign makes exactly these targets, named by id or name, those of a
// certificate. A target of another certificate is a conflict. What follows from
// it for orders and deployments is the caller's to start; only what was open
// for targets that leave is cancelled here.
func (s *Service) Assign(ctx context.Context, tx *db.Tx, certificateID string, refs []string) error {
	c, err := s.certificates.Lock(ctx, tx, certificateID)
	if err != nil {
		return err
	}
	chosen, err := s.choose(ctx, tx, refs)
	if err != nil {
		return err
	}
	present, err := s.targets.ofCertificate(ctx, tx, certificateID)
	if err != nil {
		return err
	}
	for _, t := range present {
		if slices.ContainsFunc(chosen, func(other choice) bool { return other.ID == t.ID }) {
			continue
		}
		if err := s.reassign(ctx, tx, t, inventory.Certificate{}); err != nil {
			return err
		}
	}
	// In order of their ids, as everybody locks them.
	slices.SortFunc(chosen, func(a, b choice) int { return strings.Compare(a.ID, b.ID) })
	for _, wanted := range chosen {
		if err := s.take(ctx, tx, wanted, c); err != nil {
			return err
		}
	}
	return nil
}

// choice is a target as a list names it.
type choice struct {
	Target
	field string
}

func (s *Service) choose(ctx context.Context, tx *db.Tx, refs []string) ([]choice, error) {
	var chosen []choice
	for i, ref := range refs {
		field := fmt.Sprintf("targets[%d]", i)
		t, err := s.targets.byRef(ctx, tx, ref)
		if problem.KindOf(err) == problem.KindNotFound {
			return nil, problem.Invalid(field, "there is no target %q", ref).Hint("see certctl list targets; certctl targets create makes one")
		}
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(chosen, func(other choice) bool { return other.ID == t.ID }) {
			chosen = append(chosen, choice{t, field})
		}
	}
	return chosen, nil
}

// take gives a target that a list names to a certificate.
func (s *Service) take(ctx context.Context, tx *db.Tx, wanted choice, c inventory.Certificate) error {
	t, err := s.targets.lock(ctx, tx, wanted.ID)
	if err != nil || t.CertificateID == c.ID {
		return err
	}
	revoked, err := s.store.agentRevoked(ctx, tx, t.AgentID)
	if err != nil {
		return err
	}
	var refused *problem.Error
	switch {
	case t.CertificateID != "":
		refused = problem.Conflict("the target %q has the certificate %q", t.Name, t.Certificate).
			Hint("take it from that certificate first, or name another target")
	case revoked:
		refused = problem.Conflict("the agent %q of the target %q was revoked", t.Agent, t.Name).Hint("name a target of another agent")
	default:
		return s.reassign(ctx, tx, t, c)
	}
	refused.Field = wanted.field
	return refused
}

// reassign stores that a target has another certificate, or with the empty one
// none, and records it everywhere.
func (s *Service) reassign(ctx context.Context, tx *db.Tx, before Target, c inventory.Certificate) error {
	after := before
	after.CertificateID, after.Certificate = c.ID, c.Name
	after.Revision++
	after.UpdatedAt = s.now()
	if err := s.targets.update(ctx, tx, after); err != nil {
		return err
	}
	if err := s.audit(ctx, tx, "target.update", before, after); err != nil {
		return err
	}
	return s.moved(ctx, tx, before, after)
}

// moved draws the consequences of a target's having changed certificates: what
// is open there is cancelled, and both timelines say so.
func (s *Service) moved(ctx context.Context, tx *db.Tx, before, after Target) error {
	if before.CertificateID != "" {
		if err := s.clear(ctx, tx, before, fmt.Sprintf("the target left the certificate %s", before.Certificate)); err != nil {
			return err
		}
		if err := s.recordTarget(ctx, tx, before, "target.released", "Target %s on agent %s was released."); err != nil {
			return err
		}
	}
	if after.CertificateID == "" {
		return nil
	}
	return s.recordTarget(ctx, tx, after, "target.assigned", "Target %s on agent %s was assigned.")
}

// clear cancels what is open for a target that leaves its certificate.
func (s *Service) clear(ctx context.Context, tx *db.Tx, t Target, reason string) error {
	open, found, err := s.store.openOf(ctx, tx, t.ID)
	if err != nil || !found {
		return err
	}
	if err := s.cancel(ctx, tx, &open, reason); err != nil {
		return err
	}
	return s.settle(ctx, tx, open.OrderID)
}

func (s *Service) recordTarget(ctx context.Context, tx *db.Tx, t Target, kind, format string) error {
	return inventory.Record(ctx, tx, inventory.Event{
		At: s.now(), CertificateID: t.CertificateID, Kind: kind, Message: fmt.Sprintf(format, t.Name, t.Agent),
		Detail: map[string]any{"target_id": t.ID, "target": t.Name, "agent": t.Agent, "kind": t.Kind},
	})
}

// audit records a change of a target with what it looked like, secrets masked.
func (s *Service) audit(ctx context.Context, tx *db.Tx, action string, before, after Target) error {
	change := audit.Change{Action: action, ObjectKind: "target", ObjectID: max(before.ID, after.ID)}
	var err error
	if change.Before, err = s.auditView(before); err != nil {
		return err
	}
	if change.After, err = s.auditView(after); err != nil {
		return err
	}
	return audit.Append(ctx, tx, change)
}

// auditView is view, and nothing for no target.
func (s *Service) auditView(t Target) (any, error) {
	if t.ID == "" {
		return nil, nil
	}
	return s.view(t)
}
