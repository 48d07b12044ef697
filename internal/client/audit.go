package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/url"
	"time"
)

// AuditEvent says who changed what, from where, and how it was before.
type AuditEvent struct {
	ID         string          `json:"id"`
	At         time.Time       `json:"at"`
	Actor      Actor           `json:"actor"`
	RequestID  string          `json:"request_id,omitempty"`
	Action     string          `json:"action"`
	ObjectKind string          `json:"object_kind"`
	ObjectID   string          `json:"object_id"`
	Before     json.RawMessage `json:"before,omitempty"`
	After      json.RawMessage `json:"after,omitempty"`
}

// Actor is who did something: a user, an agent or the system.
type Actor struct {
	Kind    string `json:"kind"`
	ID      string `json:"id,omitempty"`
	Name    string `json:"name,omitempty"`
	Address string `json:"address,omitempty"`
}

// AuditFilter narrows a list of audit events; empty fields do not.
type AuditFilter struct{ Actor, Action, ObjectKind, ObjectID string }

// Query is the filter as the API takes it.
func (f AuditFilter) Query() url.Values {
	return query("actor", f.Actor, "action", f.Action, "object_kind", f.ObjectKind, "object_id", f.ObjectID)
}

// AuditEvents lists audit events, newest first.
func (c *Client) AuditEvents(ctx context.Context, f AuditFilter) iter.Seq2[AuditEvent, error] {
	return List[AuditEvent](ctx, c, "/audit-events", f.Query())
}
