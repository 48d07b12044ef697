package client

import (
	"context"
	"iter"
	"time"
)

// Issuer is a configured CA connection.
type Issuer struct {
	ID         string         `json:"id"`
	Name       string         `json:"name"`
	Type       string         `json:"type"`
	Enabled    bool           `json:"enabled"`
	Settings   map[string]any `json:"settings,omitempty"`
	CheckedAt  *time.Time     `json:"checked_at,omitempty"`
	CheckError string         `json:"check_error,omitempty"`
	CreatedAt  time.Time      `json:"created_at"`
	UpdatedAt  time.Time      `json:"updated_at"`
	Revision   int            `json:"revision"`
}

// Issuers lists issuers.
func (c *Client) Issuers(ctx context.Context) iter.Seq2[Issuer, error] {
	return List[Issuer](ctx, c, "/issuers", nil)
}

// Issuer reads one issuer by id or name.
func (c *Client) Issuer(ctx context.Context, ref string) (Issuer, error) {
	return Get[Issuer](ctx, c, Path("issuers", ref), nil)
}

// IssuerChain reads the CA certificates of an issuer as PEM, the signing one
// first.
func (c *Client) IssuerChain(ctx context.Context, ref string) (string, error) {
	out, err := Get[struct {
		PEM string `json:"pem"`
	}](ctx, c, Path("issuers", ref, "chain"), nil)
	return out.PEM, err
}
