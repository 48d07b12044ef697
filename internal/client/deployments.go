package client

import (
	"context"
	"iter"
	"net/url"
	"time"
)

// Deployment is putting one version on one target.
type Deployment struct {
	ID          string     `json:"id"`
	Target      string     `json:"target"`
	Agent       string     `json:"agent"`
	Certificate string     `json:"certificate"`
	VersionID   string     `json:"version_id"`
	OrderID     string     `json:"order_id,omitempty"`
	Reason      string     `json:"reason"`
	State       string     `json:"state"`
	StateReason string     `json:"state_reason,omitempty"`
	Attempts    int        `json:"attempts"`
	Report      *Report    `json:"report,omitempty"`
	NextTryAt   *time.Time `json:"next_try_at,omitempty"`
	CreatedAt   time.Time  `json:"created_at"`
	UpdatedAt   time.Time  `json:"updated_at"`
	FinishedAt  *time.Time `json:"finished_at,omitempty"`
}

// Report is what the agent says about a deployment: its outcome and each step.
type Report struct {
	Outcome     string    `json:"outcome"`
	Reason      string    `json:"reason,omitempty"`
	Retryable   bool      `json:"retryable"`
	Fingerprint string    `json:"fingerprint,omitempty"`
	Served      string    `json:"served,omitempty"`
	Steps       []Step    `json:"steps"`
	Started     time.Time `json:"started"`
	Finished    time.Time `json:"finished"`
}

// Step is one thing the agent did for a deployment.
type Step struct {
	Name       string    `json:"name"`
	Started    time.Time `json:"started"`
	DurationMS int64     `json:"duration_ms"`
	OK         bool      `json:"ok"`
	Output     string    `json:"output,omitempty"`
}

// DeploymentFilter narrows a list of deployments; empty fields do not.
type DeploymentFilter struct {
	Target, Certificate, Order, Agent, State string
	Sort                                     string
}

// Query is the filter as the API takes it.
func (f DeploymentFilter) Query() url.Values {
	return query("target", f.Target, "certificate", f.Certificate, "order", f.Order,
		"agent", f.Agent, "state", f.State, "sort", f.Sort)
}

// Deployments lists deployments, newest first.
func (c *Client) Deployments(ctx context.Context, f DeploymentFilter) iter.Seq2[Deployment, error] {
	return List[Deployment](ctx, c, "/deployments", f.Query())
}

// Deployment reads one deployment with its report.
func (c *Client) Deployment(ctx context.Context, id string) (Deployment, error) {
	return Get[Deployment](ctx, c, Path("deployments", id), nil)
}

// RetryDeployment tries a failed deployment again.
func (c *Client) RetryDeployment(ctx context.Context, id string) (Deployment, error) {
	return Create[Deployment](ctx, c, Path("deployments", id, "retry"), map[string]any{})
}
