package issuance

import (
	"context"
	"database/sql"
	"strings"
	"testing"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/testkit"
)

// spy remembers the queries that go through it.
type spy struct {
	db.Querier
	queries []string
	args    [][]any
}

func (s *spy) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	s.queries, s.args = append(s.queries, query), append(s.args, args)
	return s.Querier.QueryContext(ctx, query, args...)
}

// Orders stay for ever, so no query may read all of them.
func TestQueriesUseIndexes(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		ctx, st := t.Context(), store{}
		for name, run := range map[string]func(q db.Querier) error{
			"order":                       func(q db.Querier) error { _, err := st.order(ctx, q, "x", ""); return ignoreNotFound(err) },
			"order with names":            func(q db.Querier) error { _, err := st.named(ctx, q, "x"); return ignoreNotFound(err) },
			"open orders":                 func(q db.Querier) error { _, err := st.open(ctx, q, "x"); return err },
			"open orders of an agent":     func(q db.Querier) error { _, err := st.openOf(ctx, q, "x"); return err },
			"last order":                  func(q db.Querier) error { _, _, err := st.latest(ctx, q, "x", "y"); return err },
			"key":                         func(q db.Querier) error { _, err := st.keyUsed(ctx, q, "x", "y"); return err },
			"timeline":                    func(q db.Querier) error { _, _, err := st.happened(ctx, q, "x", "y"); return err },
			"counts":                      func(q db.Querier) error { _, err := st.openCounts(ctx, q); return err },
			"list by certificate":         lists(ctx, Filter{CertificateID: "x"}),
			"list by agent":               lists(ctx, Filter{AgentID: "x"}),
			"list by state":               lists(ctx, Filter{State: Failed}),
			"list by certificate & state": lists(ctx, Filter{CertificateID: "x", State: Failed}),
		} {
			s := &spy{Querier: d.Read()}
			if err := run(s); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for i, query := range s.queries {
				if plan := explain(t, d, query, s.args[i]); fullScan(plan) {
					t.Errorf("%s reads a whole table:\n%s", name, plan)
				}
			}
		}
	})
}

func lists(ctx context.Context, f Filter) func(q db.Querier) error {
	return func(q db.Querier) error {
		_, _, err := store{}.list(ctx, q, f, db.Page{})
		return err
	}
}

func fullScan(plan string) bool {
	for line := range strings.Lines(plan) {
		if strings.Contains(line, "Seq Scan") || strings.HasPrefix(line, "SCAN ") {
			return true
		}
	}
	return false
}

// explain gives the plan that the engine has for a query. PostgreSQL reads
// small tables whole unless it is told not to.
func explain(t *testing.T, d *db.DB, query string, args []any) string {
	t.Helper()
	var lines []string
	err := d.InTx(t.Context(), func(tx *db.Tx) (err error) {
		if d.Engine() == db.Postgres {
			if _, err := db.Exec(t.Context(), tx, "SET LOCAL enable_seqscan = off"); err != nil {
				return err
			}
			lines, err = db.All[string](t.Context(), tx, "EXPLAIN "+query, args...)
			return err
		}
		steps, err := db.All[struct {
			ID      int    `db:"id"`
			Parent  int    `db:"parent"`
			NotUsed int    `db:"notused"`
			Detail  string `db:"detail"`
		}](t.Context(), tx, "EXPLAIN QUERY PLAN "+query, args...)
		for _, step := range steps {
			lines = append(lines, step.Detail)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

func ignoreNotFound(err error) error {
	if problem.KindOf(err) == problem.KindNotFound {
		return nil
	}
	return err
}
