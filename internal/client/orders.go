package client

import (
	"context"
	"iter"
	"net/url"
	"time"
)

// Order is one attempt to get a new version for one agent.
type Order struct {
	ID          string     `json:"id"`
	Certificate string     `json:"certificate"`
	Agent       string     `json:"agent"`
	Reason      string     `json:"reason"`
	State       string     `json:"state"`
	StateReason string     `json:"state_reason,omitempty"`
	Attempts    int        `json:"attempts"`
	VersionID   string     `json:"version_id,omitempty"`
	NextTryAt   *time.Time `json:"next_try_at,omitempty"`
	CreatedAt   time.Time  `json:"created_at"`
	UpdatedAt   time.Time  `json:"updated_at"`
	FinishedAt  *time.Time `json:"finished_at,omitempty"`
	Events      []Event    `json:"events,omitempty"` // only when read by itself
}

// OrderFilter narrows a list of orders; empty fields do not.
type OrderFilter struct {
	Certificate, Agent, State string
	Sort                      string
}

// Query is the filter as the API takes it.
func (f OrderFilter) Query() url.Values {
	return query("certificate", f.Certificate, "agent", f.Agent, "state", f.State, "sort", f.Sort)
}

// Orders lists orders, newest first.
func (c *Client) Orders(ctx context.Context, f OrderFilter) iter.Seq2[Order, error] {
	return List[Order](ctx, c, "/orders", f.Query())
}

// Order reads one order.
func (c *Client) Order(ctx context.Context, id string) (Order, error) {
	return Get[Order](ctx, c, Path("orders", id), nil)
}

// RetryOrder continues a failed order from where it failed.
func (c *Client) RetryOrder(ctx context.Context, id string) (Order, error) {
	return Create[Order](ctx, c, Path("orders", id, "retry"), map[string]any{})
}

// CancelOrder ends an order that is not finished.
func (c *Client) CancelOrder(ctx context.Context, id string) (Order, error) {
	return Create[Order](ctx, c, Path("orders", id, "cancel"), map[string]any{})
}
