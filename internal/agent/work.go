package agent

import (
	"context"
	"crypto"
	"encoding/json"
	"fmt"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/targets"
)

// understood checks that a task is one that this agent can work on and answer.
func understood(task agentapi.Task) error {
	switch {
	case !id.Is("tsk", task.ID):
		return problem.Invalid("id", "%q is not the id of a task", task.ID)
	case task.Kind == agentapi.TaskCSR && task.CSR != nil && task.Deploy == nil:
		return nil
	case task.Kind == agentapi.TaskDeploy && task.Deploy != nil && task.CSR == nil:
		return nil
	}
	return problem.Invalid("kind", "this version of the agent does not know tasks of kind %q", task.Kind).
		Hint("upgrade the agent to the version of its server")
}

// perform works on a task and puts its result into the outbox. When that
// cannot be done the task is not done either: its lease ends and it comes
// again.
func (a *Agent) perform(ctx context.Context, task agentapi.Task) (r result, ok bool) {
	var err error
	if task.CSR != nil {
		r, err = a.answerCSR(ctx, task)
	} else {
		r, err = a.answerDeploy(ctx, task)
	}
	if err == nil {
		err = a.outbox.put(r)
	}
	if err != nil {
		a.log.ErrorContext(ctx, "result of a task cannot be kept; the task will be done again", "task_id", task.ID, "error", err)
		return result{}, false
	}
	return r, true
}

// answerCSR makes the key of an order and the request for it.
func (a *Agent) answerCSR(ctx context.Context, task agentapi.Task) (result, error) {
	order := task.CSR
	csr, err := a.keys.request(*order)
	if err != nil {
		a.log.ErrorContext(ctx, "certificate request failed", "order_id", order.OrderID, "certificate_id", order.CertificateID, "error", err)
		kind := problem.KindOf(err)
		return newResult(task.ID, agentapi.WithID(agentapi.PathOrderFailure, order.OrderID), agentapi.TaskFailure{
			Reason:    err.Error(),
			Retryable: kind == problem.KindInternal || kind == problem.KindTemporary,
		})
	}
	a.log.InfoContext(ctx, "certificate requested", "order_id", order.OrderID, "certificate_id", order.CertificateID, "names", order.Names.List(), "key_type", order.KeyType)
	a.prune(ctx, order.CertificateID)
	return newResult(task.ID, agentapi.WithID(agentapi.PathOrderCSR, order.OrderID), agentapi.CSRSubmission{CSR: string(csr)})
}

// answerDeploy puts a version on a target.
func (a *Agent) answerDeploy(ctx context.Context, task agentapi.Task) (result, error) {
	deploy := task.Deploy
	report := a.deploy(ctx, deploy)
	log := a.log.With("deployment_id", deploy.DeploymentID, "target", deploy.TargetName, "kind", deploy.Kind,
		"outcome", report.Outcome, "fingerprint", deploy.Fingerprint, "took", report.Finished.Sub(report.Started))
	switch report.Outcome {
	case targets.OutcomeDeployed, targets.OutcomeUnchanged:
		log.InfoContext(ctx, "deployment done")
		if err := a.keys.use(deploy.CertificateID, deploy.OrderID, deploy.TargetID); err != nil {
			log.ErrorContext(ctx, "key in use cannot be recorded", "error", err)
		} else {
			a.prune(ctx, deploy.CertificateID)
		}
	default:
		log.ErrorContext(ctx, "deployment failed", "reason", report.Reason, "retryable", report.Retryable)
	}
	return newResult(task.ID, agentapi.WithID(agentapi.PathDeploymentResult, deploy.DeploymentID), report)
}

// deploy carries out a deployment. What keeps it from starting at all is a
// failure like any other.
func (a *Agent) deploy(ctx context.Context, deploy *agentapi.DeployTask) targets.Report {
	started := a.now().UTC()
	plan, err := a.plan(deploy)
	if err != nil {
		return targets.Report{
			Outcome: targets.OutcomeFailed, Reason: err.Error(), Fingerprint: deploy.Fingerprint,
			Steps: []targets.Step{}, Started: started, Finished: a.now().UTC(),
		}
	}
	return a.engine.Deploy(ctx, targets.Job{
		DeploymentID: deploy.DeploymentID, TargetID: deploy.TargetID, Plan: plan, Fingerprint: deploy.Fingerprint,
	})
}

// plan joins what the server sent with the key that is here.
func (a *Agent) plan(deploy *agentapi.DeployTask) (targets.Plan, error) {
	kind, ok := a.config.Kinds[deploy.Kind]
	if !ok {
		return targets.Plan{}, problem.Conflict("this agent knows no targets of kind %q", deploy.Kind).
			Hint("upgrade the agent to the version of its server")
	}
	chain, err := pki.ParseChain([]byte(deploy.Chain))
	if err != nil {
		return targets.Plan{}, fmt.Errorf("read the certificate chain: %w", err)
	}
	leaf, err := chain.Leaf()
	if err != nil {
		return targets.Plan{}, fmt.Errorf("read the certificate: %w", err)
	}
	if got := pki.Fingerprint(leaf.Raw); got != deploy.Fingerprint {
		return targets.Plan{}, problem.Conflict("the server sent the certificate %s and announced %s", got, deploy.Fingerprint)
	}
	key, err := a.keys.key(deploy.CertificateID, deploy.OrderID)
	if err != nil {
		return targets.Plan{}, err
	}
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(leaf.PublicKey) {
		return targets.Plan{}, problem.Conflict("the certificate was not issued for the key that this agent made for order %s", deploy.OrderID)
	}
	return kind.Plan(deploy.Settings, pki.Bundle{Chain: chain, Key: key, Names: deploy.Names})
}

// prune removes the keys that nothing needs any more. That it fails harms
// nothing but the disk.
func (a *Agent) prune(ctx context.Context, certificateID string) {
	if err := a.keys.prune(certificateID); err != nil {
		a.log.WarnContext(ctx, "old keys cannot be removed", "certificate_id", certificateID, "error", err)
	}
}

func newResult(taskID, path string, body any) (result, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return result{}, fmt.Errorf("encode the result of task %s: %w", taskID, err)
	}
	return result{TaskID: taskID, Path: path, Body: text}, nil
}
