package status

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/pki"
)

// numberedCRL is the CRL of a shard as it is stored; the zero value means that
// there is none yet.
type numberedCRL struct {
	document
	number int64
}

func (c numberedCRL) due(now time.Time) bool {
	return len(c.body) == 0 || !now.Before(c.refreshAt)
}

func storedCRL(ctx context.Context, q db.Querier, issuerID string, shard int) (numberedCRL, error) {
	row, err := db.One[struct {
		Number     int64     `db:"number"`
		DER        []byte    `db:"der"`
		ThisUpdate time.Time `db:"this_update"`
		NextUpdate time.Time `db:"next_update"`
		RefreshAt  time.Time `db:"refresh_at"`
	}](ctx, q, `
		SELECT number, der, this_update, next_update, refresh_at
		FROM crl WHERE issuer_id = $1 AND shard = $2`, issuerID, shard)
	if db.IsNoRows(err) {
		return numberedCRL{}, nil
	}
	if err != nil {
		return numberedCRL{}, fmt.Errorf("read CRL %d of issuer %s: %w", shard, issuerID, err)
	}
	return numberedCRL{
		document: document{
			body: row.DER, thisUpdate: row.ThisUpdate, nextUpdate: row.NextUpdate, refreshAt: row.RefreshAt, stored: true,
		},
		number: row.Number,
	}, nil
}

func storeCRL(ctx context.Context, tx *db.Tx, issuerID string, shard int, number int64, d document) error {
	_, err := db.Exec(ctx, tx, `
		INSERT INTO crl (issuer_id, shard, number, der, this_update, next_update, refresh_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (issuer_id, shard) DO UPDATE
		SET number = excluded.number, der = excluded.der, this_update = excluded.this_update,
		    next_update = excluded.next_update, refresh_at = excluded.refresh_at`,
		issuerID, shard, number, d.body, d.thisUpdate, d.nextUpdate, d.refreshAt)
	if err != nil {
		return fmt.Errorf("store CRL %d of issuer %s: %w", shard, issuerID, err)
	}
	return nil
}

func deleteCRL(ctx context.Context, tx *db.Tx, issuerID string, shard int) error {
	if _, err := db.Exec(ctx, tx, `DELETE FROM crl WHERE issuer_id = $1 AND shard = $2`, issuerID, shard); err != nil {
		return fmt.Errorf("delete CRL %d of issuer %s: %w", shard, issuerID, err)
	}
	return nil
}

// lockCRL makes revocations in a shard and the making of its CRL take turns,
// also before there is a row to lock.
func lockCRL(ctx context.Context, tx *db.Tx, issuerID string, shard int) error {
	return tx.Lock(ctx, fmt.Sprintf("crl/%s/%d", issuerID, shard))
}

func makeCRLDue(ctx context.Context, tx *db.Tx, issuerID string, shard int, now time.Time) error {
	_, err := db.Exec(ctx, tx, `UPDATE crl SET refresh_at = $1 WHERE issuer_id = $2 AND shard = $3`, now, issuerID, shard)
	if err != nil {
		return fmt.Errorf("make CRL %d of issuer %s due: %w", shard, issuerID, err)
	}
	return nil
}

// dueCRLs lists the CRLs to replace, the most urgent first.
func dueCRLs(ctx context.Context, q db.Querier, now time.Time, limit int) ([]publishArgs, error) {
	due, err := db.All[publishArgs](ctx, q, `
		SELECT issuer_id, shard FROM crl WHERE refresh_at <= $1 ORDER BY refresh_at LIMIT $2`, now, limit)
	if err != nil {
		return nil, fmt.Errorf("read CRLs that are due: %w", err)
	}
	return due, nil
}

// revokedIn lists the revoked versions of a shard that do not expire before a
// time.
func revokedIn(ctx context.Context, q db.Querier, issuerID string, shard int, kept time.Time) ([]x509.RevocationListEntry, error) {
	facts, err := db.All[fact](ctx, q, `
		SELECT serial, revoked_at, revocation_reason FROM version
		WHERE issuer_id = $1 AND shard = $2 AND revoked_at IS NOT NULL AND not_after >= $3
		ORDER BY serial`, issuerID, shard, kept)
	if err != nil {
		return nil, fmt.Errorf("read revoked versions of issuer %s: %w", issuerID, err)
	}
	entries := make([]x509.RevocationListEntry, len(facts))
	for i, f := range facts {
		serial, err := pki.ParseSerial(f.Serial)
		if err != nil {
			return nil, err
		}
		entries[i] = x509.RevocationListEntry{SerialNumber: serial, RevocationTime: *f.RevokedAt}
		if f.Reason != nil {
			entries[i].ReasonCode = *f.Reason
		}
	}
	return entries, nil
}

