package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"
)

// Exec runs a statement and gives the number of rows it changed.
func Exec(ctx context.Context, q Querier, query string, args ...any) (int64, error) {
	result, err := q.ExecContext(ctx, query, normalise(args)...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// One reads one row: into the fields of a struct T that carry a db tag with
// the column's name, or into a single value. It answers ErrNoRows when there
// is none.
func One[T any](ctx context.Context, q Querier, query string, args ...any) (T, error) {
	var zero T
	rows, err := read[T](ctx, q, 1, query, args)
	if err != nil {
		return zero, err
	}
	if len(rows) == 0 {
		return zero, ErrNoRows
	}
	return rows[0], nil
}

// All reads all rows, as One reads one.
func All[T any](ctx context.Context, q Querier, query string, args ...any) ([]T, error) {
	return read[T](ctx, q, 0, query, args)
}

func read[T any](ctx context.Context, q Querier, limit int, query string, args []any) (items []T, err error) {
	rows, err := q.QueryContext(ctx, query, normalise(args)...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	for (limit == 0 || len(items) < limit) && rows.Next() {
		var item T
		targets, err := scanTargets(reflect.ValueOf(&item).Elem(), columns)
		if err != nil {
			return nil, err
		}
		if err := rows.Scan(targets...); err != nil {
			return nil, fmt.Errorf("scan %T: %w", item, err)
		}
		items = append(items, item)
	}
	return items, rows.Err()
}

// normalise brings times to what both engines keep: UTC, microseconds.
func normalise(args []any) []any {
	out := make([]any, len(args))
	for i, arg := range args {
		switch v := arg.(type) {
		case time.Time:
			out[i] = v.UTC().Truncate(time.Microsecond)
		case *time.Time:
			if v != nil {
				out[i] = v.UTC().Truncate(time.Microsecond)
			}
		default:
			out[i] = arg
		}
	}
	return out
}

var (
	scannerType = reflect.TypeFor[sql.Scanner]()
	timeType    = reflect.TypeFor[time.Time]()
	timePtrType = reflect.TypeFor[*time.Time]()
)

func scanTargets(item reflect.Value, columns []string) ([]any, error) {
	if t := item.Type(); t.Kind() != reflect.Struct || t == timeType || reflect.PointerTo(t).Implements(scannerType) {
		return []any{target(item)}, nil
	}
	fields := fieldsOf(item.Type())
	targets := make([]any, len(columns))
	for i, column := range columns {
		index, ok := fields[column]
		if !ok {
			return nil, fmt.Errorf("%s has no field for column %q", item.Type(), column)
		}
		targets[i] = target(item.FieldByIndex(index))
	}
	return targets, nil
}

func target(field reflect.Value) any {
	switch field.Type() {
	case timeType, timePtrType:
		return utc{field}
	default:
		return field.Addr().Interface()
	}
}

const sqliteTime = "2006-01-02 15:04:05.999999999-07:00"

// utc scans a time.Time or *time.Time and sets its zone to UTC, as drivers
// give local times.
type utc struct{ field reflect.Value }

func (u utc) Scan(src any) error {
	var t sql.NullTime
	// SQLite gives the text of a time that comes from an expression.
	if text, ok := src.(string); ok {
		parsed, err := time.Parse(sqliteTime, text)
		if err != nil {
			return fmt.Errorf("time column: %w", err)
		}
		src = parsed
	}
	if err := t.Scan(src); err != nil {
		return err
	}
	t.Time = t.Time.UTC()
	switch {
	case u.field.Type() == timeType && t.Valid:
		u.field.Set(reflect.ValueOf(t.Time))
	case u.field.Type() == timeType:
		return errors.New("a time column is NULL and its field is not a pointer")
	case t.Valid:
		u.field.Set(reflect.ValueOf(&t.Time))
	default:
		u.field.SetZero()
	}
	return nil
}

// fieldCache maps a struct type to its fields by column. It only ever holds
// what follows from the types of the program.
var fieldCache sync.Map

func fieldsOf(t reflect.Type) map[string][]int {
	if cached, ok := fieldCache.Load(t); ok {
		return cached.(map[string][]int)
	}
	fields := map[string][]int{}
	for _, field := range reflect.VisibleFields(t) {
		if column := field.Tag.Get("db"); column != "" {
			fields[column] = field.Index
		}
	}
	fieldCache.Store(t, fields)
	return fields
}

// JSON is a column that holds a JSON document. SQL's NULL reads as T's zero
// value, and a zero value that marshals to null is stored as NULL.
type JSON[T any] struct{ V T }

// AsJSON wraps a value for a JSON column.
func AsJSON[T any](v T) JSON[T] { return JSON[T]{V: v} }

// Scan implements sql.Scanner.
func (j *JSON[T]) Scan(src any) error {
	var zero T
	j.V = zero
	switch v := src.(type) {
	case nil:
		return nil
	case []byte:
		return json.Unmarshal(v, &j.V)
	case string:
		return json.Unmarshal([]byte(v), &j.V)
	default:
		return fmt.Errorf("a JSON column holds %T", src)
	}
}

// Value implements driver.Valuer.
func (j JSON[T]) Value() (driver.Value, error) {
	text, err := json.Marshal(j.V)
	if err != nil {
		return nil, fmt.Errorf("marshal JSON column: %w", err)
	}
	if string(text) == "null" {
		return nil, nil
	}
	return string(text), nil
}
