package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
)

// Event is one line of a certificate's timeline.
type Event struct {
	At            time.Time // when it happened; must be set
	CertificateID string
	OrderID       string // empty when it is not about an order
	DeploymentID  string // empty when it is not about a deployment
	Kind          string // such as order.issued
	Message       string // a sentence for a person
	Detail        any    // a JSON object with more, or nil; no secrets
}

// Record writes a line of the timeline, in the transaction of what it tells.
func Record(ctx context.Context, tx *db.Tx, e Event) error {
	if e.At.IsZero() {
		return errors.New("an event of the timeline has no time")
	}
	_, err := db.Exec(ctx, tx, `INSERT INTO event (id, at, certificate_id, order_id, deployment_id, kind, message, detail)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		id.New("evt"), e.At, e.CertificateID, e.OrderID, e.DeploymentID, e.Kind, e.Message, db.AsJSON(e.Detail))
	if err != nil {
		return fmt.Errorf("record %s: %w", e.Kind, err)
	}
	return nil
}

// Line is an Event as the timeline has it.
type Line struct {
	ID           string          `json:"id" db:"id"`
	At           time.Time       `json:"at" db:"at"`
	Kind         string          `json:"kind" db:"kind" doc:"What happened, such as order.issued."`
	Message      string          `json:"message" db:"message" doc:"The same as a sentence."`
	OrderID      string          `json:"order_id,omitempty" db:"order_id"`
	DeploymentID string          `json:"deployment_id,omitempty" db:"deployment_id"`
	Detail       json.RawMessage `json:"detail,omitempty" db:"-"`
}

type lineRow struct {
	Line
	Detail db.JSON[json.RawMessage] `db:"detail"`
}

func (r lineRow) line() Line {
	l := r.Line
	l.Detail = r.Detail.V
	return l
}

const lineColumns = "id, at, kind, message, order_id, deployment_id, detail"

var lineSorts = db.Sorts[lineRow]{"id": {Column: "id", Key: func(r lineRow) any { return r.ID }}}

// Timeline reads a page of a certificate's timeline, newest first.
func (Store) Timeline(ctx context.Context, q db.Querier, certificateID string, page db.Page) ([]Line, string, error) {
	query := db.Select("SELECT "+lineColumns+" FROM event").Where("certificate_id = ?", certificateID)
	rows, next, err := db.List(ctx, q, query, page, lineSorts)
	return lines(rows), next, err
}

// TimelineOf reads the whole timeline of one order, oldest first.
func (Store) TimelineOf(ctx context.Context, q db.Querier, orderID string) ([]Line, error) {
	// The empty id belongs to events of no order, which the index leaves out.
	rows, err := db.All[lineRow](ctx, q, "SELECT "+lineColumns+" FROM event WHERE order_id = $1 AND order_id <> '' ORDER BY id", orderID)
	if err != nil {
		return nil, fmt.Errorf("read timeline of order %s: %w", orderID, err)
	}
	return lines(rows), nil
}

func lines(rows []lineRow) []Line {
	all := make([]Line, len(rows))
	for i, r := range rows {
		all[i] = r.line()
	}
	return all
}