// readFact reads what is known about a serial. A lock keeps it so until the
// transaction ends.
func readFact(ctx context.Context, q db.Querier, issuerID, serial, lock string) (fact, error) {
	return db.One[fact](ctx, q, `
		SELECT serial, revoked_at, revocation_reason FROM version
		WHERE issuer_id = $1 AND serial = $2`+lock, issuerID, serial)
}

func storedResponse(ctx context.Context, q db.Querier, issuerID, serial, hash string) (document, error) {
	row, err := db.One[struct {
		Response   []byte    `db:"response"`
		ThisUpdate time.Time `db:"this_update"`
	}](ctx, q, `
		SELECT response, this_update FROM ocsp_response
		WHERE issuer_id = $1 AND serial = $2 AND hash = $3`, issuerID, serial, hash)
	if err != nil {
		return document{}, err
	}
	return newDocument(row.Response, row.ThisUpdate), nil
}

func storeResponse(ctx context.Context, tx *db.Tx, issuerID, serial, hash string, d document) error {
	_, err := db.Exec(ctx, tx, `
		INSERT INTO ocsp_response (issuer_id, serial, hash, response, this_update, next_update)
		VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (issuer_id, serial, hash) DO UPDATE
		SET response = excluded.response, this_update = excluded.this_update, next_update = excluded.next_update`,
		issuerID, serial, hash, d.body, d.thisUpdate, d.nextUpdate)
	if err != nil {
		return fmt.Errorf("store OCSP response for %s: %w", serial, err)
	}
	return nil
}

func deleteResponses(ctx context.Context, tx *db.Tx, issuerID, serial string) error {
	_, err := db.Exec(ctx, tx, `DELETE FROM ocsp_response WHERE issuer_id = $1 AND serial = $2`, issuerID, serial)
	if err != nil {
		return fmt.Errorf("delete OCSP responses for %s: %w", serial, err)
	}
	return nil
}

// deleteStale removes the responses that no client accepts any more: those of
// expired versions, which are not refreshed.
func deleteStale(ctx context.Context, tx *db.Tx, now time.Time) error {
	if _, err := db.Exec(ctx, tx, `DELETE FROM ocsp_response WHERE next_update <= $1`, now); err != nil {
		return fmt.Errorf("delete stale OCSP responses: %w", err)
	}
	return nil
}

// dueResponse is a response to be replaced and the fact it states.
type dueResponse struct {
	fact
	Hash string `db:"hash"`
}

// lockDueResponses picks responses that were signed before a time, of versions
// that have not expired, passing over what others work on.
func lockDueResponses(ctx context.Context, tx *db.Tx, issuerID string, nextUpdate, now time.Time, limit int) ([]dueResponse, error) {
	due, err := db.All[dueResponse](ctx, tx, `
		SELECT v.serial, v.revoked_at, v.revocation_reason, r.hash
		FROM ocsp_response r JOIN version v ON v.issuer_id = r.issuer_id AND v.serial = r.serial
		WHERE r.next_update <= $1 AND r.issuer_id = $2 AND v.not_after > $3
		ORDER BY r.next_update LIMIT $4`+tx.SkipLocked(), nextUpdate, issuerID, now, limit)
	if err != nil {
		return nil, fmt.Errorf("read OCSP responses that are due: %w", err)
	}
	return due, nil
}

func issuersWithDueResponses(ctx context.Context, q db.Querier, nextUpdate time.Time) ([]string, error) {
	ids, err := db.All[string](ctx, q, `SELECT DISTINCT issuer_id FROM ocsp_response WHERE next_update <= $1`, nextUpdate)
	if err != nil {
		return nil, fmt.Errorf("read issuers with OCSP responses that are due: %w", err)
	}
	return ids, nil
}

// storedResponder is the delegated responder of one issuer.
type storedResponder struct {
	Certificate []byte `db:"certificate"`
	SealedKey   []byte `db:"sealed_key"`
}

func readResponder(ctx context.Context, q db.Querier, issuerID string) (storedResponder, error) {
	return db.One[storedResponder](ctx, q, `SELECT certificate, sealed_key FROM ocsp_responder WHERE issuer_id = $1`, issuerID)
}

func storeResponder(ctx context.Context, tx *db.Tx, issuerID string, r storedResponder, notAfter time.Time) error {
	_, err := db.Exec(ctx, tx, `
		INSERT INTO ocsp_responder (issuer_id, certificate, sealed_key, not_after) VALUES ($1, $2, $3, $4)
		ON CONFLICT (issuer_id) DO UPDATE
		SET certificate = excluded.certificate, sealed_key = excluded.sealed_key, not_after = excluded.not_after`,
		issuerID, r.Certificate, r.SealedKey, notAfter)
	if err != nil {
		return fmt.Errorf("store OCSP responder of issuer %s: %w", issuerID, err)
	}
	return nil
}
