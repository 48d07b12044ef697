package deployment

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/targets"
)

// TargetSpec is what is said about a new target. Agent and certificate are
// named by id or name.
type TargetSpec struct {
	Name        string          `json:"name" doc:"Unique name." example:"web-1-nginx"`
	Agent       string          `json:"agent" doc:"Id or name of the agent that deploys there." example:"web-1.example.com"`
	Kind        string          `json:"kind" doc:"One of the kinds of target." example:"nginx"`
	Settings    json.RawMessage `json:"settings,omitempty" doc:"Settings of the kind; see the kinds of target for their schema."`
	Certificate string          `json:"certificate,omitempty" doc:"Id or name of the certificate that goes there."`
}

// TargetChange is what an update changes; nil leaves a field as it is.
type TargetChange struct {
	Name        *string         `json:"name,omitempty"`
	Agent       *string         `json:"agent,omitempty" doc:"It cannot change; the one that the target has is accepted."`
	Kind        *string         `json:"kind,omitempty" doc:"It cannot change; the one that the target has is accepted."`
	Settings    json.RawMessage `json:"settings,omitempty" doc:"All settings; they replace the ones before. A secret that is sent back masked stays."`
	Certificate *string         `json:"certificate,omitempty" doc:"Id or name of the certificate that goes there from now on; empty for none."`
}

// Target finds a target by its id or name.
func (s *Service) Target(ctx context.Context, ref string) (Target, error) {
	return s.targets.byRef(ctx, s.db.Read(), ref)
}

// Targets gives a page of targets.
func (s *Service) Targets(ctx context.Context, f TargetFilter, page db.Page) ([]Target, string, error) {
	return s.targets.list(ctx, s.db.Read(), f, page)
}

// CreateTarget makes a target.
func (s *Service) CreateTarget(ctx context.Context, spec TargetSpec) (Target, error) {
	var t Target
	err := s.db.InTx(ctx, func(tx *db.Tx) (err error) {
		if t, err = s.fresh(ctx, tx, spec); err != nil {
			return err
		}
		wanted, err := s.destination(ctx, tx, spec.Certificate)
		if err != nil {
			return err
		}
		c, err := s.lockCertificates(ctx, tx, wanted.ID)
		if err != nil {
			return err
		}
		if err := s.mayAssign(ctx, tx, t, c); err != nil {
			return err
		}
		t.CertificateID, t.Certificate = c.ID, c.Name
		if err := s.targets.insert(ctx, tx, t); err != nil {
			return err
		}
		if err := s.audit(ctx, tx, "target.create", Target{}, t); err != nil {
			return err
		}
		return s.follow(ctx, tx, Target{}, t)
	})
	return t, named(spec.Name, err)
}

// fresh checks what is said about a new target, all of it at once.
func (s *Service) fresh(ctx context.Context, tx *db.Tx, spec TargetSpec) (Target, error) {
	now := s.now()
	t := Target{ID: id.New("tgt"), Name: spec.Name, Revision: 1, Kind: spec.Kind, CreatedAt: now, UpdatedAt: now}
	wrong := []*problem.Error{id.CheckName("tgt", spec.Name)}
	holder, err := s.targets.agentByRef(ctx, tx, spec.Agent)
	for _, err := range []error{err, s.setSettings(&t, spec.Settings)} {
		found, ok := problem.As(err)
		if err != nil && !ok {
			return Target{}, err
		}
		wrong = append(wrong, each(found)...)
	}
	t.AgentID, t.Agent = holder.ID, holder.Name
	return t, problem.Join(wrong...)
}

// each gives the problems that were joined to one.
func each(joined *problem.Error) []*problem.Error {
	if joined == nil {
		return nil
	}
	first := *joined
	first.More = nil
	return append([]*problem.Error{&first}, joined.More...)
}

// destination finds the certificate that a target is to have, the empty one
// for none.
func (s *Service) destination(ctx context.Context, tx *db.Tx, ref string) (inventory.Certificate, error) {
	if ref == "" {
		return inventory.Certificate{}, nil
	}
	found, err := s.certificates.ByRef(ctx, tx, ref)
	if problem.KindOf(err) == problem.KindNotFound {
		return inventory.Certificate{}, problem.Invalid("certificate", "there is no certificate %q", ref).Hint("see certctl list certificates")
	}
	return found, err
}

