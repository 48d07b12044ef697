package issuance

import (
	"context"
	"slices"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/profile"
)

var beginnings = map[inventory.OrderReason]string{
	inventory.Requested:   "Requested",
	inventory.Renew:       "Renewal is due",
	inventory.Forced:      "A new version was asked for",
	inventory.Rekey:       "The version in use was revoked",
	inventory.TargetAdded: "The agent became a key holder",
	inventory.KeyLost:     "The agent joined again without the keys it had",
}

// Start begins an order for a key holder. It gives the open order if there is
// one. When the profile does not allow what the certificate asks for, a person
// who forces an order is told so; any other order is made and fails, which
// shows.
func (s *Service) Start(ctx context.Context, tx *db.Tx, certificateID, agentID string, reason inventory.OrderReason) (string, error) {
	c, err := s.certificates.Lock(ctx, tx, certificateID)
	if err != nil {
		return "", err
	}
	if c.ArchivedAt != nil {
		return "", problem.Conflict("certificate %q is archived", c.Name).Hint("restore it first")
	}
	agent, err := s.holder(ctx, tx, c, agentID)
	if err != nil {
		return "", err
	}
	last, found, err := s.store.latest(ctx, tx, c.ID, agentID)
	if err != nil {
		return "", err
	}
	if found && last.State.Open() {
		dead, err := s.revoked(ctx, tx, last)
		if err != nil || !dead {
			return last.ID, err
		}
		if err := s.cancel(ctx, tx, c, &last, "its version was revoked"); err != nil {
			return "", err
		}
	}
	wish, refused, err := s.wish(ctx, tx, c)
	if err != nil {
		return "", err
	}
	if refused != nil && reason == inventory.Forced {
		return "", refused
	}
	return s.begin(ctx, tx, c, agentID, agent, reason, wish, refused)
}

func (s *Service) begin(ctx context.Context, tx *db.Tx, c inventory.Certificate, agentID, agent string,
	reason inventory.OrderReason, wish Spec, refused error,
) (string, error) {
	o := Order{ID: id.New("ord"), CertificateID: c.ID, AgentID: agentID, Reason: reason, Spec: wish, CreatedAt: s.now()}
	if err := s.notDue(ctx, tx, c.ID, agentID); err != nil {
		return "", err
	}
	message := beginnings[reason]
	if refused == nil {
		message += ": agent " + agent + " is asked for a certificate request"
	}
	if err := s.move(ctx, tx, &o, Pending, "", message); err != nil {
		return "", err
	}
	if refused != nil {
		return o.ID, s.fail(ctx, tx, c, &o, refused.Error())
	}
	return o.ID, s.tasks.RequestCSR(ctx, tx, agentID, o.ID, time.Time{})
}

// notDue keeps the planner away from the version of a holder that has an order.
func (s *Service) notDue(ctx context.Context, tx *db.Tx, certificateID, agentID string) error {
	v, found, err := s.certificates.Active(ctx, tx, certificateID, agentID)
	if err != nil || !found || v.DueAt == nil {
		return err
	}
	return s.certificates.SetDue(ctx, tx, v.ID, nil)
}

// holder gives the name of an agent that is a key holder of the certificate.
func (s *Service) holder(ctx context.Context, tx *db.Tx, c inventory.Certificate, agentID string) (string, error) {
	name, enrolled, err := s.store.agent(ctx, tx, agentID)
	if err != nil {
		return "", err
	}
	if !enrolled {
		return "", problem.Conflict("agent %s was revoked", name).Hint("make its targets anew on another agent")
	}
	holders, err := s.certificates.Holders(ctx, tx, c.ID)
	if err != nil {
		return "", err
	}
	if !slices.Contains(holders, agentID) {
		return "", problem.Conflict("agent %s has no target of certificate %q", name, c.Name).Hint("assign one of its targets to the certificate first")
	}
	return name, nil
}

