package deployment

import (
	"context"
	"fmt"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/targets"
)

// store is the SQL of deployments. It holds no state.
type store struct{}

const selectDeployment = `SELECT d.id, d.target_id, t.name AS target, d.agent_id, a.name AS agent, d.certificate_id, c.name AS certificate,
		d.version_id, d.order_id, d.reason, d.state, d.state_reason, d.attempts, d.report, d.next_try_at,
		d.created_at, d.updated_at, d.finished_at
	FROM deployment d
	JOIN target t ON t.id = d.target_id
	JOIN agent a ON a.id = d.agent_id
	JOIN certificate c ON c.id = d.certificate_id`

// row is a deployment as its table has it.
type row struct {
	Deployment
	Report db.JSON[*targets.Report] `db:"report"`
}

func (r row) deployment() Deployment {
	d := r.Deployment
	d.Report = r.Report.V
	return d
}

var sorts = db.Sorts[row]{"id": {Column: "d.id", Key: func(r row) any { return r.ID }}}

func (store) byID(ctx context.Context, q db.Querier, deploymentID string) (Deployment, error) {
	found, err := db.One[row](ctx, q, selectDeployment+" WHERE d.id = $1", deploymentID)
	if db.IsNoRows(err) {
		return Deployment{}, problem.NotFound("deployment", deploymentID)
	}
	if err != nil {
		return Deployment{}, fmt.Errorf("read deployment %s: %w", deploymentID, err)
	}
	return found.deployment(), nil
}

// Filter narrows a list of deployments; empty fields do not. Objects are named
// by id or name.
type Filter struct {
	Target, Certificate, Order, Agent string
	State                             State
}

func (store) list(ctx context.Context, q db.Querier, f Filter, page db.Page) ([]Deployment, string, error) {
	query := db.Select(selectDeployment)
	whereRef(query, "d.target_id", "target", "tgt", f.Target)
	whereRef(query, "d.certificate_id", "certificate", "crt", f.Certificate)
	whereRef(query, "d.agent_id", "agent", "agt", f.Agent)
	if f.Order != "" {
		query.Where("d.order_id = ?", f.Order)
	}
	if f.State != "" {
		query.Where("d.state = ?", f.State)
	}
	rows, next, err := db.List(ctx, q, query, page, sorts)
	return deployments(rows), next, err
}

// whereRef adds the condition that a column has the id of the object that ref
// names by id or name, so that the column's index serves both.
func whereRef(query *db.Query, column, table, prefix, ref string) {
	switch {
	case ref == "":
	case id.Is(prefix, ref):
		query.Where(column+" = ?", ref)
	default:
		query.Where(column+" = (SELECT id FROM "+table+" WHERE name = ?)", ref)
	}
}

func deployments(rows []row) []Deployment {
	all := make([]Deployment, len(rows))
	for i, r := range rows {
		all[i] = r.deployment()
	}
	return all
}

// openOf finds the open deployment of a target.
func (store) openOf(ctx context.Context, q db.Querier, targetID string) (d Deployment, found bool, err error) {
	return newest(ctx, q, "open deployment of target "+targetID,
		selectDeployment+" WHERE d.target_id = $1 AND d.state IN ('pending', 'running')", targetID)
}

// lastOf finds the newest deployment of a target.
func (store) lastOf(ctx context.Context, q db.Querier, targetID string) (d Deployment, found bool, err error) {
	return newest(ctx, q, "last deployment of target "+targetID,
		selectDeployment+" WHERE d.target_id = $1 ORDER BY d.id DESC LIMIT 1", targetID)
}

// lastDoneOf finds the newest deployment of a target that succeeded.
func (store) lastDoneOf(ctx context.Context, q db.Querier, targetID string) (d Deployment, found bool, err error) {
	return newest(ctx, q, "last finished deployment of target "+targetID,
		selectDeployment+" WHERE d.target_id = $1 AND d.state = 'done' ORDER BY d.id DESC LIMIT 1", targetID)
}

func newest(ctx context.Context, q db.Querier, what, query, targetID string) (Deployment, bool, error) {
	r, err := db.One[row](ctx, q, query, targetID)
	if db.IsNoRows(err) {
		return Deployment{}, false, nil
	}
	if err != nil {
		return Deployment{}, false, fmt.Errorf("read %s: %w", what, err)
	}
	return r.deployment(), true, nil
}

func (store) openOfOrder(ctx context.Context, q db.Querier, orderID string) ([]Deployment, error) {
	rows, err := db.All[row](ctx, q, selectDeployment+` WHERE d.order_id = $1 AND d.order_id <> ''
		AND d.state IN ('pending', 'running') ORDER BY d.id`, orderID)
	if err != nil {
		return nil, fmt.Errorf("read open deployments of order %s: %w", orderID, err)
	}
	return deployments(rows), nil
}

