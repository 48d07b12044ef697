package client

import (
	"context"
	"iter"
	"net/url"
	"time"
)

// Certificate is what should be served: names, profile, issuer, targets and
// renewal, with the status that follows from what has happened so far.
type Certificate struct {
	ID           string            `json:"id"`
	Name         string            `json:"name"`
	CommonName   string            `json:"common_name,omitempty"`
	Names        []string          `json:"names"`
	KeyType      string            `json:"key_type"`
	Lifetime     string            `json:"lifetime"`
	Profile      string            `json:"profile"`
	Issuer       string            `json:"issuer"`
	Owner        string            `json:"owner,omitempty"`
	Tags         map[string]string `json:"tags,omitempty"`
	Targets      []string          `json:"targets"`
	Renewal      Renewal           `json:"renewal"`
	Status       string            `json:"status"`
	StatusReason string            `json:"status_reason"`
	NotAfter     *time.Time        `json:"not_after,omitempty"`
	RenewAt      *time.Time        `json:"renew_at,omitempty"`
	Serial       string            `json:"serial,omitempty"`
	Fingerprint  string            `json:"fingerprint,omitempty"`
	CreatedAt    time.Time         `json:"created_at"`
	UpdatedAt    time.Time         `json:"updated_at"`
	Revision     int               `json:"revision"`
}

// Renewal is the renewal policy of a certificate.
type Renewal struct {
	Auto   bool   `json:"auto"`
	Before string `json:"before,omitempty"` // how long before the end; empty for the default
}

// CertificateSpec is what a caller says about a new certificate. Empty fields
// take their defaults from the profile.
type CertificateSpec struct {
	Name       string            `json:"name,omitempty"`
	CommonName string            `json:"common_name,omitempty"`
	Names      []string          `json:"names"`
	KeyType    string            `json:"key_type,omitempty"`
	Lifetime   string            `json:"lifetime,omitempty"`
	Profile    string            `json:"profile,omitempty"`
	Issuer     string            `json:"issuer,omitempty"`
	Owner      string            `json:"owner,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	Targets    []string          `json:"targets,omitempty"`
	Renewal    *Renewal          `json:"renewal,omitempty"`
}

// CertificateFilter narrows a list of certificates; empty fields do not.
type CertificateFilter struct {
	Status, Name, Issuer, Profile, Owner string
	Tags                                 []string // key:value, all must hold
	ExpiresBefore                        time.Time
	Sort                                 string
}

// Query is the filter as the API takes it.
func (f CertificateFilter) Query() url.Values {
	q := query("status", f.Status, "name", f.Name, "issuer", f.Issuer, "profile", f.Profile, "owner", f.Owner, "sort", f.Sort)
	for _, tag := range f.Tags {
		q.Add("tag", tag)
	}
	if !f.ExpiresBefore.IsZero() {
		q.Set("expires_before", f.ExpiresBefore.UTC().Format(time.RFC3339))
	}
	return q
}

// Event is one line of a certificate's timeline.
type Event struct {
	ID           string         `json:"id"`
	At           time.Time      `json:"at"`
	Kind         string         `json:"kind"`
	Message      string         `json:"message"`
	OrderID      string         `json:"order_id,omitempty"`
	DeploymentID string         `json:"deployment_id,omitempty"`
	Detail       map[string]any `json:"detail,omitempty"`
}

// Certificates lists certificates.
func (c *Client) Certificates(ctx context.Context, f CertificateFilter) iter.Seq2[Certificate, error] {
	return List[Certificate](ctx, c, "/certificates", f.Query())
}

// Certificate reads one certificate by id or name.
func (c *Client) Certificate(ctx context.Context, ref string) (Certificate, error) {
	return Get[Certificate](ctx, c, Path("certificates", ref), nil)
}

// CreateCertificate makes a certificate; orders start at once for the agents of
// its targets.
func (c *Client) CreateCertificate(ctx context.Context, spec CertificateSpec) (Certificate, error) {
	return Create[Certificate](ctx, c, "/certificates", spec)
}

// UpdateCertificate changes a certificate that still has the revision; 0 for
// any.
func (c *Client) UpdateCertificate(ctx context.Context, ref string, revision int, p Patch) (Certificate, error) {
	return Update[Certificate](ctx, c, Path("certificates", ref), revision, p)
}

// ArchiveCertificate ends a certificate: it is not renewed any more.
func (c *Client) ArchiveCertificate(ctx context.Context, ref string) error {
	return remove(ctx, c, Path("certificates", ref))
}

// Events lists the timeline of a certificate, newest first.
func (c *Client) Events(ctx context.Context, ref string) iter.Seq2[Event, error] {
	return List[Event](ctx, c, Path("certificates", ref, "events"), nil)
}

// Versions lists what was issued for a certificate, newest first.
func (c *Client) Versions(ctx context.Context, ref string) iter.Seq2[Version, error] {
	return List[Version](ctx, c, Path("certificates", ref, "versions"), nil)
}

// Renew starts orders for new versions, for the named agents or for all that
// hold a key of the certificate.
func (c *Client) Renew(ctx context.Context, ref string, agents ...string) ([]string, error) {
	body := map[string]any{}
	if len(agents) > 0 {
		body["agents"] = agents
	}
	out, err := Create[struct {
		Orders []string `json:"orders"`
	}](ctx, c, Path("certificates", ref, "renew"), body)
	return out.Orders, err
}

// Revoke revokes the versions of a certificate with a reason of RFC 5280, and
// starts orders for new ones with new keys when reissue is set.
func (c *Client) Revoke(ctx context.Context, ref, reason string, reissue bool) (Certificate, error) {
	return Create[Certificate](ctx, c, Path("certificates", ref, "revoke"), map[string]any{"reason": reason, "reissue": reissue})
}

// Deploy puts the active versions of a certificate on its targets again.
func (c *Client) Deploy(ctx context.Context, ref string) ([]string, error) {
	out, err := Create[struct {
		Deployments []string `json:"deployments"`
	}](ctx, c, Path("certificates", ref, "deploy"), map[string]any{})
	return out.Deployments, err
}