// wish is what the certificate asks for now, and what its profile has against
// that.
func (s *Service) wish(ctx context.Context, tx *db.Tx, c inventory.Certificate) (wish Spec, refused, err error) {
	p, err := s.profiles.ByRef(ctx, tx, c.ProfileID)
	if err != nil {
		return Spec{}, nil, err
	}
	refused = p.Check(profile.Wish{CommonName: c.CommonName, Names: c.Names, KeyType: c.KeyType, Lifetime: c.Lifetime})
	return specOf(c, p), refused, nil
}

// revoked reports whether the version of an order was revoked.
func (s *Service) revoked(ctx context.Context, tx *db.Tx, o Order) (bool, error) {
	if o.VersionID == "" {
		return false, nil
	}
	v, err := s.certificates.Version(ctx, tx, o.VersionID)
	return v.RevokedAt != nil, err
}

// canRetry tells whether a failed order may go on: it is the last one of its
// holder, which is a holder still, and its version is good.
func (s *Service) canRetry(ctx context.Context, tx *db.Tx, c inventory.Certificate, o Order) error {
	switch {
	case o.State != Failed:
		return problem.Conflict("the order is %s", o.State).Hint("only a failed order can be retried; renew the certificate for a new one")
	case c.ArchivedAt != nil:
		return problem.Conflict("certificate %q is archived", c.Name).Hint("restore it first")
	}
	last, _, err := s.store.latest(ctx, tx, o.CertificateID, o.AgentID)
	if err != nil {
		return err
	}
	if last.ID != o.ID {
		return problem.Conflict("order %s came after it", last.ID).Hint("look at that one, or renew the certificate")
	}
	if _, err := s.holder(ctx, tx, c, o.AgentID); err != nil {
		return err
	}
	if o.VersionID == "" {
		return nil
	}
	v, err := s.certificates.Version(ctx, tx, o.VersionID)
	if err != nil {
		return err
	}
	if v.RevokedAt != nil || !s.now().Before(v.NotAfter) {
		return problem.Conflict("the version of the order is %s", v.State(s.now())).Hint("renew the certificate instead")
	}
	return nil
}

// canReopen reports whether a failed order can lead to what is wished for. One
// that has its version cannot get another.
func (s *Service) canReopen(o Order, wish Spec) bool { return o.VersionID == "" || o.fits(wish) }

// reopen makes a failed order go on from where it failed, with what is wished
// for now. What no longer belongs to that is given up.
func (s *Service) reopen(ctx context.Context, tx *db.Tx, c inventory.Certificate, o *Order, wish Spec, why string) error {
	if err := s.notDue(ctx, tx, o.CertificateID, o.AgentID); err != nil {
		return err
	}
	if o.VersionID != "" {
		return s.redeploy(ctx, tx, c, o, why)
	}
	if !o.Spec.sameRequest(wish) {
		o.CSR = nil
	}
	if !o.Spec.equal(wish) {
		o.Progress = nil
	}
	o.Spec = wish
	if o.CSR != nil {
		if err := s.move(ctx, tx, o, Signing, "", why+": the issuer is asked again"); err != nil {
			return err
		}
		return s.queue.Enqueue(ctx, tx, signArgs{OrderID: o.ID})
	}
	if err := s.move(ctx, tx, o, Pending, "", why+": the agent is asked again for a certificate request"); err != nil {
		return err
	}
	return s.tasks.RequestCSR(ctx, tx, o.AgentID, o.ID, time.Time{})
}

func (s *Service) redeploy(ctx context.Context, tx *db.Tx, c inventory.Certificate, o *Order, why string) error {
	if err := s.move(ctx, tx, o, Issued, "", why+": the version is deployed again"); err != nil {
		return err
	}
	if _, err := s.deployments.RetryOrder(ctx, tx, o.ID); err != nil {
		return err
	}
	return s.settle(ctx, tx, c, o)
}
