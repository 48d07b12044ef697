// Package audit keeps the record of what was done: one event for every change,
// with who, what and from where, written in the transaction of the change. It
// also remembers the calls that carried an Idempotency-Key, for the same
// reason: a call that changed something left its event, and with it its key.
package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
)

// Actor is who does something.
type Actor struct {
	Kind      string // user, agent or system
	ID        string
	Name      string
	Address   string // network address the call came from
	RequestID string
}

// system acts when nobody asked: renewals, retries, housekeeping.
var system = Actor{Kind: "system", ID: "system", Name: "certctl"}

type actorKey struct{}

// WithActor returns a context in which actor acts.
func WithActor(ctx context.Context, actor Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

// ActorFrom tells who acts; the system where nobody is named.
func ActorFrom(ctx context.Context) Actor {
	if actor, ok := ctx.Value(actorKey{}).(Actor); ok {
		return actor
	}
	return system
}

// Change describes one change. Before and After are views without secrets that
// marshal to JSON, nil where there is none.
type Change struct {
	Action     string // object.verb, such as certificate.create
	ObjectKind string
	ObjectID   string
	Before     any
	After      any
}

// Event is a stored change.
type Event struct {
	ID         string                   `db:"id"`
	At         time.Time                `db:"at"`
	ActorKind  string                   `db:"actor_kind"`
	ActorID    string                   `db:"actor_id"`
	ActorName  string                   `db:"actor_name"`
	Address    string                   `db:"address"`
	RequestID  string                   `db:"request_id"`
	Action     string                   `db:"action"`
	ObjectKind string                   `db:"object_kind"`
	ObjectID   string                   `db:"object_id"`
	Before     db.JSON[json.RawMessage] `db:"before"`
	After      db.JSON[json.RawMessage] `db:"after"`
}

// Append writes the event of a change into its transaction.
func Append(ctx context.Context, tx *db.Tx, change Change) error {
	actor := ActorFrom(ctx)
	now := time.Now()
	_, err := db.Exec(ctx, tx, `
		INSERT INTO audit_event (id, at, actor_kind, actor_id, actor_name, address, request_id, action, object_kind, object_id, before, after)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		id.New("aud"), now, actor.Kind, actor.ID, actor.Name, actor.Address, actor.RequestID,
		change.Action, change.ObjectKind, change.ObjectID, db.AsJSON(change.Before), db.AsJSON(change.After))
	if err != nil {
		return fmt.Errorf("write audit event %s: %w", change.Action, err)
	}
	return claim(ctx, tx, change.ObjectID, now)
}
