package client

import (
	"context"
	"iter"
	"net/url"
	"time"
)

// Target is a place a certificate goes: an agent, a kind and its settings.
// Secret settings are masked.
type Target struct {
	ID          string         `json:"id"`
	Name        string         `json:"name"`
	Agent       string         `json:"agent"`
	Kind        string         `json:"kind"`
	Settings    map[string]any `json:"settings"`
	Certificate string         `json:"certificate,omitempty"`
	CreatedAt   time.Time      `json:"created_at"`
	UpdatedAt   time.Time      `json:"updated_at"`
	Revision    int            `json:"revision"`
}

// TargetSpec is what a caller says about a new target.
type TargetSpec struct {
	Name        string         `json:"name"`
	Agent       string         `json:"agent"`
	Kind        string         `json:"kind"`
	Settings    map[string]any `json:"settings"`
	Certificate string         `json:"certificate,omitempty"`
}

// TargetFilter narrows a list of targets; empty fields do not.
type TargetFilter struct {
	Agent, Kind, Certificate string
	Sort                     string
}

// Query is the filter as the API takes it.
func (f TargetFilter) Query() url.Values {
	return query("agent", f.Agent, "kind", f.Kind, "certificate", f.Certificate, "sort", f.Sort)
}

// Targets lists targets.
func (c *Client) Targets(ctx context.Context, f TargetFilter) iter.Seq2[Target, error] {
	return List[Target](ctx, c, "/targets", f.Query())
}

// Target reads one target by id or name.
func (c *Client) Target(ctx context.Context, ref string) (Target, error) {
	return Get[Target](ctx, c, Path("targets", ref), nil)
}

// CreateTarget makes a target.
func (c *Client) CreateTarget(ctx context.Context, spec TargetSpec) (Target, error) {
	return Create[Target](ctx, c, "/targets", spec)
}

// UpdateTarget changes a target that still has the revision; 0 for any.
func (c *Client) UpdateTarget(ctx context.Context, ref string, revision int, p Patch) (Target, error) {
	return Update[Target](ctx, c, Path("targets", ref), revision, p)
}

// DeleteTarget forgets a target; what was deployed there stays.
func (c *Client) DeleteTarget(ctx context.Context, ref string) error {
	return remove(ctx, c, Path("targets", ref))
}
