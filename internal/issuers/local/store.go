package local

import (
	"context"
	"fmt"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/pki"
)

// caRow is a CA as it is stored: the chain from the signing certificate to the
// root, and the keys sealed.
type caRow struct {
	ID         string    `db:"id"`
	IssuerID   string    `db:"issuer_id"`
	Chain      pki.Chain `db:"chain"`
	SigningKey []byte    `db:"signing_key"`
	RootKey    []byte    `db:"root_key"`
	CreatedAt  time.Time `db:"created_at"`
}

// insertCA stores a CA unless the issuer has one already, so that replicas
// that make the same issuer at once end with the CA of the first.
func insertCA(ctx context.Context, tx *db.Tx, row caRow) error {
	_, err := db.Exec(ctx, tx, `
		INSERT INTO local_ca (id, issuer_id, chain, signing_key, root_key, created_at, shard, shard_used)
		VALUES ($1, $2, $3, $4, $5, $6, 0, 0)
		ON CONFLICT (issuer_id) DO NOTHING`,
		row.ID, row.IssuerID, row.Chain, row.SigningKey, row.RootKey, row.CreatedAt)
	if err != nil {
		return fmt.Errorf("store CA of issuer %s: %w", row.IssuerID, err)
	}
	return nil
}

func deleteCA(ctx context.Context, tx *db.Tx, issuerID string) error {
	if _, err := db.Exec(ctx, tx, `DELETE FROM local_ca WHERE issuer_id = $1`, issuerID); err != nil {
		return fmt.Errorf("delete CA of issuer %s: %w", issuerID, err)
	}
	return nil
}

func readCA(ctx context.Context, q db.Querier, issuerID string) (caRow, error) {
	row, err := db.One[caRow](ctx, q, `
		SELECT id, issuer_id, chain, signing_key, root_key, created_at
		FROM local_ca
		WHERE issuer_id = $1`, issuerID)
	if err != nil {
		return caRow{}, fmt.Errorf("read CA of issuer %s: %w", issuerID, err)
	}
	return row, nil
}

// takeShard gives the CRL shard of one more certificate, and begins the next
// shard when the current one is full.
func takeShard(ctx context.Context, tx *db.Tx, issuerID string, size int) (int, error) {
	shard, err := db.One[int](ctx, tx, `
		UPDATE local_ca
		SET shard      = CASE WHEN shard_used < $1 THEN shard          ELSE shard + 1 END,
		    shard_used = CASE WHEN shard_used < $1 THEN shard_used + 1 ELSE 1         END
		WHERE issuer_id = $2
		RETURNING shard`, size, issuerID)
	if err != nil {
		return 0, fmt.Errorf("take CRL shard of issuer %s: %w", issuerID, err)
	}
	return shard, nil
}

func readShard(ctx context.Context, q db.Querier, issuerID string) (int, error) {
	shard, err := db.One[int](ctx, q, `SELECT shard FROM local_ca WHERE issuer_id = $1`, issuerID)
	if err != nil {
		return 0, fmt.Errorf("read CRL shard of issuer %s: %w", issuerID, err)
	}
	return shard, nil
}