// lockCertificates locks certificates in order of their ids, leaving out the
// empty one, and gives the one that is asked for.
func (s *Service) lockCertificates(ctx context.Context, tx *db.Tx, wanted string, others ...string) (inventory.Certificate, error) {
	var c inventory.Certificate
	concerned := append(others, wanted)
	slices.Sort(concerned)
	for _, certificateID := range slices.Compact(concerned) {
		if certificateID == "" {
			continue
		}
		locked, err := s.certificates.Lock(ctx, tx, certificateID)
		if err != nil {
			return inventory.Certificate{}, err
		}
		if certificateID == wanted {
			c = locked
		}
	}
	return c, nil
}

// mayAssign refuses to give a target a certificate that would never get there.
func (s *Service) mayAssign(ctx context.Context, tx *db.Tx, t Target, c inventory.Certificate) error {
	if c.ID == "" {
		return nil
	}
	if c.ArchivedAt != nil {
		return problem.Invalid("certificate", "%q was archived", c.Name).Hint("name another certificate")
	}
	revoked, err := s.store.agentRevoked(ctx, tx, t.AgentID)
	if err == nil && revoked {
		err = problem.Conflict("the agent %q of the target %q was revoked", t.Agent, t.Name).Hint("make a target on another agent")
	}
	return err
}

// follow draws the consequences of a target's having changed certificates, and
// has issuance draw its own.
func (s *Service) follow(ctx context.Context, tx *db.Tx, before, after Target) error {
	if before.CertificateID == after.CertificateID {
		return nil
	}
	if err := s.moved(ctx, tx, before, after); err != nil {
		return err
	}
	for _, certificateID := range []string{before.CertificateID, after.CertificateID} {
		if certificateID == "" {
			continue
		}
		if err := s.queue.Enqueue(ctx, tx, Assigned{CertificateID: certificateID}); err != nil {
			return err
		}
	}
	return nil
}

// UpdateTarget changes a target if match accepts its revision. What is deployed
// there is deployed again when its settings change.
func (s *Service) UpdateTarget(ctx context.Context, ref string, match func(revision int) error, change TargetChange) (Target, error) {
	var after Target
	err := s.db.InTx(ctx, func(tx *db.Tx) error {
		before, c, err := s.lockTarget(ctx, tx, ref, change.Certificate)
		if err != nil {
			return err
		}
		if err := match(before.Revision); err != nil {
			return err
		}
		var resettled bool
		if after, resettled, err = s.changed(before, change); err != nil {
			return err
		}
		after.CertificateID, after.Certificate = c.ID, c.Name
		if after.Name == before.Name && after.CertificateID == before.CertificateID && !resettled {
			return nil
		}
		if after.CertificateID != before.CertificateID {
			if err := s.mayAssign(ctx, tx, after, c); err != nil {
				return err
			}
		}
		after.Revision++
		after.UpdatedAt = s.now()
		return s.storeChange(ctx, tx, before, after, resettled)
	})
	return after, named(after.Name, err)
}

func (s *Service) storeChange(ctx context.Context, tx *db.Tx, before, after Target, resettled bool) error {
	if err := s.targets.update(ctx, tx, after); err != nil {
		return err
	}
	if err := s.audit(ctx, tx, "target.update", before, after); err != nil {
		return err
	}
	if !resettled || before.CertificateID != after.CertificateID {
		return s.follow(ctx, tx, before, after)
	}
	if err := s.refresh(ctx, tx, after); err != nil {
		return err
	}
	return s.failIfRevoked(ctx, tx, after.AgentID)
}

// lockTarget reads a target for a change, with the certificate it is to have
// afterwards: its own when wanted is nil. It locks the certificates that are
// concerned, in order of their ids, and then the target.
func (s *Service) lockTarget(ctx context.Context, tx *db.Tx, ref string, wanted *string) (Target, inventory.Certificate, error) {
	seen, err := s.targets.byRef(ctx, tx, ref)
	if err != nil {
		return Target{}, inventory.Certificate{}, err
	}
	destination := inventory.Certificate{ID: seen.CertificateID}
	if wanted != nil {
		if destination, err = s.destination(ctx, tx, *wanted); err != nil {
			return Target{}, inventory.Certificate{}, err
		}
	}
	c, err := s.lockCertificates(ctx, tx, destination.ID, seen.CertificateID)
	if err != nil {
		return Target{}, inventory.Certificate{}, err
	}
	t, err := s.targets.lock(ctx, tx, seen.ID)
	if err == nil && t.CertificateID != seen.CertificateID {
		err = problem.Stale("the target %q was assigned elsewhere meanwhile", t.Name).Hint("read it again and send the change anew")
	}
	return t, c, err
}

