package inventory

import (
	"context"
	"fmt"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
)

// Store is the SQL of certificates. It holds no state.
type Store struct{}

const (
	certificateColumns = `c.id, c.name, c.revision, c.common_name, c.names, c.key_type, c.lifetime_seconds,
		c.profile_id, p.name AS profile, c.issuer_id, i.name AS issuer, c.owner, c.tags, c.renewal,
		c.created_at, c.updated_at, c.archived_at`

	selectCertificate = "SELECT " + certificateColumns + `
	FROM certificate c JOIN profile p ON p.id = c.profile_id JOIN issuer i ON i.id = c.issuer_id`
)

// row is a certificate as its table has it.
type row struct {
	Certificate
	Names           db.JSON[pki.Names]         `db:"names"`
	LifetimeSeconds int64                      `db:"lifetime_seconds"`
	Tags            db.JSON[map[string]string] `db:"tags"`
	Renewal         db.JSON[Renewal]           `db:"renewal"`
}

func (r row) certificate() Certificate {
	c := r.Certificate
	c.Names = r.Names.V
	c.Lifetime = time.Duration(r.LifetimeSeconds) * time.Second
	c.Tags = r.Tags.V
	c.Renewal = r.Renewal.V
	return c
}

// ByRef finds a certificate by its id or name.
func (Store) ByRef(ctx context.Context, q db.Querier, ref string) (Certificate, error) {
	where := " WHERE c.name = $1"
	switch {
	case id.Is("crt", ref):
		where = " WHERE c.id = $1"
	case id.CheckName("crt", ref) != nil: // PostgreSQL does not take every text
		return Certificate{}, problem.NotFound("certificate", ref)
	}
	return one(ctx, q, ref, selectCertificate+where)
}

// lockRef is Lock by the id or name of a certificate.
func (s Store) lockRef(ctx context.Context, tx *db.Tx, ref string) (Certificate, error) {
	found, err := s.ByRef(ctx, tx, ref)
	if err != nil {
		return Certificate{}, err
	}
	return s.Lock(ctx, tx, found.ID)
}

// Lock reads a certificate by its id and keeps every other transaction that
// changes something of it waiting until this one ends.
func (s Store) Lock(ctx context.Context, tx *db.Tx, certificateID string) (Certificate, error) {
	if err := lockCertificate(ctx, tx, certificateID); err != nil {
		return Certificate{}, err
	}
	return one(ctx, tx, certificateID, selectCertificate+" WHERE c.id = $1")
}

// lockCertificate locks the row by itself: a lock on the joined rows would
// hold up everything else of the same profile and issuer.
func lockCertificate(ctx context.Context, tx *db.Tx, certificateID string) error {
	_, err := db.One[string](ctx, tx, "SELECT id FROM certificate WHERE id = $1"+tx.ForUpdate(), certificateID)
	if db.IsNoRows(err) {
		return problem.NotFound("certificate", certificateID)
	}
	if err != nil {
		return fmt.Errorf("lock certificate %s: %w", certificateID, err)
	}
	return nil
}

func one(ctx context.Context, q db.Querier, ref, query string) (Certificate, error) {
	found, err := db.One[row](ctx, q, query, ref)
	if db.IsNoRows(err) {
		return Certificate{}, problem.NotFound("certificate", ref)
	}
	if err != nil {
		return Certificate{}, fmt.Errorf("read certificate %s: %w", ref, err)
	}
	return found.certificate(), nil
}

func (s Store) insert(ctx context.Context, tx *db.Tx, c Certificate) error {
	_, err := db.Exec(ctx, tx, `INSERT INTO certificate (id, name, revision, common_name, names, key_type, lifetime_seconds,
			profile_id, issuer_id, owner, tags, renewal, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
		c.ID, c.Name, c.Revision, c.CommonName, db.AsJSON(c.Names), c.KeyType, int64(c.Lifetime/time.Second),
		c.ProfileID, c.IssuerID, c.Owner, db.AsJSON(c.Tags), db.AsJSON(c.Renewal), c.CreatedAt, c.UpdatedAt)
	if err != nil {
		return fmt.Errorf("store certificate %s: %w", c.Name, err)
	}
	return s.index(ctx, tx, c)
}

func (s Store) update(ctx context.Context, tx *db.Tx, c Certificate) error {
	_, err := db.Exec(ctx, tx, `UPDATE certificate SET name = $1, revision = $2, common_name = $3, names = $4, key_type = $5,
			lifetime_seconds = $6, profile_id = $7, issuer_id = $8, owner = $9, tags = $10, renewal = $11,
			updated_at = $12, archived_at = $13
		WHERE id = $14`,
		c.Name, c.Revision, c.CommonName, db.AsJSON(c.Names), c.KeyType,
		int64(c.Lifetime/time.Second), c.ProfileID, c.IssuerID, c.Owner, db.AsJSON(c.Tags), db.AsJSON(c.Renewal),
		c.UpdatedAt, c.ArchivedAt, c.ID)
	if err != nil {
		return fmt.Errorf("store certificate %s: %w", c.Name, err)
	}
	if err := s.unindex(ctx, tx, c.ID); err != nil {
		return err
	}
	return s.index(ctx, tx, c)
}

// index writes the rows that searches by name and tag read.
func (Store) index(ctx context.Context, tx *db.Tx, c Certificate) error {
	for _, name := range append(c.Names.List(), c.Name) {
		_, err := db.Exec(ctx, tx, "INSERT INTO certificate_name (certificate_id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING", c.ID, name)
		if err != nil {
			return fmt.Errorf("index names of %s: %w", c.Name, err)
		}
	}
	for key, value := range c.Tags {
		_, err := db.Exec(ctx, tx, "INSERT INTO certificate_tag (certificate_id, key, value) VALUES ($1, $2, $3)", c.ID, key, value)
		if err != nil {
			return fmt.Errorf("index tags of %s: %w", c.Name, err)
		}
	}
	return nil
}

func (Store) unindex(ctx context.Context, tx *db.Tx, certificateID string) error {
	if _, err := db.Exec(ctx, tx, "DELETE FROM certificate_name WHERE certificate_id = $1", certificateID); err != nil {
		return fmt.Errorf("index names of %s: %w", certificateID, err)
	}
	if _, err := db.Exec(ctx, tx, "DELETE FROM certificate_tag WHERE certificate_id = $1", certificateID); err != nil {
		return fmt.Errorf("index tags of %s: %w", certificateID, err)
	}
	return nil
}
