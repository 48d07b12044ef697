package profile

import (
	"context"
	"fmt"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/problem"
)

// Store is the SQL of profiles. It holds no state.
type Store struct{}

const columns = "id, name, revision, spec, created_at, updated_at"

// row is a profile as its table has it.
type row struct {
	Profile
	Spec db.JSON[Spec] `db:"spec"`
}

func (r row) profile() Profile {
	p := r.Profile
	p.Spec = r.Spec.V
	return p
}

var sorts = db.Sorts[row]{
	"id":         {Column: "id", Key: func(r row) any { return r.ID }},
	"name":       {Column: "name", Key: func(r row) any { return r.Name }},
	"created_at": {Column: "created_at", Key: func(r row) any { return r.CreatedAt }},
}

// ByRef finds a profile by its id or name.
func (Store) ByRef(ctx context.Context, q db.Querier, ref string) (Profile, error) {
	return one(ctx, q, ref, "")
}

// lock is ByRef that keeps others from changing the profile until the
// transaction ends.
func (Store) lock(ctx context.Context, tx *db.Tx, ref string) (Profile, error) {
	return one(ctx, tx, ref, tx.ForUpdate())
}

func one(ctx context.Context, q db.Querier, ref, lock string) (Profile, error) {
	column := "name"
	switch {
	case id.Is("prf", ref):
		column = "id"
	case id.CheckName("prf", ref) != nil: // PostgreSQL does not take every text
		return Profile{}, problem.NotFound("profile", ref)
	}
	found, err := db.One[row](ctx, q, "SELECT "+columns+" FROM profile WHERE "+column+" = $1"+lock, ref)
	if db.IsNoRows(err) {
		return Profile{}, problem.NotFound("profile", ref)
	}
	if err != nil {
		return Profile{}, fmt.Errorf("read profile %s: %w", ref, err)
	}
	return found.profile(), nil
}

func (Store) list(ctx context.Context, q db.Querier, page db.Page) ([]Profile, string, error) {
	rows, next, err := db.List(ctx, q, db.Select("SELECT "+columns+" FROM profile"), page, sorts)
	profiles := make([]Profile, len(rows))
	for i, r := range rows {
		profiles[i] = r.profile()
	}
	return profiles, next, err
}

func (Store) insert(ctx context.Context, tx *db.Tx, p Profile) error {
	_, err := db.Exec(ctx, tx, "INSERT INTO profile ("+columns+") VALUES ($1, $2, $3, $4, $5, $6)",
		p.ID, p.Name, p.Revision, db.AsJSON(p.Spec), p.CreatedAt, p.UpdatedAt)
	if err != nil {
		return fmt.Errorf("store profile %s: %w", p.Name, err)
	}
	return nil
}

func (Store) update(ctx context.Context, tx *db.Tx, p Profile) error {
	_, err := db.Exec(ctx, tx, "UPDATE profile SET name = $1, revision = $2, spec = $3, updated_at = $4 WHERE id = $5",
		p.Name, p.Revision, db.AsJSON(p.Spec), p.UpdatedAt, p.ID)
	if err != nil {
		return fmt.Errorf("store profile %s: %w", p.Name, err)
	}
	return nil
}

func (Store) delete(ctx context.Context, tx *db.Tx, profileID string) error {
	if _, err := db.Exec(ctx, tx, "DELETE FROM profile WHERE id = $1", profileID); err != nil {
		return fmt.Errorf("delete profile %s: %w", profileID, err)
	}
	return nil
}
