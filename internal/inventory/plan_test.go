package inventory

import (
	"context"
	"database/sql"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/db"
)

// explaining keeps the plans of the queries that go through it.
type explaining struct {
	db.Querier
	engine db.Engine
	plans  []string
}

func (e *explaining) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	prefix := "EXPLAIN "
	if e.engine == db.SQLite {
		prefix = "EXPLAIN QUERY PLAN "
	}
	plan, err := planOf(ctx, e.Querier, prefix+query, args)
	if err != nil {
		return nil, err
	}
	e.plans = append(e.plans, query+"\n"+plan)
	return e.Querier.QueryContext(ctx, query, args...)
}

func planOf(ctx context.Context, q db.Querier, query string, args []any) (plan string, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return "", err
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		return "", err
	}
	lines := []string{}
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(sql.NullString)
		}
		if err := rows.Scan(values...); err != nil {
			return "", err
		}
		lines = append(lines, values[len(values)-1].(*sql.NullString).String)
	}
	return strings.Join(lines, "\n"), rows.Err()
}

// fullScan finds the plans that read all of a table that grows: SQLite says
// SCAN with the alias and, when it walks an index in the order that is asked
// for, that index.
var fullScan = map[db.Engine]*regexp.Regexp{
	db.SQLite:   regexp.MustCompile(`SCAN (c|v|o|d|s|n|version|certificate|cert_order|deployment|event)( USING COVERING INDEX.*)?(\n|$)`),
	db.Postgres: regexp.MustCompile(`Seq Scan on (certificate|version|cert_order|deployment|event)\b`),
}

// TestQueriesOnPathsThatGrowUseIndexes runs them with PostgreSQL told to avoid
// full scans, which leaves those for which there is no index.
func TestQueriesOnPathsThatGrowUseIndexes(t *testing.T) {
	eachEngine(t, func(f *fixture) {
		ctx, now := f.t.Context(), f.clock.Now()
		c := f.create("www.example.com", "web-1")
		f.must(f.db.InTx(ctx, func(tx *db.Tx) error {
			if f.db.Engine() == db.Postgres {
				if _, err := db.Exec(ctx, tx, "SET LOCAL enable_seqscan = off"); err != nil {
					return err
				}
			}
			q := &explaining{Querier: tx, engine: f.db.Engine()}
			if err := f.explainLists(q, now); err != nil {
				return err
			}
			if _, err := f.store.standings(ctx, q, []Certificate{c.Certificate}, now); err != nil {
				return err
			}
			for _, read := range []func() error{
				func() error { return secondOf(f.store.versions(ctx, q, c.ID, db.Page{})) },
				func() error { return secondOf(f.store.Timeline(ctx, q, c.ID, db.Page{})) },
				func() error { return second(f.store.TimelineOf(ctx, q, "ord_1")) },
				func() error { return second(f.store.valid(ctx, q, c.ID, now)) },
				func() error { return second(f.store.ActiveVersions(ctx, q, c.ID)) },
				func() error { return second(f.store.Holders(ctx, q, c.ID)) },
				func() error { return second(db.All[Version](ctx, q, selectDue, now, 200)) },
			} {
				if err := read(); err != nil {
					return err
				}
			}
			for _, plan := range q.plans {
				if sortsAll(plan) {
					f.t.Errorf("the order is not that of an index in the plan of\n%s", plan)
				}
				if found := fullScan[f.db.Engine()].FindString(plan); found != "" {
					f.t.Errorf("%q in the plan of\n%s", found, plan)
				}
			}
			return nil
		}))
	})
}

// sortsAll reports whether SQLite sorts what it reads for the usual order of a
// list. Where it begins with the few rows of a subquery, that is right.
func sortsAll(plan string) bool {
	return strings.Contains(plan, "ORDER BY c.id") && !strings.Contains(plan, "c.id IN (") && strings.Contains(plan, "USE TEMP B-TREE FOR ORDER BY")
}

func secondOf[T any](_ []T, _ string, err error) error { return err }

func (f *fixture) explainLists(q *explaining, now time.Time) error {
	filters := []Filter{
		{}, {Name: "www"}, {Issuer: "local"}, {Profile: "default"}, {Owner: "jane"}, {Tags: []string{"a:b", "c:d"}}, {ExpiresBefore: now},
	}
	for _, status := range Statuses {
		filters = append(filters, Filter{Status: status})
	}
	for _, filter := range filters {
		for _, sort := range []string{"", "id", "name", "-created_at", "not_after"} {
			if _, _, err := f.store.list(f.t.Context(), q, filter, now, db.Page{Sort: sort}); err != nil {
				return err
			}
			// What is filtered by equality is looked up rather than walked to.
			selective := filter.Issuer != "" || filter.Profile != "" || filter.Owner != "" || filter.Tags != nil
			plan := q.plans[len(q.plans)-1]
			if selective && q.engine == db.SQLite && !strings.Contains(plan, "SEARCH c USING INDEX") {
				f.t.Errorf("%+v is walked to in the plan of\n%s", filter, plan)
			}
		}
	}
	return nil
}
