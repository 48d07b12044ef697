package issuer

import (
	"context"
	"fmt"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/problem"
)

const (
	columns = "id, name, type, revision, settings, sealed_settings, enabled, created_at, updated_at, checked_at, check_error"

	selectIssuer = "SELECT " + columns + " FROM issuer"
)

var sorts = db.Sorts[Issuer]{
	"id":         {Column: "id", Key: func(i Issuer) any { return i.ID }},
	"name":       {Column: "name", Key: func(i Issuer) any { return i.Name }},
	"created_at": {Column: "created_at", Key: func(i Issuer) any { return i.CreatedAt }},
}

// byRef finds an issuer by its id or name; lock is empty or the transaction's
// row lock.
func byRef(ctx context.Context, q db.Querier, ref, lock string) (Issuer, error) {
	column := "name"
	if id.Is("iss", ref) {
		column = "id"
	}
	found, err := db.One[Issuer](ctx, q, selectIssuer+" WHERE "+column+" = $1"+lock, ref)
	if db.IsNoRows(err) {
		return Issuer{}, problem.NotFound("issuer", ref)
	}
	if err != nil {
		return Issuer{}, fmt.Errorf("read issuer %s: %w", ref, err)
	}
	return found, nil
}

func countIssuers(ctx context.Context, q db.Querier) (int, error) {
	count, err := db.One[int](ctx, q, "SELECT COUNT(*) FROM issuer")
	if err != nil {
		return 0, fmt.Errorf("count issuers: %w", err)
	}
	return count, nil
}

func listIssuers(ctx context.Context, q db.Querier, page db.Page) ([]Issuer, string, error) {
	return db.List(ctx, q, db.Select(selectIssuer), page, sorts)
}

func enabledIssuers(ctx context.Context, q db.Querier) ([]string, error) {
	ids, err := db.All[string](ctx, q, "SELECT id FROM issuer WHERE enabled ORDER BY id")
	if err != nil {
		return nil, fmt.Errorf("read enabled issuers: %w", err)
	}
	return ids, nil
}

func insert(ctx context.Context, tx *db.Tx, i Issuer) error {
	_, err := db.Exec(ctx, tx, "INSERT INTO issuer ("+columns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
		i.ID, i.Name, i.Type, i.Revision, i.Settings, i.Sealed, i.Enabled, i.CreatedAt, i.UpdatedAt, i.CheckedAt, i.CheckError)
	if err != nil {
		return fmt.Errorf("store issuer %s: %w", i.Name, err)
	}
	return nil
}

func update(ctx context.Context, tx *db.Tx, i Issuer) error {
	_, err := db.Exec(ctx, tx, `
		UPDATE issuer SET name = $1, revision = $2, settings = $3, sealed_settings = $4, enabled = $5, updated_at = $6
		WHERE id = $7`,
		i.Name, i.Revision, i.Settings, i.Sealed, i.Enabled, i.UpdatedAt, i.ID)
	if err != nil {
		return fmt.Errorf("store issuer %s: %w", i.Name, err)
	}
	return nil
}

// setChecked stores what a check found. It is not a new revision: nothing was
// changed.
func setChecked(ctx context.Context, tx *db.Tx, issuerID string, at time.Time, found string) error {
	_, err := db.Exec(ctx, tx, "UPDATE issuer SET checked_at = $1, check_error = $2 WHERE id = $3", at, found, issuerID)
	if err != nil {
		return fmt.Errorf("store check of issuer %s: %w", issuerID, err)
	}
	return nil
}

func remove(ctx context.Context, tx *db.Tx, issuerID string) error {
	if _, err := db.Exec(ctx, tx, "DELETE FROM issuer WHERE id = $1", issuerID); err != nil {
		return fmt.Errorf("delete issuer %s: %w", issuerID, err)
	}
	return nil
}
