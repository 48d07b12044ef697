package inventory

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/certctl-io/certctl/internal/audit"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
)

// Renew starts orders for new versions: for the key holders that are named, by
// id or name, or for all. It gives the orders, open ones included.
func (s *Service) Renew(ctx context.Context, ref string, agents []string) (orderIDs []string, err error) {
	err = s.db.InTx(ctx, func(tx *db.Tx) error {
		c, holders, err := s.held(ctx, tx, ref)
		if err != nil {
			return err
		}
		if holders, err = choose(c, holders, agents); err != nil {
			return err
		}
		if orderIDs, err = s.startAll(ctx, tx, c, holders, Forced); err != nil {
			return err
		}
		return audit.Append(ctx, tx, audit.Change{
			Action: "certificate.renew", ObjectKind: "certificate", ObjectID: c.ID, After: map[string]any{"orders": orderIDs},
		})
	})
	return orderIDs, err
}

// held locks a certificate that is to be worked on, and reads its key holders:
// there is one at least.
func (s *Service) held(ctx context.Context, tx *db.Tx, ref string) (Certificate, []holder, error) {
	c, err := s.store.lockRef(ctx, tx, ref)
	if err != nil {
		return Certificate{}, nil, err
	}
	if c.ArchivedAt != nil {
		return Certificate{}, nil, archived(c)
	}
	holders, err := s.store.holders(ctx, tx, c.ID)
	if err == nil && len(holders) == 0 {
		err = problem.Conflict("certificate %q has no targets, so nobody holds a key of it", c.Name).Hint("assign a target to it first")
	}
	return c, holders, err
}

// choose gives the key holders that are named, or all whose agents still work.
func choose(c Certificate, holders []holder, refs []string) ([]holder, error) {
	if len(refs) == 0 {
		enrolled := slices.DeleteFunc(slices.Clone(holders), func(h holder) bool { return h.RevokedAt != nil })
		if len(enrolled) == 0 {
			return nil, problem.Conflict("all agents of certificate %q were revoked", c.Name).Hint("make its targets anew on another agent")
		}
		return enrolled, nil
	}
	var chosen []holder
	var wrong []*problem.Error
	for i, ref := range refs {
		at := slices.IndexFunc(holders, func(h holder) bool { return h.AgentID == ref || h.Agent == ref })
		switch {
		case at < 0:
			wrong = append(wrong, problem.Invalid(fmt.Sprintf("agents[%d]", i), "agent %q holds no key of certificate %q", ref, c.Name).
				Hint("its key holders are the agents of its targets: %s", names(holders)))
		case !slices.Contains(chosen, holders[at]):
			chosen = append(chosen, holders[at])
		}
	}
	return chosen, problem.Join(wrong...)
}

func names(holders []holder) string {
	agents := make([]string, len(holders))
	for i, h := range holders {
		agents[i] = h.Agent
	}
	return joined(agents)
}

func (s *Service) startAll(ctx context.Context, tx *db.Tx, c Certificate, holders []holder, reason OrderReason) ([]string, error) {
	orderIDs := make([]string, len(holders))
	for i, h := range holders {
		var err error
		if orderIDs[i], err = s.orders.Start(ctx, tx, c.ID, h.AgentID, reason); err != nil {
			return nil, err
		}
	}
	return orderIDs, nil
}

// Deploy puts the active versions on all targets of a certificate again.
func (s *Service) Deploy(ctx context.Context, ref string) (deploymentIDs []string, err error) {
	err = s.db.InTx(ctx, func(tx *db.Tx) error {
		c, _, err := s.held(ctx, tx, ref)
		if err != nil {
			return err
		}
		if deploymentIDs, err = s.targets.Redeploy(ctx, tx, c.ID); err != nil {
			return err
		}
		if len(deploymentIDs) == 0 {
			return problem.Conflict("certificate %q has no active version to deploy", c.Name).
				Hint("wait for its first order, or retry it when it failed; a deployment of that order can be retried by itself")
		}
		return audit.Append(ctx, tx, audit.Change{
			Action: "certificate.deploy", ObjectKind: "certificate", ObjectID: c.ID, After: map[string]any{"deployments": deploymentIDs},
		})
	})
	return deploymentIDs, err
}

