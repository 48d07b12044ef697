package deployment

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/duration"
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/targets"
)

// Bounds of what is kept of a report, well above what an agent sends.
const (
	maxSteps       = 100
	maxStepName    = 100
	maxStepOutput  = 16 << 10
	maxReason      = 4 << 10
	maxFingerprint = 100
)

// Build gives the task of a deployment as it is delivered: with the settings
// that the target has now. A deployment that is not open any more has none. It
// is running from here on; delivered again before it was answered, it carries
// on with the same attempt.
func (s *Service) Build(ctx context.Context, agentID, deploymentID string) (payload any, ok bool, err error) {
	err = s.db.InTx(ctx, func(tx *db.Tx) error {
		payload, ok = nil, false
		d, err := s.lock(ctx, tx, deploymentID)
		if problem.KindOf(err) == problem.KindNotFound || (err == nil && (d.AgentID != agentID || !d.Open())) {
			return nil
		}
		if err != nil {
			return err
		}
		task, unfit, err := s.task(ctx, tx, d)
		if err != nil {
			return err
		}
		if unfit != nil {
			s.log.ErrorContext(ctx, "deployment cannot be made", "deployment_id", d.ID, "target", d.Target, "error", unfit)
			return s.fail(ctx, tx, &d, unfit.Error())
		}
		payload, ok = task, true
		return s.deliver(ctx, tx, &d)
	})
	if err != nil {
		return nil, false, err
	}
	return payload, ok, nil
}

// deliver marks a deployment as running.
func (s *Service) deliver(ctx context.Context, tx *db.Tx, d *Deployment) error {
	if d.State == Running {
		return nil
	}
	if err := d.move(Running, "", s.now()); err != nil {
		return err
	}
	d.Attempts++
	if err := s.store.update(ctx, tx, *d); err != nil {
		return err
	}
	return s.record(ctx, tx, *d, "deployment.running", fmt.Sprintf("Agent %s deploys to target %s.", d.Agent, d.Target),
		map[string]any{"attempt": d.Attempts})
}

// task puts together what an agent needs for a deployment. What makes it unfit
// is a reason for which it can never be delivered.
func (s *Service) task(ctx context.Context, tx *db.Tx, d Deployment) (task *agentapi.DeployTask, unfit, err error) {
	t, err := s.targets.byRef(ctx, tx, d.TargetID)
	if err != nil {
		return nil, nil, err
	}
	v, err := s.certificates.Version(ctx, tx, d.VersionID)
	if err != nil {
		return nil, nil, err
	}
	settings, unfit := s.settings(t)
	if unfit != nil {
		return nil, unfit, nil
	}
	leaf, unfit := v.Chain.Leaf()
	if unfit != nil {
		return nil, unfit, nil
	}
	return &agentapi.DeployTask{
		DeploymentID: d.ID, TargetID: t.ID, TargetName: t.Name, CertificateID: d.CertificateID, OrderID: v.OrderID,
		Kind: t.Kind, Settings: settings, Chain: string(v.Chain.PEM()), Names: pki.NamesOf(leaf), Fingerprint: v.Fingerprint,
	}, nil, nil
}

// Report takes what an agent says about its deployment. One that was taken
// already changes nothing, and neither does one about a deployment that is over.
func (s *Service) Report(ctx context.Context, agentID, deploymentID string, r targets.Report) error {
	r = bounded(r)
	return s.db.InTx(ctx, func(tx *db.Tx) error {
		d, err := s.lock(ctx, tx, deploymentID)
		if err != nil {
			return err
		}
		if d.AgentID != agentID {
			return problem.NotFound("deployment", deploymentID)
		}
		v, err := s.certificates.Version(ctx, tx, d.VersionID)
		if err != nil {
			return err
		}
		if err := checkReport(r, v); err != nil {
			return err
		}
		if d.heard(r) {
			return nil
		}
		switch d.State {
		case Running:
			return s.conclude(ctx, tx, &d, r)
		case Cancelled:
			return s.ignore(ctx, tx, d, r)
		default:
			return nil
		}
	})
}

// Kept tells an agent whether what it deployed to a target is still to stay
// there: it is an error that is not found when the target is gone from the
// agent, or has no certificate any more.
func (s *Service) Kept(ctx context.Context, agentID, targetID string) error {
	t, err := s.targets.byRef(ctx, s.db.Read(), targetID)
	if err != nil {
		return err
	}
	if t.ID != targetID || t.AgentID != agentID || t.CertificateID == "" {
		return problem.NotFound("target", targetID)
	}
	return nil
}

func checkReport(r targets.Report, v inventory.Version) error {
	var outcome, fingerprint, served *problem.Error
	switch r.Outcome {
	case targets.OutcomeDeployed, targets.OutcomeUnchanged:
		if r.Served != "" && r.Served != v.Fingerprint {
			served = problem.Invalid("served", "%q is not the certificate that was to be served", r.Served).Hint("report the deployment as failed")
		}
	case targets.OutcomeRolledBack, targets.OutcomeFailed:
	default:
		outcome = problem.Invalid("outcome", "%q is not an outcome of a deployment", r.Outcome).
			Hint("use %s, %s, %s or %s", targets.OutcomeDeployed, targets.OutcomeUnchanged, targets.OutcomeRolledBack, targets.OutcomeFailed)
	}
	if r.Fingerprint != v.Fingerprint {
		fingerprint = problem.Invalid("fingerprint", "%q is not that of the version to deploy", r.Fingerprint).
			Hint("this deployment is of the version with the fingerprint %s", v.Fingerprint)
	}
	return problem.Join(outcome, fingerprint, served)
}

