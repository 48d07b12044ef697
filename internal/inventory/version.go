package inventory

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
)

const (
	selectVersion = `SELECT id, certificate_id, order_id, agent_id, issuer_id, serial, fingerprint, subject, key_type, key_hash, chain,
		shard, not_before, not_after, renew_at, expiring_at, due_at, created_at, activated_at, superseded_at, revoked_at, revocation_reason
	FROM version`

	selectDue = `SELECT v.id, v.certificate_id, v.order_id, v.agent_id, v.issuer_id, v.serial, v.fingerprint, v.subject,
			v.key_type, v.key_hash, v.chain, v.shard, v.not_before, v.not_after, v.renew_at, v.expiring_at, v.due_at, v.created_at,
			v.activated_at, v.superseded_at, v.revoked_at, v.revocation_reason
		FROM version v JOIN certificate c ON c.id = v.certificate_id
		WHERE v.due_at <= $1 ORDER BY v.due_at LIMIT $2`

	// isActive is Version.Active in SQL.
	isActive = "v.activated_at IS NOT NULL AND v.superseded_at IS NULL"
)

// KeyHash identifies a public key: the SHA-256 of its SubjectPublicKeyInfo in
// lower-case hex.
func KeyHash(public crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// Version reads one version.
func (Store) Version(ctx context.Context, q db.Querier, versionID string) (Version, error) {
	found, err := db.One[Version](ctx, q, selectVersion+" WHERE id = $1", versionID)
	if db.IsNoRows(err) {
		return Version{}, problem.NotFound("version", versionID)
	}
	if err != nil {
		return Version{}, fmt.Errorf("read version %s: %w", versionID, err)
	}
	return found, nil
}

// InsertVersion stores what was issued. There is one version for an order.
func (Store) InsertVersion(ctx context.Context, tx *db.Tx, v Version) error {
	_, err := db.Exec(ctx, tx, `INSERT INTO version (id, certificate_id, order_id, agent_id, issuer_id, serial, fingerprint, subject,
			key_type, key_hash, chain, shard, not_before, not_after, renew_at, expiring_at, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`,
		v.ID, v.CertificateID, v.OrderID, v.AgentID, v.IssuerID, v.Serial, v.Fingerprint, v.Subject,
		v.KeyType, v.KeyHash, v.Chain, v.Shard, v.NotBefore, v.NotAfter, v.RenewAt, v.ExpiringAt, v.CreatedAt)
	if err != nil {
		return fmt.Errorf("store version %s: %w", v.ID, err)
	}
	return nil
}

// Active finds the active version of one key holder.
func (Store) Active(ctx context.Context, q db.Querier, certificateID, agentID string) (v Version, found bool, err error) {
	v, err = db.One[Version](ctx, q, selectVersion+` WHERE certificate_id = $1 AND agent_id = $2
		AND activated_at IS NOT NULL AND superseded_at IS NULL`, certificateID, agentID)
	if db.IsNoRows(err) {
		return Version{}, false, nil
	}
	if err != nil {
		return Version{}, false, fmt.Errorf("read active version of %s for %s: %w", certificateID, agentID, err)
	}
	return v, true, nil
}

// ActiveVersions reads the active versions of all key holders.
func (Store) ActiveVersions(ctx context.Context, q db.Querier, certificateID string) ([]Version, error) {
	versions, err := db.All[Version](ctx, q, selectVersion+` WHERE certificate_id = $1
		AND activated_at IS NOT NULL AND superseded_at IS NULL ORDER BY id`, certificateID)
	if err != nil {
		return nil, fmt.Errorf("read active versions of %s: %w", certificateID, err)
	}
	return versions, nil
}

// Activate makes a version the active one of its holder, in place of the one
// before, and says when it falls due; nil when it is not renewed by itself.
func (s Store) Activate(ctx context.Context, tx *db.Tx, v Version, at time.Time, due *time.Time) error {
	if err := s.Retire(ctx, tx, v.CertificateID, v.AgentID, at); err != nil {
		return err
	}
	_, err := db.Exec(ctx, tx, "UPDATE version SET activated_at = $1, due_at = $2 WHERE id = $3", at, due, v.ID)
	if err != nil {
		return fmt.Errorf("activate version %s: %w", v.ID, err)
	}
	return nil
}

// Retire supersedes the active version of a holder, if there is one.
func (Store) Retire(ctx context.Context, tx *db.Tx, certificateID, agentID string, at time.Time) error {
	_, err := db.Exec(ctx, tx, `UPDATE version SET superseded_at = $1, due_at = NULL
		WHERE certificate_id = $2 AND agent_id = $3 AND activated_at IS NOT NULL AND superseded_at IS NULL`, at, certificateID, agentID)
	if err != nil {
		return fmt.Errorf("retire version of %s for %s: %w", certificateID, agentID, err)
	}
	return nil
}

// SetDue says when the planner looks at a version again; nil for never.
func (Store) SetDue(ctx context.Context, tx *db.Tx, versionID string, due *time.Time) error {
	if _, err := db.Exec(ctx, tx, "UPDATE version SET due_at = $1 WHERE id = $2", due, versionID); err != nil {
		return fmt.Errorf("schedule version %s: %w", versionID, err)
	}
	return nil
}

// Due locks and reads the versions that have fallen due, the longest first,
// with their certificates. It leaves out what another transaction works on.
func (Store) Due(ctx context.Context, tx *db.Tx, now time.Time, limit int) ([]Version, error) {
	due, err := db.All[Version](ctx, tx, selectDue+tx.SkipLocked(), now, limit)
	if err != nil {
		return nil, fmt.Errorf("read versions that are due: %w", err)
	}
	return due, nil
}

// valid reads the versions that are neither expired nor revoked, without their
// chains.
func (Store) valid(ctx context.Context, q db.Querier, certificateID string, now time.Time) ([]Version, error) {
	versions, err := db.All[Version](ctx, q, `SELECT id, certificate_id, order_id, agent_id, issuer_id, serial, shard, not_after FROM version
		WHERE certificate_id = $1 AND not_after > $2 AND revoked_at IS NULL ORDER BY id`, certificateID, now)
	if err != nil {
		return nil, fmt.Errorf("read valid versions of %s: %w", certificateID, err)
	}
	return versions, nil
}

func (Store) anyRevoked(ctx context.Context, q db.Querier, certificateID string) (bool, error) {
	found, err := db.All[string](ctx, q, "SELECT id FROM version WHERE certificate_id = $1 AND revoked_at IS NOT NULL LIMIT 1", certificateID)
	if err != nil {
		return false, fmt.Errorf("read revoked versions of %s: %w", certificateID, err)
	}
	return len(found) > 0, nil
}

// revoke marks a version; it is not renewed any more.
func (Store) revoke(ctx context.Context, tx *db.Tx, versionID string, at time.Time, reason RevocationReason) error {
	_, err := db.Exec(ctx, tx, "UPDATE version SET revoked_at = $1, revocation_reason = $2, due_at = NULL WHERE id = $3", at, int(reason), versionID)
	if err != nil {
		return fmt.Errorf("revoke version %s: %w", versionID, err)
	}
	return nil
}

// reschedule stores when a version should be renewed. Orders.Reconcile makes it
// due then.
func (Store) reschedule(ctx context.Context, tx *db.Tx, v Version) error {
	_, err := db.Exec(ctx, tx, "UPDATE version SET renew_at = $1, expiring_at = $2 WHERE id = $3", v.RenewAt, v.ExpiringAt, v.ID)
	if err != nil {
		return fmt.Errorf("reschedule version %s: %w", v.ID, err)
	}
	return nil
}
