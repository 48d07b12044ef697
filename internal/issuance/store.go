package issuance

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/problem"
)

// store is the SQL of orders. It holds no state.
type store struct{}

const columns = `o.id, o.certificate_id, o.agent_id, o.reason, o.state, o.state_reason, o.attempts, o.spec, o.csr, o.progress,
		COALESCE(o.version_id, '') AS version_id, o.next_try_at, o.created_at, o.updated_at, o.finished_at`

// row is an order as its table has it.
type row struct {
	Order
	Spec     db.JSON[Spec]            `db:"spec"`
	Progress db.JSON[json.RawMessage] `db:"progress"`
}

func (r row) order() Order {
	o := r.Order
	o.Spec = r.Spec.V
	o.Progress = r.Progress.V
	return o
}

// namedRow is an order with the names of what it is about.
type namedRow struct {
	row
	Certificate string `db:"certificate"`
	Agent       string `db:"agent"`
}

const selectNamed = "SELECT " + columns + `, c.name AS certificate, a.name AS agent
	FROM cert_order o JOIN certificate c ON c.id = o.certificate_id JOIN agent a ON a.id = o.agent_id`

func (r namedRow) named() Named {
	return Named{Order: r.order(), Certificate: r.Certificate, Agent: r.Agent}
}

// The id of an order begins with the time at which it was made.
var sorts = db.Sorts[namedRow]{
	"id":         {Column: "o.id", Key: func(r namedRow) any { return r.ID }},
	"created_at": {Column: "o.id", Key: func(r namedRow) any { return r.ID }},
}

func (store) list(ctx context.Context, q db.Querier, f Filter, page db.Page) ([]Named, string, error) {
	query := db.Select(selectNamed)
	if f.CertificateID != "" {
		query.Where("o.certificate_id = ?", f.CertificateID)
	}
	if f.AgentID != "" {
		query.Where("o.agent_id = ?", f.AgentID)
	}
	if f.State != "" {
		query.Where("o.state = ?", string(f.State))
	}
	rows, next, err := db.List(ctx, q, query, page, sorts)
	orders := make([]Named, len(rows))
	for i, r := range rows {
		orders[i] = r.named()
	}
	return orders, next, err
}

func (store) named(ctx context.Context, q db.Querier, orderID string) (Named, error) {
	found, err := db.One[namedRow](ctx, q, selectNamed+" WHERE o.id = $1", orderID)
	if err != nil {
		return Named{}, unread(orderID, err)
	}
	return found.named(), nil
}

// order reads an order; lock is empty or the transaction's row lock.
func (store) order(ctx context.Context, q db.Querier, orderID, lock string) (Order, error) {
	found, err := db.One[row](ctx, q, "SELECT "+columns+" FROM cert_order o WHERE o.id = $1"+lock, orderID)
	if err != nil {
		return Order{}, unread(orderID, err)
	}
	return found.order(), nil
}

func unread(orderID string, err error) error {
	if db.IsNoRows(err) {
		return problem.NotFound("order", orderID)
	}
	return fmt.Errorf("read order %s: %w", orderID, err)
}

// open reads the open orders of a certificate.
func (store) open(ctx context.Context, q db.Querier, certificateID string) ([]Order, error) {
	rows, err := db.All[row](ctx, q, "SELECT "+columns+` FROM cert_order o
		WHERE o.certificate_id = $1 AND o.state IN ('pending', 'signing', 'issued') ORDER BY o.id`, certificateID)
	if err != nil {
		return nil, fmt.Errorf("read open orders of %s: %w", certificateID, err)
	}
	orders := make([]Order, len(rows))
	for i, r := range rows {
		orders[i] = r.order()
	}
	return orders, nil
}

// openOf reads the ids of the open orders of an agent, in an order in which
// their certificates can be locked.
func (store) openOf(ctx context.Context, q db.Querier, agentID string) ([]string, error) {
	ids, err := db.All[string](ctx, q, `SELECT id FROM cert_order
		WHERE agent_id = $1 AND state IN ('pending', 'signing', 'issued') ORDER BY certificate_id`, agentID)
	if err != nil {
		return nil, fmt.Errorf("read open orders of agent %s: %w", agentID, err)
	}
	return ids, nil
}

// heldBy reads the ids of the certificates that an agent has targets of.
func (store) heldBy(ctx context.Context, q db.Querier, agentID string) ([]string, error) {
	ids, err := db.All[string](ctx, q, `SELECT DISTINCT certificate_id FROM target
		WHERE agent_id = $1 AND certificate_id IS NOT NULL ORDER BY certificate_id`, agentID)
	if err != nil {
		return nil, fmt.Errorf("read the certificates of agent %s: %w", agentID, err)
	}
	return ids, nil
}

// latest reads the last order of a holder, if there is one.
func (store) latest(ctx context.Context, q db.Querier, certificateID, agentID string) (o Order, found bool, err error) {
	last, err := db.One[row](ctx, q, "SELECT "+columns+` FROM cert_order o
		WHERE o.certificate_id = $1 AND o.agent_id = $2 ORDER BY o.id DESC LIMIT 1`, certificateID, agentID)
	if db.IsNoRows(err) {
		return Order{}, false, nil
	}
	if err != nil {
		return Order{}, false, fmt.Errorf("read last order of %s for %s: %w", certificateID, agentID, err)
	}
	return last.order(), true, nil
}