// conclude ends the attempt that a report is about: the deployment is done,
// tried again later, or failed for good.
func (s *Service) conclude(ctx context.Context, tx *db.Tx, d *Deployment, r targets.Report) error {
	d.Report = &r
	if r.Outcome == targets.OutcomeDeployed || r.Outcome == targets.OutcomeUnchanged {
		return s.close(ctx, tx, d, Done, r, "deployment.done", fmt.Sprintf("Deployed to target %s", d.Target))
	}
	if pause, again := pauseAfter(d.Attempts, s.jitter()); again && r.Retryable {
		return s.postpone(ctx, tx, d, r, pause)
	}
	return s.close(ctx, tx, d, Failed, r, "deployment.failed", failure(*d, r))
}

func (s *Service) close(ctx context.Context, tx *db.Tx, d *Deployment, to State, r targets.Report, kind, message string) error {
	if err := s.end(ctx, tx, d, to, r.Reason); err != nil {
		return err
	}
	if err := s.record(ctx, tx, *d, kind, sentence(message, r.Reason), detail(*d, r)); err != nil {
		return err
	}
	return s.settle(ctx, tx, d.OrderID)
}

// postpone hands a deployment back to its agent after a pause.
func (s *Service) postpone(ctx context.Context, tx *db.Tx, d *Deployment, r targets.Report, pause time.Duration) error {
	now := s.now()
	if err := d.move(Pending, r.Reason, now); err != nil {
		return err
	}
	next := now.Add(pause)
	d.NextTryAt = &next
	if err := s.store.update(ctx, tx, *d); err != nil {
		return err
	}
	if err := s.tasks.FinishDeploy(ctx, tx, d.ID); err != nil {
		return err
	}
	if err := s.tasks.Deploy(ctx, tx, d.AgentID, d.ID, d.TargetID, next); err != nil {
		return err
	}
	message := fmt.Sprintf("%s It is tried again in %s.", sentence(failure(*d, r), r.Reason), duration.Duration(pause.Round(time.Second)))
	return s.record(ctx, tx, *d, "deployment.retrying", message, detail(*d, r))
}

// ignore keeps a report about a deployment that was cancelled while the agent
// was at work, for whoever wonders what happened on the host. It keeps one:
// nothing else bounds what an agent could have written down here.
func (s *Service) ignore(ctx context.Context, tx *db.Tx, d Deployment, r targets.Report) error {
	if d.FinishedAt != nil && d.UpdatedAt.After(*d.FinishedAt) {
		return nil
	}
	d.Report, d.UpdatedAt = &r, s.now()
	if err := s.store.update(ctx, tx, d); err != nil {
		return err
	}
	return s.record(ctx, tx, d, "deployment.ignored",
		sentence(fmt.Sprintf("The cancelled deployment to target %s ended as %s", d.Target, r.Outcome), r.Reason), detail(d, r))
}

func failure(d Deployment, r targets.Report) string {
	message := fmt.Sprintf("Deployment to target %s failed", d.Target)
	if r.Outcome == targets.OutcomeRolledBack {
		message += " and was rolled back"
	}
	return message
}

// sentence joins what happened and why.
func sentence(message, reason string) string {
	if reason = strings.TrimRight(reason, ". \n"); reason != "" {
		message += ": " + reason
	}
	return message + "."
}

// eventStep is a step as a timeline has it.
type eventStep struct {
	Name     string `json:"name"`
	OK       bool   `json:"ok"`
	Duration string `json:"duration"`
	Output   string `json:"output,omitempty"`
}

func detail(d Deployment, r targets.Report) any {
	steps := make([]eventStep, len(r.Steps))
	for i, step := range r.Steps {
		steps[i] = eventStep{
			Name: step.Name, OK: step.OK, Duration: (time.Duration(step.DurationMS) * time.Millisecond).String(), Output: step.Output,
		}
	}
	return map[string]any{"outcome": r.Outcome, "attempt": d.Attempts, "served": r.Served, "steps": steps}
}

// bounded gives a report as it is stored: no longer than a person reads, and
// without characters that a database or a terminal takes amiss.
func bounded(r targets.Report) targets.Report {
	r.Reason = clip(strings.Join(strings.Fields(r.Reason), " "), maxReason)
	r.Fingerprint, r.Served = clip(r.Fingerprint, maxFingerprint), clip(r.Served, maxFingerprint)
	steps := make([]targets.Step, min(len(r.Steps), maxSteps))
	copy(steps, r.Steps)
	for i := range steps {
		steps[i].Name, steps[i].Output = clip(steps[i].Name, maxStepName), clip(steps[i].Output, maxStepOutput)
	}
	r.Steps = steps
	return r
}

// clip drops what is not seen, or makes other text be seen in another order.
func clip(text string, size int) string {
	text = strings.Map(func(c rune) rune {
		if !unicode.IsGraphic(c) && c != '\n' && c != '\t' {
			return -1
		}
		return c
	}, strings.ToValidUTF8(text, "\uFFFD"))
	if len(text) <= size {
		return text
	}
	return strings.ToValidUTF8(text[:size], "") + "..."
}