func (store) openOfAgent(ctx context.Context, q db.Querier, agentID string) ([]Deployment, error) {
	rows, err := db.All[row](ctx, q, selectDeployment+` WHERE d.agent_id = $1
		AND d.state IN ('pending', 'running') ORDER BY d.certificate_id, d.id`, agentID)
	if err != nil {
		return nil, fmt.Errorf("read open deployments of agent %s: %w", agentID, err)
	}
	return deployments(rows), nil
}

// results reads how the deployments of an order stand, oldest first. Targets
// that left the certificate do not count.
func (store) results(ctx context.Context, q db.Querier, orderID string) ([]result, error) {
	results, err := db.All[result](ctx, q, `SELECT d.target_id, t.name AS target, d.state, d.state_reason
		FROM deployment d JOIN target t ON t.id = d.target_id
		WHERE d.order_id = $1 AND t.certificate_id = d.certificate_id AND t.agent_id = d.agent_id
		ORDER BY d.id`, orderID)
	if err != nil {
		return nil, fmt.Errorf("read deployments of order %s: %w", orderID, err)
	}
	return results, nil
}

func (store) insert(ctx context.Context, tx *db.Tx, d Deployment) error {
	_, err := db.Exec(ctx, tx, `INSERT INTO deployment (id, target_id, agent_id, certificate_id, version_id, order_id, reason,
			state, state_reason, attempts, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		d.ID, d.TargetID, d.AgentID, d.CertificateID, d.VersionID, d.OrderID, d.Reason,
		d.State, d.StateReason, d.Attempts, d.CreatedAt, d.UpdatedAt)
	if err != nil {
		return fmt.Errorf("store deployment %s: %w", d.ID, err)
	}
	return nil
}

func (store) update(ctx context.Context, tx *db.Tx, d Deployment) error {
	_, err := db.Exec(ctx, tx, `UPDATE deployment SET state = $1, state_reason = $2, attempts = $3, report = $4,
			next_try_at = $5, updated_at = $6, finished_at = $7
		WHERE id = $8`,
		d.State, d.StateReason, d.Attempts, db.AsJSON(d.Report), d.NextTryAt, d.UpdatedAt, d.FinishedAt, d.ID)
	if err != nil {
		return fmt.Errorf("store deployment %s: %w", d.ID, err)
	}
	return nil
}

type stateCount struct {
	State State `db:"state"`
	Count int   `db:"count"`
}

// counts counts what is open, and the targets whose last deployment failed:
// history that nobody has to look at any more is left out.
func (store) counts(ctx context.Context, q db.Querier) ([]stateCount, error) {
	counts, err := db.All[stateCount](ctx, q, `SELECT d.state, count(*) AS count FROM deployment d
		WHERE d.state IN ('pending', 'running') OR d.state = 'failed'
			AND NOT EXISTS (SELECT 1 FROM deployment n WHERE n.target_id = d.target_id AND n.id > d.id)
		GROUP BY d.state`)
	if err != nil {
		return nil, fmt.Errorf("count deployments: %w", err)
	}
	return counts, nil
}

// agentRevoked reports whether an agent was shut out.
func (store) agentRevoked(ctx context.Context, q db.Querier, agentID string) (bool, error) {
	revoked, err := db.One[bool](ctx, q, "SELECT revoked_at IS NOT NULL FROM agent WHERE id = $1", agentID)
	if err != nil {
		return false, fmt.Errorf("read agent %s: %w", agentID, err)
	}
	return revoked, nil
}

// versionOfOrder gives the id of the version that an order led to, empty when
// there is none yet.
func (store) versionOfOrder(ctx context.Context, q db.Querier, orderID string) (string, error) {
	versionID, err := db.One[string](ctx, q, "SELECT id FROM version WHERE order_id = $1", orderID)
	if db.IsNoRows(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read version of order %s: %w", orderID, err)
	}
	return versionID, nil
}

// The states of an order that matter here, as issuance writes them.
const (
	orderIssued    = "issued" // its version is stored and being deployed
	orderCancelled = "cancelled"
)

// standing is what tells whether a version is still one to deploy.
type standing struct {
	Newest     bool   `db:"newest"`      // its holder has no newer version
	OrderState string `db:"order_state"` // of the order that led to it
}

func (store) standing(ctx context.Context, q db.Querier, versionID string) (standing, error) {
	found, err := db.One[standing](ctx, q, `SELECT o.state AS order_state, NOT EXISTS (
			SELECT 1 FROM version n WHERE n.certificate_id = v.certificate_id AND n.agent_id = v.agent_id AND n.id > v.id) AS newest
		FROM version v JOIN cert_order o ON o.id = v.order_id WHERE v.id = $1`, versionID)
	if err != nil {
		return standing{}, fmt.Errorf("read standing of version %s: %w", versionID, err)
	}
	return found, nil
}
