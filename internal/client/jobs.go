package client

import (
	"context"
	"iter"
	"net/url"
	"strconv"
	"time"
)

// Job is a piece of the server's background work.
type Job struct {
	ID          int64     `json:"id"`
	Kind        string    `json:"kind"`
	State       string    `json:"state"`
	Queue       string    `json:"queue"`
	Attempt     int       `json:"attempt"`
	MaxAttempts int       `json:"max_attempts"`
	Error       string    `json:"error,omitempty"`
	ScheduledAt time.Time `json:"scheduled_at"`
	CreatedAt   time.Time `json:"created_at"`
}

// JobFilter narrows a list of jobs; empty fields do not.
type JobFilter struct {
	Kind   string
	States []string // any of them
}

// Query is the filter as the API takes it.
func (f JobFilter) Query() url.Values {
	q := query("kind", f.Kind)
	for _, state := range f.States {
		q.Add("state", state)
	}
	return q
}

// Jobs lists jobs, newest first.
func (c *Client) Jobs(ctx context.Context, f JobFilter) iter.Seq2[Job, error] {
	return List[Job](ctx, c, "/jobs", f.Query())
}

// RetryJob runs a job again now.
func (c *Client) RetryJob(ctx context.Context, id int64) (Job, error) {
	return Create[Job](ctx, c, Path("jobs", strconv.FormatInt(id, 10), "retry"), map[string]any{})
}

// CancelJob ends a job that is not finished.
func (c *Client) CancelJob(ctx context.Context, id int64) (Job, error) {
	return Create[Job](ctx, c, Path("jobs", strconv.FormatInt(id, 10), "cancel"), map[string]any{})
}
