package client

import (
	"context"
	"time"
)

// Version is one issued leaf with its chain.
type Version struct {
	ID               string     `json:"id"`
	Certificate      string     `json:"certificate"`
	OrderID          string     `json:"order_id"`
	Agent            string     `json:"agent"`
	Issuer           string     `json:"issuer"`
	Serial           string     `json:"serial"`
	Fingerprint      string     `json:"fingerprint"`
	Subject          string     `json:"subject"`
	KeyType          string     `json:"key_type"`
	State            string     `json:"state"`
	NotBefore        time.Time  `json:"not_before"`
	NotAfter         time.Time  `json:"not_after"`
	RenewAt          time.Time  `json:"renew_at"`
	CreatedAt        time.Time  `json:"created_at"`
	ActivatedAt      *time.Time `json:"activated_at,omitempty"`
	SupersededAt     *time.Time `json:"superseded_at,omitempty"`
	RevokedAt        *time.Time `json:"revoked_at,omitempty"`
	RevocationReason string     `json:"revocation_reason,omitempty"`
	PEM              string     `json:"pem,omitempty"` // leaf and chain; only when read by itself
}

// Version reads one version with its chain.
func (c *Client) Version(ctx context.Context, id string) (Version, error) {
	return Get[Version](ctx, c, Path("versions", id), nil)
}

// RevokeVersion revokes one version with a reason of RFC 5280.
func (c *Client) RevokeVersion(ctx context.Context, id, reason string) (Version, error) {
	return Create[Version](ctx, c, Path("versions", id, "revoke"), map[string]any{"reason": reason})
}
