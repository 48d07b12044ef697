// Package telemetry is how the program tells what it does: its log, its metrics,
// and the request id that ties a log line to an answer.
package telemetry

import "context"

type requestIDKey struct{}

// WithRequestID returns a context that carries the id of the request being
// served.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID gives the id of the request being served, empty outside of one.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}