func (store) insert(ctx context.Context, tx *db.Tx, o Order) error {
	_, err := db.Exec(ctx, tx, `INSERT INTO cert_order (id, certificate_id, agent_id, reason, state, state_reason, attempts, spec, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		o.ID, o.CertificateID, o.AgentID, string(o.Reason), string(o.State), o.StateReason, o.Attempts, db.AsJSON(o.Spec), o.CreatedAt, o.UpdatedAt)
	if err != nil {
		return fmt.Errorf("store order %s: %w", o.ID, err)
	}
	return nil
}

func (store) update(ctx context.Context, tx *db.Tx, o Order) error {
	var versionID *string
	if o.VersionID != "" {
		versionID = &o.VersionID
	}
	_, err := db.Exec(ctx, tx, `UPDATE cert_order SET state = $1, state_reason = $2, attempts = $3, spec = $4, csr = $5, progress = $6,
			version_id = $7, next_try_at = $8, updated_at = $9, finished_at = $10
		WHERE id = $11`,
		string(o.State), o.StateReason, o.Attempts, db.AsJSON(o.Spec), o.CSR, db.AsJSON(o.Progress),
		versionID, o.NextTryAt, o.UpdatedAt, o.FinishedAt, o.ID)
	if err != nil {
		return fmt.Errorf("store order %s: %w", o.ID, err)
	}
	return nil
}

// saveProgress stores what a driver says while it signs, and reports false when
// the order is not in this attempt any more.
func (store) saveProgress(ctx context.Context, tx *db.Tx, orderID string, attempt int, progress json.RawMessage) (bool, error) {
	changed, err := db.Exec(ctx, tx, "UPDATE cert_order SET progress = $1 WHERE id = $2 AND state = 'signing' AND attempts = $3",
		db.AsJSON(progress), orderID, attempt)
	if err != nil {
		return false, fmt.Errorf("store progress of order %s: %w", orderID, err)
	}
	return changed == 1, nil
}

// keyUsed reports whether a version of another order has the key.
func (store) keyUsed(ctx context.Context, q db.Querier, keyHash, orderID string) (bool, error) {
	found, err := db.All[string](ctx, q, "SELECT id FROM version WHERE key_hash = $1 AND order_id <> $2 LIMIT 1", keyHash, orderID)
	if err != nil {
		return false, fmt.Errorf("look for the key of order %s: %w", orderID, err)
	}
	return len(found) > 0, nil
}

// happened counts the lines of a kind in an order's timeline, and tells when
// the last of them was.
func (store) happened(ctx context.Context, q db.Querier, orderID, kind string) (count int, last time.Time, err error) {
	times, err := db.All[time.Time](ctx, q, `SELECT at FROM event
		WHERE order_id = $1 AND order_id <> '' AND kind = $2 ORDER BY id DESC LIMIT 20`, orderID, kind)
	if err != nil {
		return 0, last, fmt.Errorf("read timeline of order %s: %w", orderID, err)
	}
	if len(times) > 0 {
		last = times[0]
	}
	return len(times), last, nil
}

// agent reads the name of an agent, and whether it is one still.
func (store) agent(ctx context.Context, q db.Querier, agentID string) (name string, enrolled bool, err error) {
	found, err := db.One[struct {
		Name      string     `db:"name"`
		RevokedAt *time.Time `db:"revoked_at"`
	}](ctx, q, "SELECT name, revoked_at FROM agent WHERE id = $1", agentID)
	if db.IsNoRows(err) {
		return "", false, problem.NotFound("agent", agentID)
	}
	if err != nil {
		return "", false, fmt.Errorf("read agent %s: %w", agentID, err)
	}
	return found.Name, found.RevokedAt == nil, nil
}

// agentID finds an agent by its id or name.
func (store) agentID(ctx context.Context, q db.Querier, ref string) (string, error) {
	agentID, err := db.One[string](ctx, q, "SELECT id FROM agent WHERE id = $1 OR name = $1", ref)
	if db.IsNoRows(err) {
		return "", problem.NotFound("agent", ref)
	}
	if err != nil {
		return "", fmt.Errorf("read agent %s: %w", ref, err)
	}
	return agentID, nil
}

// openCounts counts the open orders by state. It reads an index that holds no
// others.
func (store) openCounts(ctx context.Context, q db.Querier) (map[State]int, error) {
	rows, err := db.All[struct {
		State  State `db:"state"`
		Orders int   `db:"orders"`
	}](ctx, q, "SELECT state, COUNT(*) AS orders FROM cert_order WHERE state IN ('pending', 'signing', 'issued') GROUP BY state")
	if err != nil {
		return nil, fmt.Errorf("count orders: %w", err)
	}
	counts := map[State]int{}
	for _, state := range openStates {
		counts[state] = 0
	}
	for _, r := range rows {
		counts[r.State] = r.Orders
	}
	return counts, nil
}

// specOfVersion reads what the order of a version asked for.
func (s store) specOfVersion(ctx context.Context, q db.Querier, v inventory.Version) (Spec, error) {
	o, err := s.order(ctx, q, v.OrderID, "")
	return o.Spec, err
}
