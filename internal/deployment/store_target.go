package deployment

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/problem"
)

// targetStore is the SQL of targets. It holds no state.
type targetStore struct{}

const selectTarget = `SELECT t.id, t.name, t.revision, t.agent_id, a.name AS agent, t.kind, t.settings, t.sealed_settings,
		COALESCE(t.certificate_id, '') AS certificate_id, COALESCE(c.name, '') AS certificate, t.created_at, t.updated_at
	FROM target t
	JOIN agent a ON a.id = t.agent_id
	LEFT JOIN certificate c ON c.id = t.certificate_id`

// targetRow is a target as its table has it.
type targetRow struct {
	Target
	Settings db.JSON[json.RawMessage] `db:"settings"`
}

func (r targetRow) target() Target {
	t := r.Target
	t.Settings = r.Settings.V
	return t
}

var targetSorts = db.Sorts[targetRow]{
	"id":   {Column: "t.id", Key: func(r targetRow) any { return r.ID }},
	"name": {Column: "t.name", Key: func(r targetRow) any { return r.Name }},
}

// byRef finds a target by its id or name.
func (targetStore) byRef(ctx context.Context, q db.Querier, ref string) (Target, error) {
	where := " WHERE t.name = $1"
	if id.Is("tgt", ref) {
		where = " WHERE t.id = $1"
	}
	found, err := db.One[targetRow](ctx, q, selectTarget+where, ref)
	if db.IsNoRows(err) {
		return Target{}, problem.NotFound("target", ref)
	}
	if err != nil {
		return Target{}, fmt.Errorf("read target %s: %w", ref, err)
	}
	return found.target(), nil
}

// lock reads a target by its id and keeps others from changing it until the
// transaction ends. It locks the row by itself: PostgreSQL does not lock the
// outer side of a join.
func (s targetStore) lock(ctx context.Context, tx *db.Tx, targetID string) (Target, error) {
	_, err := db.One[string](ctx, tx, "SELECT id FROM target WHERE id = $1"+tx.ForUpdate(), targetID)
	if err != nil && !db.IsNoRows(err) {
		return Target{}, fmt.Errorf("lock target %s: %w", targetID, err)
	}
	return s.byRef(ctx, tx, targetID)
}

// TargetFilter narrows a list of targets; empty fields do not. Objects are
// named by id or name.
type TargetFilter struct {
	Agent, Kind, Certificate string
}

func (targetStore) list(ctx context.Context, q db.Querier, f TargetFilter, page db.Page) ([]Target, string, error) {
	query := db.Select(selectTarget)
	whereRef(query, "t.agent_id", "agent", "agt", f.Agent)
	whereRef(query, "t.certificate_id", "certificate", "crt", f.Certificate)
	if f.Kind != "" {
		query.Where("t.kind = ?", f.Kind)
	}
	rows, next, err := db.List(ctx, q, query, page, targetSorts)
	return targetsFrom(rows), next, err
}

func targetsFrom(rows []targetRow) []Target {
	all := make([]Target, len(rows))
	for i, r := range rows {
		all[i] = r.target()
	}
	return all
}

// ofCertificate reads the targets of a certificate, in order of their ids.
func (targetStore) ofCertificate(ctx context.Context, q db.Querier, certificateID string) ([]Target, error) {
	rows, err := db.All[targetRow](ctx, q, selectTarget+" WHERE t.certificate_id = $1 ORDER BY t.id", certificateID)
	if err != nil {
		return nil, fmt.Errorf("read targets of certificate %s: %w", certificateID, err)
	}
	return targetsFrom(rows), nil
}

func (targetStore) insert(ctx context.Context, tx *db.Tx, t Target) error {
	_, err := db.Exec(ctx, tx, `INSERT INTO target (id, name, revision, agent_id, kind, settings, sealed_settings, certificate_id,
			created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, NULLIF($8, ''), $9, $10)`,
		t.ID, t.Name, t.Revision, t.AgentID, t.Kind, db.AsJSON(t.Settings), t.Sealed, t.CertificateID, t.CreatedAt, t.UpdatedAt)
	if err != nil {
		return fmt.Errorf("store target %s: %w", t.Name, err)
	}
	return nil
}

func (targetStore) update(ctx context.Context, tx *db.Tx, t Target) error {
	_, err := db.Exec(ctx, tx, `UPDATE target SET name = $1, revision = $2, settings = $3, sealed_settings = $4,
			certificate_id = NULLIF($5, ''), updated_at = $6
		WHERE id = $7`,
		t.Name, t.Revision, db.AsJSON(t.Settings), t.Sealed, t.CertificateID, t.UpdatedAt, t.ID)
	if err != nil {
		return fmt.Errorf("store target %s: %w", t.Name, err)
	}
	return nil
}

func (targetStore) delete(ctx context.Context, tx *db.Tx, targetID string) error {
	if _, err := db.Exec(ctx, tx, "DELETE FROM target WHERE id = $1", targetID); err != nil {
		return fmt.Errorf("delete target %s: %w", targetID, err)
	}
	return nil
}

// agent is what a target needs to know of its agent.
type agent struct {
	ID        string     `db:"id"`
	Name      string     `db:"name"`
	RevokedAt *time.Time `db:"revoked_at"`
}

// agentByRef finds an agent by its id or name that can be given something to do.
func (targetStore) agentByRef(ctx context.Context, q db.Querier, ref string) (agent, error) {
	column := "name"
	if id.Is("agt", ref) {
		column = "id"
	}
	found, err := db.One[agent](ctx, q, "SELECT id, name, revoked_at FROM agent WHERE "+column+" = $1", ref)
	switch {
	case db.IsNoRows(err):
		return agent{}, problem.Invalid("agent", "there is no agent %q", ref).Hint("see certctl list agents; certctl-agent enroll adds one")
	case err != nil:
		return agent{}, fmt.Errorf("read agent %s: %w", ref, err)
	case found.RevokedAt != nil:
		return agent{}, problem.Invalid("agent", "the agent %q was revoked", found.Name).Hint("name another agent, or enrol that host again")
	}
	return found, nil
}
