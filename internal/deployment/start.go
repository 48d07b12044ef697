package deployment

import (
	"context"
	"fmt"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/inventory"
)

// wish is what a deployment is wanted for.
type wish struct {
	orderID string // the order that it counts for; empty for none
	reason  Reason
	restart bool // also when the same version is just being deployed
}

// places gives the targets that a version goes to: those of the certificate on
// the holder.
func (s *Service) places(ctx context.Context, tx *db.Tx, v inventory.Version) ([]Target, error) {
	all, err := s.targets.ofCertificate(ctx, tx, v.CertificateID)
	if err != nil {
		return nil, err
	}
	var places []Target
	for _, t := range all {
		if t.AgentID == v.AgentID {
			places = append(places, t)
		}
	}
	return places, nil
}

// put deploys a version to a target unless that is under way already, or a
// newer version is. What else is open there is superseded.
func (s *Service) put(ctx context.Context, tx *db.Tx, t Target, v inventory.Version, w wish) (d Deployment, fresh bool, err error) {
	open, found, err := s.store.openOf(ctx, tx, t.ID)
	if err != nil {
		return Deployment{}, false, err
	}
	now := s.now()
	d = Deployment{
		ID: id.New("dep"), TargetID: t.ID, Target: t.Name, AgentID: t.AgentID, Agent: t.Agent,
		CertificateID: v.CertificateID, Certificate: t.Certificate, VersionID: v.ID, OrderID: w.orderID,
		Reason: w.reason, State: Pending, CreatedAt: now, UpdatedAt: now,
	}
	if found {
		if open.stays(v, w) {
			return open, false, nil
		}
		if err := s.cancel(ctx, tx, &open, "it was superseded by deployment "+d.ID); err != nil {
			return Deployment{}, false, err
		}
	}
	if err := s.begin(ctx, tx, d, v); err != nil {
		return Deployment{}, false, err
	}
	return d, true, s.settle(ctx, tx, open.OrderID)
}

// stays reports whether an open deployment is as good as a new one of the
// version. Ids sort by time, so a greater one is a newer version.
func (d Deployment) stays(v inventory.Version, w wish) bool {
	if d.CertificateID != v.CertificateID {
		return false
	}
	if d.VersionID == v.ID {
		return !w.restart || d.State == Pending
	}
	return d.VersionID > v.ID
}

func (s *Service) begin(ctx context.Context, tx *db.Tx, d Deployment, v inventory.Version) error {
	if err := s.store.insert(ctx, tx, d); err != nil {
		return err
	}
	if err := s.tasks.Deploy(ctx, tx, d.AgentID, d.ID, d.TargetID, time.Time{}); err != nil {
		return err
	}
	return s.record(ctx, tx, d, "deployment.started",
		fmt.Sprintf("Deployment to target %s on agent %s started: %s.", d.Target, d.Agent, d.Reason.sentence()),
		map[string]any{"target": d.Target, "agent": d.Agent, "version_id": v.ID, "fingerprint": v.Fingerprint})
}

func (r Reason) sentence() string {
	switch r {
	case Issued:
		return "a new version was issued"
	case TargetAdded:
		return "the target does not have the version yet"
	case TargetChanged:
		return "its settings changed"
	default:
		return "it was asked for"
	}
}

// complete deploys a version to the targets of its holder that do not have it.
// A deployment of the same order that failed is taken up again.
func (s *Service) complete(ctx context.Context, tx *db.Tx, v inventory.Version, w wish) (started int, err error) {
	places, err := s.places(ctx, tx, v)
	if err != nil {
		return 0, err
	}
	for _, t := range places {
		fresh, err := s.ensure(ctx, tx, t, v, w)
		if err != nil {
			return 0, err
		}
		if fresh {
			started++
		}
	}
	return started, s.failIfRevoked(ctx, tx, v.AgentID)
}

// ensure sees to it that a target has a version, or gets it.
func (s *Service) ensure(ctx context.Context, tx *db.Tx, t Target, v inventory.Version, w wish) (fresh bool, err error) {
	last, found, err := s.store.lastOf(ctx, tx, t.ID)
	if err != nil {
		return false, err
	}
	if found && !last.Open() {
		done, has, err := s.store.lastDoneOf(ctx, tx, t.ID)
		if err != nil {
			return false, err
		}
		if ahead, err := s.ahead(ctx, tx, done, t); err != nil || (ahead && done.VersionID > v.ID) {
			return false, err
		}
		// A target that changed since may have other settings by now.
		if has && done.VersionID == v.ID && !done.FinishedAt.Before(t.UpdatedAt) {
			return false, nil
		}
		if last.State == Failed && last.VersionID == v.ID && last.OrderID == w.orderID {
			return true, s.again(ctx, tx, &last)
		}
	}
	_, fresh, err = s.put(ctx, tx, t, v, w)
	return fresh, err
}

