package client

import (
	"context"
	"iter"
	"time"
)

// Agent is the process on a host that makes keys and deploys.
type Agent struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Labels     map[string]string `json:"labels,omitempty"`
	Status     string            `json:"status"`
	Version    string            `json:"version"`
	OS         string            `json:"os"`
	CreatedAt  time.Time         `json:"created_at"`
	UpdatedAt  time.Time         `json:"updated_at"`
	LastSeenAt *time.Time        `json:"last_seen_at,omitempty"`
	RevokedAt  *time.Time        `json:"revoked_at,omitempty"`
	Revision   int               `json:"revision"`

	KubernetesIdentity string `json:"kubernetes_identity,omitempty"`
}

// Agents lists agents.
func (c *Client) Agents(ctx context.Context) iter.Seq2[Agent, error] {
	return List[Agent](ctx, c, "/agents", nil)
}

// Agent reads one agent by id or name.
func (c *Client) Agent(ctx context.Context, ref string) (Agent, error) {
	return Get[Agent](ctx, c, Path("agents", ref), nil)
}

// UpdateAgent changes an agent that still has the revision; 0 for any.
func (c *Client) UpdateAgent(ctx context.Context, ref string, revision int, p Patch) (Agent, error) {
	return Update[Agent](ctx, c, Path("agents", ref), revision, p)
}

// RevokeAgent refuses an agent from now on.
func (c *Client) RevokeAgent(ctx context.Context, ref string) (Agent, error) {
	return Create[Agent](ctx, c, Path("agents", ref, "revoke"), map[string]any{})
}
