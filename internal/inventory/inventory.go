// Package inventory owns certificates, the wishes that people state, and
// versions, what was issued for them.
//
//	certificate ──< version (one per order; at most one active per key holder)
//	     │
//	     └──< target (of deployment) ── agent: the certificate's key holders
//
// A certificate's key holders are the agents of its targets. Each makes its own
// key and gets a leaf of its own, so a certificate has as many active versions
// as holders. A version is stored when it is issued, becomes active when it is
// proven to be served on all targets of its holder, and is superseded when the
// next one is, or when its holder leaves.
//
// Every transaction that changes a certificate, or an order or a version of it,
// locks the certificate's row first (Store.Lock). That one lock keeps renewals,
// revocations and changes of the same certificate apart, and cannot deadlock.
//
// What is decided about a certificate is decided here; the work that follows
// (orders, deployments) is asked for through the interfaces in service.go.
package inventory

import (
	"time"

	"github.com/certctl-io/certctl/internal/duration"
	"github.com/certctl-io/certctl/internal/pki"
)

// Certificate is what should be served.
type Certificate struct {
	ID         string            `db:"id"`
	Name       string            `db:"name"`
	Revision   int               `db:"revision"`
	CommonName string            `db:"common_name"` // empty, or one of Names
	Names      pki.Names         `db:"-"`
	KeyType    pki.KeyType       `db:"key_type"`
	Lifetime   time.Duration     `db:"-"`
	ProfileID  string            `db:"profile_id"`
	Profile    string            `db:"profile"` // the profile's name
	IssuerID   string            `db:"issuer_id"`
	Issuer     string            `db:"issuer"` // the issuer's name
	Owner      string            `db:"owner"`
	Tags       map[string]string `db:"-"`
	Renewal    Renewal           `db:"-"`
	CreatedAt  time.Time         `db:"created_at"`
	UpdatedAt  time.Time         `db:"updated_at"`
	ArchivedAt *time.Time        `db:"archived_at"`
}

// Renewal is when a certificate is renewed.
type Renewal struct {
	Auto   bool              `json:"auto" doc:"Whether certctl renews the certificate by itself."`
	Before duration.Duration `json:"before,omitzero" doc:"How long before its end a version is renewed, such as 30d; left out, at two thirds of its lifetime."`
}

// Version is one issued leaf with its chain.
type Version struct {
	ID               string            `db:"id"`
	CertificateID    string            `db:"certificate_id"`
	OrderID          string            `db:"order_id"`
	AgentID          string            `db:"agent_id"` // the key holder
	IssuerID         string            `db:"issuer_id"`
	Serial           string            `db:"serial"`      // as pki.SerialHex writes it
	Fingerprint      string            `db:"fingerprint"` // of the leaf, as pki.Fingerprint writes it
	Subject          string            `db:"subject"`
	KeyType          pki.KeyType       `db:"key_type"`
	KeyHash          string            `db:"key_hash"` // as KeyHash writes it
	Chain            pki.Chain         `db:"chain"`
	Shard            int               `db:"shard"` // the part of the issuer's CRL it belongs to
	NotBefore        time.Time         `db:"not_before"`
	NotAfter         time.Time         `db:"not_after"`
	RenewAt          time.Time         `db:"renew_at"`    // when it should be replaced
	ExpiringAt       time.Time         `db:"expiring_at"` // from when on it is a worry that it was not
	DueAt            *time.Time        `db:"due_at"`      // when the planner looks at it; nil while an order is open, or when it is not renewed by itself
	CreatedAt        time.Time         `db:"created_at"`
	ActivatedAt      *time.Time        `db:"activated_at"`
	SupersededAt     *time.Time        `db:"superseded_at"`
	RevokedAt        *time.Time        `db:"revoked_at"`
	RevocationReason *RevocationReason `db:"revocation_reason"`
}

// Active reports whether the version is the one its holder should serve.
func (v Version) Active() bool { return v.ActivatedAt != nil && v.SupersededAt == nil }

// VersionState is where a version stands.
type VersionState string

// The states of a version, derived by Version.State.
const (
	VersionIssued     VersionState = "issued"     // not yet proven to be served
	VersionActive     VersionState = "active"     // served by its holder
	VersionSuperseded VersionState = "superseded" // replaced, or its holder left
	VersionExpired    VersionState = "expired"
	VersionRevoked    VersionState = "revoked"
)

// State derives where the version stands.
func (v Version) State(now time.Time) VersionState {
	switch {
	case v.RevokedAt != nil:
		return VersionRevoked
	case v.SupersededAt != nil:
		return VersionSuperseded
	case !now.Before(v.NotAfter):
		return VersionExpired
	case v.ActivatedAt != nil:
		return VersionActive
	default:
		return VersionIssued
	}
}

// OrderReason is why an order was started.
type OrderReason string

// The reasons.
const (
	Requested   OrderReason = "requested"    // the certificate is new, or what it asks for changed
	Renew       OrderReason = "renewal"      // its version falls due
	Forced      OrderReason = "forced"       // a person asked for a new version now
	Rekey       OrderReason = "rekey"        // its version was revoked
	TargetAdded OrderReason = "target_added" // an agent became a key holder
	KeyLost     OrderReason = "key_lost"     // the agent joined again without the keys it had
)
