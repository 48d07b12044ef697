package client

import (
	"context"
	"net/http"
	"time"
)

// Info is what a server says about itself and about the caller.
type Info struct {
	Version   string    `json:"version"`
	ServerID  string    `json:"server_id"`
	Database  string    `json:"database"`
	PublicURL string    `json:"public_url"` // at which agents reach the server
	StartedAt time.Time `json:"started_at"` // of the replica that answered
	Caller    Caller    `json:"caller"`
}

// Caller is whose API key it is.
type Caller struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Role string `json:"role"`
}

// Ready asks whether the server can serve; it needs no API key.
func (c *Client) Ready(ctx context.Context) error {
	return c.do(ctx, request{method: http.MethodGet, path: "/ready", root: true}, nil)
}

// Info asks the server about itself; it fails when the API key is not good.
func (c *Client) Info(ctx context.Context) (Info, error) {
	return Get[Info](ctx, c, "/info", nil)
}
