package fleet

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/problem"
)

const (
	agentColumns = "id, name, revision, public_key, labels, version, os, token_id, created_at, updated_at, last_seen_at, revoked_at, kubernetes_identity"
	tokenColumns = "id, description, hash, labels, max_uses, uses, expires_at, revoked_at, created_at"
	taskColumns  = "id, agent_id, kind, subject_id, lane, deliveries, leased_until, not_before, created_at"

	// agentStatus is Agent.Status in SQL; its argument is the moment since
	// which an agent must have been seen to be online.
	agentStatus = `CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN last_seen_at IS NULL THEN 'never_seen'
		WHEN last_seen_at > ? THEN 'online' ELSE 'offline' END`
)

// likeEscapes takes the special meaning from the characters that LIKE gives one.
var likeEscapes = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

var agentSorts = db.Sorts[Agent]{
	"id":         {Column: "id", Key: func(a Agent) any { return a.ID }},
	"name":       {Column: "name", Key: func(a Agent) any { return a.Name }},
	"created_at": {Column: "created_at", Key: func(a Agent) any { return a.CreatedAt }},
}

var tokenSorts = db.Sorts[EnrolmentToken]{
	"id":         {Column: "id", Key: func(t EnrolmentToken) any { return t.ID }},
	"created_at": {Column: "created_at", Key: func(t EnrolmentToken) any { return t.CreatedAt }},
}

func agentByID(ctx context.Context, q db.Querier, agentID string) (Agent, error) {
	return db.One[Agent](ctx, q, "SELECT "+agentColumns+" FROM agent WHERE id = $1", agentID)
}

func agentByKey(ctx context.Context, q db.Querier, publicKey []byte) (Agent, error) {
	return db.One[Agent](ctx, q, "SELECT "+agentColumns+" FROM agent WHERE public_key = $1", publicKey)
}

// agentByKubernetes finds the agent that has one of these identities. One that
// was revoked is out of the way once it has another name.
func agentByKubernetes(ctx context.Context, q db.Querier, identities [3]string, name, lock string) (Agent, error) {
	return db.One[Agent](ctx, q, "SELECT "+agentColumns+` FROM agent
		WHERE kubernetes_identity IN ($1, $2, $3) AND (revoked_at IS NULL OR name = $4)
		ORDER BY CASE WHEN revoked_at IS NULL THEN 0 ELSE 1 END LIMIT 1`+lock,
		identities[0], identities[1], identities[2], name)
}

// agentByRef finds an agent by its id or its name.
func agentByRef(ctx context.Context, q db.Querier, ref, lock string) (Agent, error) {
	column := "name"
	if id.Is("agt", ref) {
		column = "id"
	}
	return db.One[Agent](ctx, q, "SELECT "+agentColumns+" FROM agent WHERE "+column+" = $1"+lock, ref)
}

func listAgents(ctx context.Context, q db.Querier, f AgentFilter, onlineSince time.Time, page db.Page) ([]Agent, string, error) {
	query := db.Select("SELECT " + agentColumns + " FROM agent")
	if f.Status != "" {
		query.Where(agentStatus+" = ?", onlineSince, string(f.Status))
	}
	if f.Name != "" {
		query.Where(`lower(name) LIKE ? ESCAPE '\'`, "%"+likeEscapes.Replace(strings.ToLower(f.Name))+"%")
	}
	for _, label := range f.Labels {
		query.Where("labels ->> CAST(? AS text) = ?", label.Key, label.Value)
	}
	return db.List(ctx, q, query, page, agentSorts)
}

func countAgents(ctx context.Context, q db.Querier, onlineSince time.Time) (map[Status]int, error) {
	rows, err := db.All[struct {
		Status Status `db:"status"`
		Agents int    `db:"agents"`
	}](ctx, q, "SELECT status, COUNT(*) AS agents FROM (SELECT "+strings.Replace(agentStatus, "?", "$1", 1)+
		" AS status FROM agent) AS agent_status GROUP BY status", onlineSince)
	counts := map[Status]int{}
	for _, row := range rows {
		counts[row.Status] = row.Agents
	}
	return counts, err
}

func insertAgent(ctx context.Context, tx *db.Tx, a Agent) error {
	_, err := db.Exec(ctx, tx, "INSERT INTO agent ("+agentColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
		a.ID, a.Name, a.Revision, a.PublicKey, a.Labels, a.Version, a.OS, a.TokenID, a.CreatedAt, a.UpdatedAt, a.LastSeenAt, a.RevokedAt, a.KubernetesIdentity)
	return err
}

func updateAgent(ctx context.Context, tx *db.Tx, a Agent) error {
	_, err := db.Exec(ctx, tx, "UPDATE agent SET name = $1, labels = $2, revoked_at = $3, revision = $4, updated_at = $5 WHERE id = $6",
		a.Name, a.Labels, a.RevokedAt, a.Revision, a.UpdatedAt, a.ID)
	return err
}

