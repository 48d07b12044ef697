package audit

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/rest"
)

// EventView is an audit event as the API shows it.
type EventView struct {
	ID         string          `json:"id"`
	At         time.Time       `json:"at"`
	Actor      ActorView       `json:"actor"`
	RequestID  string          `json:"request_id,omitempty"`
	Action     string          `json:"action" example:"certificate.create"`
	ObjectKind string          `json:"object_kind"`
	ObjectID   string          `json:"object_id"`
	Before     json.RawMessage `json:"before,omitempty" doc:"The object before the change, without secrets."`
	After      json.RawMessage `json:"after,omitempty" doc:"The object after the change, without secrets."`
}

// ActorView is who made a change.
type ActorView struct {
	Kind    string `json:"kind" enum:"user,agent,system"`
	ID      string `json:"id"`
	Name    string `json:"name"`
	Address string `json:"address,omitempty"`
}

type listInput struct {
	rest.ListInput
	ObjectKind string    `query:"object_kind" doc:"Only events of this kind of object." example:"certificate"`
	Object     string    `query:"object" doc:"Only events of the object with this id."`
	Actor      string    `query:"actor" doc:"Only events of the actor with this id."`
	Action     string    `query:"action" doc:"Only events of this action."`
	Since      time.Time `query:"since" doc:"Only events from this time on."`
}

// Routes registers the operations of this package.
func Routes(api huma.API, d *db.DB) {
	rest.Register(api, rest.AuditRead, huma.Operation{
		OperationID: "list-audit-events", Method: http.MethodGet, Path: "/api/v1/audit-events", Tags: []string{"Audit"},
		Summary: "List audit events",
	}, func(ctx context.Context, in *listInput) (*rest.ListOutput[EventView], error) {
		query := db.Select(`SELECT id, at, actor_kind, actor_id, actor_name, address, request_id, action, object_kind, object_id, before, after FROM audit_event`)
		for column, value := range map[string]string{
			"object_kind": in.ObjectKind, "object_id": in.Object, "actor_id": in.Actor, "action": in.Action,
		} {
			if value != "" {
				query.Where(column+" = ?", value)
			}
		}
		if !in.Since.IsZero() {
			query.Where("at >= ?", in.Since)
		}
		events, next, err := db.List(ctx, d.Read(), query, in.Page(), db.Sorts[Event]{
			"id": {Column: "id", Key: func(e Event) any { return e.ID }},
		})
		if err != nil {
			return nil, err
		}
		views := make([]EventView, len(events))
		for i, e := range events {
			views[i] = EventView{
				ID: e.ID, At: e.At, Actor: ActorView{Kind: e.ActorKind, ID: e.ActorID, Name: e.ActorName, Address: e.Address},
				RequestID: e.RequestID, Action: e.Action, ObjectKind: e.ObjectKind, ObjectID: e.ObjectID,
				Before: e.Before.V, After: e.After.V,
			}
		}
		return rest.NewList(views, next), nil
	})
}
