package access

import (
	"context"
	"fmt"
	"time"

	"github.com/certctl-io/certctl/internal/db"
)

const selectKey = `SELECT id, name, role, hash, created_at, expires_at, revoked_at, last_used_at FROM api_key`

func insertKey(ctx context.Context, tx *db.Tx, k Key) error {
	_, err := db.Exec(ctx, tx, `
		INSERT INTO api_key (id, name, role, hash, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6)`, k.ID, k.Name, k.Role, k.Hash, k.CreatedAt, k.ExpiresAt)
	if err != nil {
		return fmt.Errorf("store API key: %w", err)
	}
	return nil
}

func findKey(ctx context.Context, q db.Querier, keyID string) (Key, error) {
	return db.One[Key](ctx, q, selectKey+` WHERE id = $1`, keyID)
}

func findByHash(ctx context.Context, q db.Querier, hash []byte) (Key, error) {
	return db.One[Key](ctx, q, selectKey+` WHERE hash = $1`, hash)
}

func listKeys(ctx context.Context, q db.Querier, page db.Page) ([]Key, string, error) {
	return db.List(ctx, q, db.Select(selectKey), page, db.Sorts[Key]{
		"id":   {Column: "id", Key: func(k Key) any { return k.ID }},
		"name": {Column: "name", Key: func(k Key) any { return k.Name }},
	})
}

func touchKey(ctx context.Context, tx *db.Tx, keyID string, now time.Time) error {
	_, err := db.Exec(ctx, tx, `UPDATE api_key SET last_used_at = $1 WHERE id = $2`, now, keyID)
	return err
}

func revokeKey(ctx context.Context, tx *db.Tx, keyID string, now time.Time) error {
	_, err := db.Exec(ctx, tx, `UPDATE api_key SET revoked_at = $1 WHERE id = $2`, now, keyID)
	if err != nil {
		return fmt.Errorf("revoke API key: %w", err)
	}
	return nil
}

func countActive(ctx context.Context, q db.Querier, role Role, exceptID string, now time.Time) (int, error) {
	return db.One[int](ctx, q, `
		SELECT COUNT(*) FROM api_key
		WHERE role = $1 AND id <> $2 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $3)`, role, exceptID, now)
}