// changed applies a change and tells whether the settings are others now.
func (s *Service) changed(before Target, change TargetChange) (after Target, resettled bool, err error) {
	after = before
	var name, agent, kind *problem.Error
	if change.Name != nil && *change.Name != before.Name {
		after.Name = *change.Name
		name = id.CheckName("tgt", after.Name)
	}
	if change.Agent != nil && *change.Agent != before.Agent && *change.Agent != before.AgentID {
		agent = problem.Invalid("agent", "a target stays with its agent, which is %q", before.Agent).Hint("make a new target, and delete this one")
	}
	if change.Kind != nil && *change.Kind != before.Kind {
		kind = problem.Invalid("kind", "a target keeps its kind, which is %q", before.Kind).Hint("make a new target, and delete this one")
	}
	if err := problem.Join(name, agent, kind); err != nil || len(change.Settings) == 0 {
		return after, false, err
	}
	resettled, err = s.resettle(&after, change.Settings)
	return after, resettled, err
}

// resettle gives a target other settings, unless they are the same.
func (s *Service) resettle(t *Target, settings json.RawMessage) (changed bool, err error) {
	kind, err := s.kind(t.Kind)
	if err != nil {
		return false, err
	}
	stored, err := s.settings(*t)
	if err != nil {
		return false, err
	}
	whole, err := targets.KeepSecrets(kind, settings, stored)
	if err != nil || bytes.Equal(whole, stored) {
		return false, err
	}
	return true, s.setSettings(t, whole)
}

// refresh has a target that has other settings now deployed again. What only
// waits for the agent gets them anyway, and then without more waiting.
func (s *Service) refresh(ctx context.Context, tx *db.Tx, t Target) error {
	open, found, err := s.store.openOf(ctx, tx, t.ID)
	switch {
	case err != nil:
		return err
	case found && open.State == Pending:
		return s.hasten(ctx, tx, open)
	case found:
		v, err := s.certificates.Version(ctx, tx, open.VersionID)
		if err != nil {
			return err
		}
		_, _, err = s.put(ctx, tx, t, v, wish{orderID: open.OrderID, reason: TargetChanged, restart: true})
		return err
	case t.CertificateID == "":
		return nil
	}
	v, orderID, found, err := s.due(ctx, tx, t)
	if err != nil || !found {
		return err
	}
	_, _, err = s.put(ctx, tx, t, v, wish{orderID: orderID, reason: TargetChanged})
	return err
}

// hasten has a deployment that waits for its next try delivered at once.
func (s *Service) hasten(ctx context.Context, tx *db.Tx, d Deployment) error {
	if d.NextTryAt == nil {
		return nil
	}
	d.NextTryAt, d.UpdatedAt = nil, s.now()
	if err := s.store.update(ctx, tx, d); err != nil {
		return err
	}
	if err := s.tasks.FinishDeploy(ctx, tx, d.ID); err != nil {
		return err
	}
	if err := s.tasks.Deploy(ctx, tx, d.AgentID, d.ID, d.TargetID, time.Time{}); err != nil {
		return err
	}
	return s.record(ctx, tx, d, "deployment.retried", fmt.Sprintf("Deployment to target %s is tried again, as its settings changed.", d.Target), nil)
}

// DeleteTarget forgets a target with its deployments. What is deployed there
// stays.
func (s *Service) DeleteTarget(ctx context.Context, ref string, match func(revision int) error) error {
	return s.db.InTx(ctx, func(tx *db.Tx) error {
		t, _, err := s.lockTarget(ctx, tx, ref, nil)
		if err != nil {
			return err
		}
		if err := match(t.Revision); err != nil {
			return err
		}
		left := t
		left.CertificateID, left.Certificate = "", ""
		// Released first: then its open deployment does not count for the order.
		if err := s.targets.update(ctx, tx, left); err != nil {
			return err
		}
		if err := s.follow(ctx, tx, t, left); err != nil {
			return err
		}
		if err := s.targets.delete(ctx, tx, t.ID); err != nil {
			return err
		}
		return s.audit(ctx, tx, "target.delete", t, Target{})
	})
}

// named explains the refusal of a name that is taken.
func named(name string, err error) error {
	if db.IsUnique(err, "target", "name") {
		return problem.Conflict("there is a target %q already", name).Hint("choose another name, or change that target")
	}
	return err
}
