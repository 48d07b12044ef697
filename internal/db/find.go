package db

import (
	"context"
	"strings"
)

// In adds the condition that a column has one of the values.
func (q *Query) In(column string, values []string) *Query {
	if len(values) == 0 {
		return q.Where("FALSE")
	}
	args := make([]any, len(values))
	for i, value := range values {
		args[i] = value
	}
	return q.Where(column+" IN ("+strings.TrimSuffix(strings.Repeat("?, ", len(values)), ", ")+")", args...)
}

// Find reads all rows of a query, in no order: it is for few.
func Find[T any](ctx context.Context, q Querier, query *Query) ([]T, error) {
	return All[T](ctx, q, query.text(), query.args...)
}
