package db

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certctl-io/certctl/internal/problem"
)

// Limits of a page.
const (
	DefaultLimit = 50
	MaxLimit     = 500
)

// Query is a SELECT with filters that depend on the input. Only constant text
// goes into it; values are always arguments.
type Query struct {
	base  string
	conds []string
	args  []any
}

// Select starts a query from "SELECT ... FROM ... [JOIN ...]", with ? for
// arguments.
func Select(base string, args ...any) *Query {
	q := &Query{}
	q.base = q.bind(base, args)
	return q
}

// Where adds a condition, with ? for arguments. Conditions are joined by AND.
func (q *Query) Where(condition string, args ...any) *Query {
	q.conds = append(q.conds, "("+q.bind(condition, args)+")")
	return q
}

// Page says which part of a list is wanted.
type Page struct {
	Limit  int    // rows; 0 for DefaultLimit
	Cursor string // where the previous page ended; empty for the first
	Sort   string // a name of the Sorts, with "-" before it for descending; empty for "-id"
}

// Sort is one order a list can have. Column is an expression that is never
// NULL, Key the value it has for a row.
type Sort[T any] struct {
	Column string
	Key    func(T) any // string, int64 or time.Time
}

// Sorts are the orders of a list by the name a caller uses. "id" must be one
// of them; it breaks ties, which makes every order stable.
type Sorts[T any] map[string]Sort[T]

// List reads one page and gives the cursor of the next one, empty at the end.
func List[T any](ctx context.Context, q Querier, query *Query, page Page, sorts Sorts[T]) (items []T, next string, err error) {
	name, descending := page.order()
	sort, ok := sorts[name]
	if !ok {
		known := slices.Sorted(maps.Keys(sorts))
		return nil, "", problem.Invalid("sort", "%q is not an order of this list", page.Sort).
			Hint("use one of %s, with a minus before it for descending", strings.Join(known, ", "))
	}
	limit := page.Limit
	if limit == 0 {
		limit = DefaultLimit
	}
	if limit < 1 || limit > MaxLimit {
		return nil, "", problem.Invalid("limit", "%d is out of range", page.Limit).Hint("use 1 to %d", MaxLimit)
	}
	byID := sorts["id"]
	if page.Cursor != "" {
		if err := seek(query, page, sort.Column, byID.Column, descending); err != nil {
			return nil, "", err
		}
	}
	direction := ""
	if descending {
		direction = " DESC"
	}
	order := sort.Column + direction
	if name != "id" {
		order += ", " + byID.Column + direction
	}
	items, err = All[T](ctx, q, query.text()+" ORDER BY "+order+" LIMIT "+strconv.Itoa(limit+1), query.args...)
	if err != nil {
		return nil, "", fmt.Errorf("list: %w", err)
	}
	if len(items) > limit {
		items = items[:limit]
		last := items[limit-1]
		next = encodeCursor(page.Sort, sort.Key(last), byID.Key(last))
	}
	return items, next, nil
}

func (p Page) order() (name string, descending bool) {
	if p.Sort == "" {
		return "id", true
	}
	name, descending = strings.CutPrefix(p.Sort, "-")
	return name, descending
}

// seek adds the condition that starts after the cursor.
func seek(query *Query, page Page, column, idColumn string, descending bool) error {
	key, id, err := decodeCursor(page.Cursor, page.Sort)
	if err != nil {
		return err
	}
	comparison := ">"
	if descending {
		comparison = "<"
	}
	if column == idColumn {
		query.Where(idColumn+" "+comparison+" ?", id)
		return nil
	}
	query.Where(fmt.Sprintf("(%s, %s) %s (?, ?)", column, idColumn, comparison), key, id)
	return nil
}

func (q *Query) text() string {
	if len(q.conds) == 0 {
		return q.base
	}
	return q.base + " WHERE " + strings.Join(q.conds, " AND ")
}

// bind replaces each ? by the next numbered placeholder.
func (q *Query) bind(text string, args []any) string {
	if strings.Count(text, "?") != len(args) {
		panic(fmt.Sprintf("db: %d arguments for %q", len(args), text))
	}
	parts := strings.Split(text, "?")
	var b strings.Builder
	for i, part := range parts {
		b.WriteString(part)
		if i < len(args) {
			q.args = append(q.args, args[i])
			b.WriteString("$" + strconv.Itoa(len(q.args)))
		}
	}
	return b.String()
}

// cursor is what a page's end is told to the caller as, opaque to it.
type cursor struct {
	Sort string     `json:"s,omitempty"`
	Text *string    `json:"t,omitempty"`
	Int  *int64     `json:"i,omitempty"`
	Time *time.Time `json:"d,omitempty"`
	ID   string     `json:"id"`
}

func encodeCursor(sort string, key, id any) string {
	c := cursor{Sort: sort, ID: fmt.Sprint(id)}
	switch v := key.(type) {
	case time.Time:
		c.Time = &v
	case int64:
		c.Int = &v
	default:
		text := fmt.Sprint(v)
		c.Text = &text
	}
	text, err := json.Marshal(c)
	if err != nil {
		panic("db: marshal cursor: " + err.Error()) // strings, numbers and times always marshal
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func decodeCursor(text, sort string) (key any, id string, err error) {
	wrong := problem.Invalid("cursor", "it is not one that this list gave out").
		Hint("take next_cursor of the page before, with the same sort, or leave it out to start over")
	decoded, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, "", wrong
	}
	var c cursor
	if err := json.Unmarshal(decoded, &c); err != nil || c.ID == "" || c.Sort != sort {
		return nil, "", wrong
	}
	switch {
	case c.Time != nil:
		return *c.Time, c.ID, nil
	case c.Int != nil:
		return *c.Int, c.ID, nil
	case c.Text != nil:
		return *c.Text, c.ID, nil
	default:
		return nil, "", wrong
	}
}
