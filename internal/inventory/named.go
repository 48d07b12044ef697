package inventory

import (
	"context"
	"fmt"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/problem"
)

// NamedVersion is a version with the names of what it refers to.
type NamedVersion struct {
	Version
	Certificate string `db:"certificate"`
	Agent       string `db:"agent"`
	Issuer      string `db:"issuer"`
}

const (
	namedColumns = `v.id, v.certificate_id, c.name AS certificate, v.order_id, v.agent_id, a.name AS agent, v.issuer_id, i.name AS issuer,
		v.serial, v.fingerprint, v.subject, v.key_type, v.key_hash, v.shard, v.not_before, v.not_after, v.renew_at, v.expiring_at, v.due_at,
		v.created_at, v.activated_at, v.superseded_at, v.revoked_at, v.revocation_reason`

	fromNamed = ` FROM version v JOIN certificate c ON c.id = v.certificate_id JOIN agent a ON a.id = v.agent_id
		JOIN issuer i ON i.id = v.issuer_id`
)

var versionSorts = db.Sorts[NamedVersion]{
	"id":         {Column: "v.id", Key: func(v NamedVersion) any { return v.ID }},
	"created_at": {Column: "v.id", Key: func(v NamedVersion) any { return v.ID }}, // an id begins with the time at which it was made
}

// named reads one version with its chain.
func (Store) named(ctx context.Context, q db.Querier, versionID string) (NamedVersion, error) {
	if !id.Is("ver", versionID) { // PostgreSQL does not take every text
		return NamedVersion{}, problem.NotFound("version", versionID)
	}
	found, err := db.Find[NamedVersion](ctx, q, db.Select("SELECT v.chain, "+namedColumns+fromNamed).In("v.id", []string{versionID}))
	if err != nil {
		return NamedVersion{}, fmt.Errorf("read version %s: %w", versionID, err)
	}
	if len(found) == 0 {
		return NamedVersion{}, problem.NotFound("version", versionID)
	}
	return found[0], nil
}

// versions reads a page of the versions of a certificate, without their chains.
func (Store) versions(ctx context.Context, q db.Querier, certificateID string, page db.Page) ([]NamedVersion, string, error) {
	query := db.Select("SELECT "+namedColumns+fromNamed).Where("v.certificate_id = ?", certificateID)
	return db.List(ctx, q, query, page, versionSorts)
}
