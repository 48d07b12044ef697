package client

import (
	"context"
	"iter"
	"time"

	"github.com/certctl-io/certctl/internal/secret"
)

// APIKey is a credential of a person or a program. Key itself comes only with
// the answer that creates it.
type APIKey struct {
	ID         string        `json:"id"`
	Name       string        `json:"name"`
	Role       string        `json:"role"`
	Status     string        `json:"status"`
	CreatedAt  time.Time     `json:"created_at"`
	ExpiresAt  *time.Time    `json:"expires_at,omitempty"`
	RevokedAt  *time.Time    `json:"revoked_at,omitempty"`
	LastUsedAt *time.Time    `json:"last_used_at,omitempty"`
	Key        secret.String `json:"key,omitzero"`
}

// APIKeySpec is what a caller says about a new key.
type APIKeySpec struct {
	Name     string `json:"name"`
	Role     string `json:"role"`
	Lifetime string `json:"lifetime,omitempty"` // empty: it does not expire
}

// APIKeys lists API keys.
func (c *Client) APIKeys(ctx context.Context) iter.Seq2[APIKey, error] {
	return List[APIKey](ctx, c, "/api-keys", nil)
}

// CreateAPIKey makes a key; the answer is the only one with the key itself.
func (c *Client) CreateAPIKey(ctx context.Context, spec APIKeySpec) (APIKey, error) {
	return Create[APIKey](ctx, c, "/api-keys", spec)
}

// RevokeAPIKey ends a key.
func (c *Client) RevokeAPIKey(ctx context.Context, id string) error {
	return remove(ctx, c, Path("api-keys", id))
}