// Revoke revokes all versions of a certificate that are still valid, those that
// were replaced included. With reissue, orders for new versions with new keys
// start. Revoking again changes nothing.
func (s *Service) Revoke(ctx context.Context, ref string, reason RevocationReason, reissue bool) (Standing, error) {
	var revoked Standing
	err := s.db.InTx(ctx, func(tx *db.Tx) error {
		c, err := s.store.lockRef(ctx, tx, ref)
		if err != nil {
			return err
		}
		if reissue && c.ArchivedAt != nil {
			return archived(c)
		}
		if err := s.revokeValid(ctx, tx, c, reason); err != nil {
			return err
		}
		if reissue {
			if err := s.reissue(ctx, tx, c); err != nil {
				return err
			}
		}
		revoked, err = s.standing(ctx, tx, c)
		return err
	})
	return revoked, err
}

func (s *Service) revokeValid(ctx context.Context, tx *db.Tx, c Certificate, reason RevocationReason) error {
	valid, err := s.store.valid(ctx, tx, c.ID, s.now())
	if err != nil {
		return err
	}
	if len(valid) == 0 {
		repeated, err := s.store.anyRevoked(ctx, tx, c.ID)
		if err == nil && !repeated {
			err = problem.Conflict("certificate %q has no valid version to revoke", c.Name)
		}
		return err
	}
	serials := make([]string, len(valid))
	for i, v := range valid {
		serials[i] = v.Serial
		if err := s.revoke(ctx, tx, v, reason); err != nil {
			return err
		}
	}
	return audit.Append(ctx, tx, audit.Change{
		Action: "certificate.revoke", ObjectKind: "certificate", ObjectID: c.ID,
		After: map[string]any{"serials": serials, "reason": reason.String()},
	})
}

func (s *Service) revoke(ctx context.Context, tx *db.Tx, v Version, reason RevocationReason) error {
	now := s.now()
	if err := s.store.revoke(ctx, tx, v.ID, now, reason); err != nil {
		return err
	}
	if err := s.revocations.Revoked(ctx, tx, v.IssuerID, v.Serial, v.Shard); err != nil {
		return err
	}
	return Record(ctx, tx, Event{
		At: now, CertificateID: v.CertificateID, OrderID: v.OrderID, Kind: "version.revoked",
		Message: fmt.Sprintf("The version with the serial %s was revoked: %s.", v.Serial, reason),
		Detail:  map[string]any{"version_id": v.ID, "serial": v.Serial, "reason": reason.String()},
	})
}

// reissue starts orders for all key holders whose agents still work.
func (s *Service) reissue(ctx context.Context, tx *db.Tx, c Certificate) error {
	holders, err := s.store.holders(ctx, tx, c.ID)
	if err != nil {
		return err
	}
	if holders, err = choose(c, holders, nil); err != nil {
		return err
	}
	_, err = s.startAll(ctx, tx, c, holders, Rekey)
	return err
}

// RevokeVersion revokes one version. Revoking it again for the same reason
// changes nothing.
func (s *Service) RevokeVersion(ctx context.Context, versionID string, reason RevocationReason) (NamedVersion, error) {
	var revoked NamedVersion
	err := s.db.InTx(ctx, func(tx *db.Tx) error {
		v, err := s.store.named(ctx, tx, versionID)
		if err != nil {
			return err
		}
		if _, err := s.store.Lock(ctx, tx, v.CertificateID); err != nil {
			return err
		}
		if revoked, err = s.store.named(ctx, tx, versionID); err != nil {
			return err
		}
		again, err := canRevoke(revoked.Version, reason, s.now())
		if err != nil || again {
			return err
		}
		if err := s.revoke(ctx, tx, revoked.Version, reason); err != nil {
			return err
		}
		if revoked, err = s.store.named(ctx, tx, versionID); err != nil {
			return err
		}
		return audit.Append(ctx, tx, audit.Change{
			Action: "version.revoke", ObjectKind: "version", ObjectID: versionID,
			After: map[string]any{"certificate": revoked.Certificate, "serial": revoked.Serial, "reason": reason.String()},
		})
	})
	return revoked, err
}

// canRevoke tells whether a version can be revoked, or was for this reason.
func canRevoke(v Version, reason RevocationReason, now time.Time) (again bool, err error) {
	switch {
	case v.RevokedAt != nil && v.RevocationReason != nil && *v.RevocationReason == reason:
		return true, nil
	case v.RevokedAt != nil:
		return false, problem.Conflict("the version was revoked at %s already", when(*v.RevokedAt))
	case !now.Before(v.NotAfter):
		return false, problem.Conflict("the version expired at %s, so there is nothing to revoke", when(v.NotAfter))
	}
	return false, nil
}