// replaceKey stores the key that an agent has now, and what it said when it
// came with it.
func replaceKey(ctx context.Context, tx *db.Tx, a Agent) error {
	_, err := db.Exec(ctx, tx, `UPDATE agent SET public_key = $1, kubernetes_identity = $2, version = $3, os = $4, revision = $5, updated_at = $6
		WHERE id = $7`, a.PublicKey, a.KubernetesIdentity, a.Version, a.OS, a.Revision, a.UpdatedAt, a.ID)
	return err
}

// markSeen keeps what a poll told. It is no change of the agent: neither its
// revision nor its time of update moves.
func markSeen(ctx context.Context, tx *db.Tx, agentID, version, os string, at time.Time) error {
	_, err := db.Exec(ctx, tx, "UPDATE agent SET version = $1, os = $2, last_seen_at = $3 WHERE id = $4", version, os, at, agentID)
	return err
}

func insertToken(ctx context.Context, tx *db.Tx, t EnrolmentToken) error {
	_, err := db.Exec(ctx, tx, "INSERT INTO enrolment_token ("+tokenColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
		t.ID, t.Description, t.Hash, t.Labels, t.MaxUses, t.Uses, t.ExpiresAt, t.RevokedAt, t.CreatedAt)
	return err
}

func tokenByID(ctx context.Context, q db.Querier, tokenID, lock string) (EnrolmentToken, error) {
	return db.One[EnrolmentToken](ctx, q, "SELECT "+tokenColumns+" FROM enrolment_token WHERE id = $1"+lock, tokenID)
}

func tokenByHash(ctx context.Context, q db.Querier, hash []byte, lock string) (EnrolmentToken, error) {
	token, err := db.One[EnrolmentToken](ctx, q, "SELECT "+tokenColumns+" FROM enrolment_token WHERE hash = $1"+lock, hash)
	if db.IsNoRows(err) {
		return EnrolmentToken{}, problem.Unauthenticated("the enrolment token is not one of this server's").
			Hint("check that the token is complete and belongs to this server, or make a new one")
	}
	if err != nil {
		return EnrolmentToken{}, fmt.Errorf("read enrolment token: %w", err)
	}
	return token, nil
}

func listTokens(ctx context.Context, q db.Querier, page db.Page) ([]EnrolmentToken, string, error) {
	return db.List(ctx, q, db.Select("SELECT "+tokenColumns+" FROM enrolment_token"), page, tokenSorts)
}

func countTokenUse(ctx context.Context, tx *db.Tx, tokenID string) error {
	_, err := db.Exec(ctx, tx, "UPDATE enrolment_token SET uses = uses + 1 WHERE id = $1", tokenID)
	return err
}

func revokeToken(ctx context.Context, tx *db.Tx, tokenID string, at time.Time) error {
	_, err := db.Exec(ctx, tx, "UPDATE enrolment_token SET revoked_at = $1 WHERE id = $2", at, tokenID)
	return err
}

// insertSeen remembers the id of a request token. It reports false when the id
// is known already.
func insertSeen(ctx context.Context, tx *db.Tx, agentID, jti string, goodUntil time.Time) (fresh bool, err error) {
	rows, err := db.Exec(ctx, tx, "INSERT INTO agent_token_seen (agent_id, jti, expires_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
		agentID, jti, goodUntil)
	return rows == 1, err
}

func purgeSeen(ctx context.Context, tx *db.Tx, now time.Time) error {
	_, err := db.Exec(ctx, tx, "DELETE FROM agent_token_seen WHERE expires_at < $1", now)
	return err
}

func insertTask(ctx context.Context, tx *db.Tx, t Task) error {
	_, err := db.Exec(ctx, tx, "INSERT INTO task ("+taskColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (kind, subject_id) DO NOTHING",
		t.ID, t.AgentID, t.Kind, t.SubjectID, t.Lane, t.Deliveries, t.LeasedUntil, t.NotBefore, t.CreatedAt)
	return err
}

// tasksOf reads the tasks of an agent in the order of their ids.
func tasksOf(ctx context.Context, q db.Querier, agentID, lock string) ([]Task, error) {
	return db.All[Task](ctx, q, "SELECT "+taskColumns+" FROM task WHERE agent_id = $1 ORDER BY id"+lock, agentID)
}

func setLease(ctx context.Context, tx *db.Tx, t Task) error {
	_, err := db.Exec(ctx, tx, "UPDATE task SET leased_until = $1, deliveries = $2 WHERE id = $3", t.LeasedUntil, t.Deliveries, t.ID)
	return err
}

// endLeases has all tasks of an agent delivered again.
func endLeases(ctx context.Context, tx *db.Tx, agentID string) error {
	_, err := db.Exec(ctx, tx, "UPDATE task SET leased_until = NULL WHERE agent_id = $1 AND leased_until IS NOT NULL", agentID)
	return err
}

func deleteTask(ctx context.Context, tx *db.Tx, kind, subjectID string) (agentID string, err error) {
	return db.One[string](ctx, tx, "DELETE FROM task WHERE kind = $1 AND subject_id = $2 RETURNING agent_id", kind, subjectID)
}

func deleteTasksOf(ctx context.Context, tx *db.Tx, agentID string) error {
	_, err := db.Exec(ctx, tx, "DELETE FROM task WHERE agent_id = $1", agentID)
	return err
}
