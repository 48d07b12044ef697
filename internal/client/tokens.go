package client

import (
	"context"
	"iter"
	"time"

	"github.com/certctl-io/certctl/internal/secret"
)

// EnrolmentToken lets agents join. Token itself comes only with the answer
// that creates it.
type EnrolmentToken struct {
	ID          string            `json:"id"`
	Description string            `json:"description,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	MaxUses     int               `json:"max_uses"`
	Uses        int               `json:"uses"`
	Status      string            `json:"status"`
	ExpiresAt   *time.Time        `json:"expires_at,omitempty"`
	RevokedAt   *time.Time        `json:"revoked_at,omitempty"`
	CreatedAt   time.Time         `json:"created_at"`
	Token       secret.String     `json:"token,omitzero"`
}

// EnrolmentTokenSpec is what a caller says about a new token.
type EnrolmentTokenSpec struct {
	Description string            `json:"description,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"` // given to agents that join with it
	MaxUses     int               `json:"max_uses,omitempty"`
	Lifetime    string            `json:"lifetime,omitempty"`
}

// EnrolmentTokens lists enrolment tokens.
func (c *Client) EnrolmentTokens(ctx context.Context) iter.Seq2[EnrolmentToken, error] {
	return List[EnrolmentToken](ctx, c, "/enrolment-tokens", nil)
}

// CreateEnrolmentToken makes a token; the answer is the only one with the
// token itself.
func (c *Client) CreateEnrolmentToken(ctx context.Context, spec EnrolmentTokenSpec) (EnrolmentToken, error) {
	return Create[EnrolmentToken](ctx, c, "/enrolment-tokens", spec)
}

// RevokeEnrolmentToken ends a token; agents that joined with it stay.
func (c *Client) RevokeEnrolmentToken(ctx context.Context, id string) error {
	return remove(ctx, c, Path("enrolment-tokens", id))
}
