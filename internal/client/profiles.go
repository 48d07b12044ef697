package client

import (
	"context"
	"iter"
	"time"
)

// Profile says what may be issued, and the defaults for what a certificate
// leaves open.
type Profile struct {
	ID              string              `json:"id"`
	Name            string              `json:"name"`
	Description     string              `json:"description,omitempty"`
	KeyTypes        []string            `json:"key_types"`
	DefaultKeyType  string              `json:"default_key_type"`
	MaxLifetime     string              `json:"max_lifetime"`
	DefaultLifetime string              `json:"default_lifetime"`
	Names           map[string][]string `json:"names"` // patterns by type: dns, ip, uri, email
	AllowCommonName bool                `json:"allow_common_name"`
	Usages          []string            `json:"usages"`
	PublicTrust     bool                `json:"public_trust"`
	Lint            string              `json:"lint"`
	CreatedAt       time.Time           `json:"created_at"`
	UpdatedAt       time.Time           `json:"updated_at"`
	Revision        int                 `json:"revision"`
}

// Profiles lists profiles.
func (c *Client) Profiles(ctx context.Context) iter.Seq2[Profile, error] {
	return List[Profile](ctx, c, "/profiles", nil)
}

// Profile reads one profile by id or name.
func (c *Client) Profile(ctx context.Context, ref string) (Profile, error) {
	return Get[Profile](ctx, c, Path("profiles", ref), nil)
}

// CreateProfile makes a profile of the fields by their JSON names.
func (c *Client) CreateProfile(ctx context.Context, fields Patch) (Profile, error) {
	return Create[Profile](ctx, c, "/profiles", fields)
}

// UpdateProfile changes a profile that still has the revision; 0 for any.
func (c *Client) UpdateProfile(ctx context.Context, ref string, revision int, p Patch) (Profile, error) {
	return Update[Profile](ctx, c, Path("profiles", ref), revision, p)
}

// DeleteProfile forgets a profile that no certificate uses.
func (c *Client) DeleteProfile(ctx context.Context, ref string) error {
	return remove(ctx, c, Path("profiles", ref))
}