// due gives the version that a target should serve: that of an order under way
// when the target has it already, with the order's id; else the active one.
func (s *Service) due(ctx context.Context, tx *db.Tx, t Target) (v inventory.Version, orderID string, found bool, err error) {
	done, _, err := s.store.lastDoneOf(ctx, tx, t.ID)
	if err != nil {
		return inventory.Version{}, "", false, err
	}
	ahead, err := s.ahead(ctx, tx, done, t)
	if err != nil {
		return inventory.Version{}, "", false, err
	}
	if ahead {
		v, err = s.certificates.Version(ctx, tx, done.VersionID)
		return v, v.OrderID, err == nil, err
	}
	v, found, err = s.certificates.Active(ctx, tx, t.CertificateID, t.AgentID)
	return v, "", found, err
}

// ahead reports whether the last version that a target got is one that still
// waits for other targets before it becomes active. The target keeps it.
func (s *Service) ahead(ctx context.Context, tx *db.Tx, done Deployment, t Target) (bool, error) {
	if done.ID == "" || done.CertificateID != t.CertificateID {
		return false, nil
	}
	found, err := s.store.standing(ctx, tx, done.VersionID)
	return found.OrderState == orderIssued, err
}

// again takes a deployment that failed up from the start.
func (s *Service) again(ctx context.Context, tx *db.Tx, d *Deployment) error {
	if err := d.move(Pending, "", s.now()); err != nil {
		return err
	}
	d.Attempts = 0
	if err := s.store.update(ctx, tx, *d); err != nil {
		return err
	}
	if err := s.tasks.Deploy(ctx, tx, d.AgentID, d.ID, d.TargetID, time.Time{}); err != nil {
		return err
	}
	return s.record(ctx, tx, *d, "deployment.retried", fmt.Sprintf("Deployment to target %s is tried again.", d.Target), nil)
}

// failIfRevoked fails what was started for an agent that is shut out. It looks
// after the deployments were stored: their reference to the agent's row makes a
// revocation at the same time wait, which then finds them.
func (s *Service) failIfRevoked(ctx context.Context, tx *db.Tx, agentID string) error {
	revoked, err := s.store.agentRevoked(ctx, tx, agentID)
	if err != nil || !revoked {
		return err
	}
	return s.LeaveAgent(ctx, tx, agentID)
}

func revokedReason(d Deployment) string { return fmt.Sprintf("the agent %s was revoked", d.Agent) }

// lock reads a deployment and locks its certificate.
func (s *Service) lock(ctx context.Context, tx *db.Tx, deploymentID string) (Deployment, error) {
	seen, err := s.store.byID(ctx, tx, deploymentID)
	if err != nil {
		return Deployment{}, err
	}
	if _, err := s.certificates.Lock(ctx, tx, seen.CertificateID); err != nil {
		return Deployment{}, err
	}
	return s.store.byID(ctx, tx, deploymentID)
}

// cancel ends an open deployment that is not wanted any more. What that means
// for its order is the caller's to settle.
func (s *Service) cancel(ctx context.Context, tx *db.Tx, d *Deployment, reason string) error {
	if err := s.end(ctx, tx, d, Cancelled, reason); err != nil {
		return err
	}
	return s.record(ctx, tx, *d, "deployment.cancelled", fmt.Sprintf("Deployment to target %s was cancelled: %s.", d.Target, reason), nil)
}

// fail ends an open deployment for a reason that the agent did not report.
func (s *Service) fail(ctx context.Context, tx *db.Tx, d *Deployment, reason string) error {
	if err := s.end(ctx, tx, d, Failed, reason); err != nil {
		return err
	}
	err := s.record(ctx, tx, *d, "deployment.failed", fmt.Sprintf("Deployment to target %s failed: %s.", d.Target, reason), nil)
	if err != nil {
		return err
	}
	return s.settle(ctx, tx, d.OrderID)
}

// end moves a deployment to a final state and takes its task from the agent.
func (s *Service) end(ctx context.Context, tx *db.Tx, d *Deployment, to State, reason string) error {
	if err := d.move(to, reason, s.now()); err != nil {
		return err
	}
	if err := s.store.update(ctx, tx, *d); err != nil {
		return err
	}
	return s.tasks.FinishDeploy(ctx, tx, d.ID)
}

// settle tells issuance when no deployment of an order is open any more.
func (s *Service) settle(ctx context.Context, tx *db.Tx, orderID string) error {
	if orderID == "" {
		return nil
	}
	open, _, _, err := s.Outcome(ctx, tx, orderID)
	if err != nil || open > 0 {
		return err
	}
	return s.queue.Enqueue(ctx, tx, Settled{OrderID: orderID})
}

// record writes a line of the certificate's timeline about a deployment.
func (s *Service) record(ctx context.Context, tx *db.Tx, d Deployment, kind, message string, detail any) error {
	return inventory.Record(ctx, tx, inventory.Event{
		At: s.now(), CertificateID: d.CertificateID, OrderID: d.OrderID, DeploymentID: d.ID, Kind: kind, Message: message, Detail: detail,
	})
}
