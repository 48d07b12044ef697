package db_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/testkit"
)

type row struct {
	Name      string                     `db:"name"`
	Spec      db.JSON[map[string]string] `db:"spec"`
	Revision  int                        `db:"revision"`
	ID        string                     `db:"id"`
	CreatedAt time.Time                  `db:"created_at"`
	UpdatedAt *time.Time                 `db:"updated_at"`
}

func insert(ctx context.Context, tx *db.Tx, r row) error {
	_, err := db.Exec(ctx, tx, `INSERT INTO profile (id, name, revision, spec, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6)`, r.ID, r.Name, r.Revision, r.Spec, r.CreatedAt, r.UpdatedAt)
	return err
}

func newRow(i int) row {
	at := time.Date(2026, 1, 1, 0, 0, i, 123456000, time.UTC)
	return row{ID: fmt.Sprintf("prf_%03d", i), Name: fmt.Sprintf("p%d", i%3), Spec: db.AsJSON(map[string]string{"a": "b"}), CreatedAt: at, UpdatedAt: &at}
}

func TestValuesRoundTrip(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		want := newRow(1)
		if err := d.InTx(ctx, func(tx *db.Tx) error { return insert(ctx, tx, want) }); err != nil {
			t.Fatal(err)
		}
		got, err := db.One[row](ctx, d.Read(), "SELECT id, name, revision, spec, created_at, updated_at FROM profile WHERE id = $1", want.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		latest, err := db.One[time.Time](ctx, d.Read(), "SELECT MAX(created_at) FROM profile")
		if err != nil || !latest.Equal(want.CreatedAt) {
			t.Errorf("aggregate time: %v, %v", latest, err)
		}
		if _, err := db.One[row](ctx, d.Read(), "SELECT id FROM profile WHERE id = 'none'"); !db.IsNoRows(err) {
			t.Errorf("no row: %v", err)
		}
	})
}

func TestFailedTransactionLeavesNothingAndRunsNoHook(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		wakes, cancel := d.Subscribe("topic")
		defer cancel()
		failure := errors.New("no")
		err := d.InTx(ctx, func(tx *db.Tx) error {
			tx.AfterCommit(func() { t.Error("hook ran") })
			return errors.Join(insert(ctx, tx, newRow(1)), tx.Notify(ctx, "topic", "lost"), failure)
		})
		if !errors.Is(err, failure) {
			t.Fatal(err)
		}
		if count, err := db.One[int](ctx, d.Read(), "SELECT COUNT(*) FROM profile"); err != nil || count != 0 {
			t.Errorf("%d rows, %v", count, err)
		}
		testkit.Eventually(t, "a committed wake-up arrives", func() bool {
			if err := d.InTx(ctx, func(tx *db.Tx) error { return tx.Notify(ctx, "topic", "kept") }); err != nil {
				t.Fatal(err)
			}
			select {
			case payload := <-wakes:
				if payload == "lost" {
					t.Fatal("woken by a transaction that failed")
				}
				return payload == "kept"
			default:
				return false // the listener may not have been connected yet
			}
		})
	})
}

func TestViolationsAreTold(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		same := newRow(1)
		other := same
		other.ID = "prf_other"
		err := d.InTx(ctx, func(tx *db.Tx) error { return errors.Join(insert(ctx, tx, same), insert(ctx, tx, other)) })
		if !db.IsUnique(err, "profile", "name") || db.IsUnique(err, "profile", "id") || db.IsUnique(err, "issuer", "name") {
			t.Errorf("unique violation not told: %v", err)
		}
		err = d.InTx(ctx, func(tx *db.Tx) error {
			_, err := db.Exec(ctx, tx, `INSERT INTO certificate_name (certificate_id, name) VALUES ('crt_none', 'x')`)
			return err
		})
		if !db.IsForeignKey(err) {
			t.Errorf("foreign key violation not told: %v", err)
		}
	})
}

func TestConcurrentIncrementsAllCount(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		if err := d.InTx(ctx, func(tx *db.Tx) error { return insert(ctx, tx, newRow(1)) }); err != nil {
			t.Fatal(err)
		}
		const writers = 20
		var failed atomic.Int32
		done := make(chan struct{})
		for range writers {
			go func() {
				defer func() { done <- struct{}{} }()
				err := d.InTx(ctx, func(tx *db.Tx) error {
					revision, err := db.One[int](ctx, tx, "SELECT revision FROM profile WHERE id = 'prf_001'"+tx.ForUpdate())
					if err != nil {
						return err
					}
					_, err = db.Exec(ctx, tx, "UPDATE profile SET revision = $1 WHERE id = 'prf_001'", revision+1)
					return err
				})
				if err != nil {
					failed.Add(1)
					t.Log(err)
				}
			}()
		}
		for range writers {
			<-done
		}
		revision, err := db.One[int](ctx, d.Read(), "SELECT revision FROM profile")
		if err != nil || revision != writers || failed.Load() != 0 {
			t.Errorf("revision %d, %d failed, %v", revision, failed.Load(), err)
		}
	})
}

func TestPagesAreStableInEveryOrder(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		const rows = 10
		// Names repeat, so only the id makes their order total; uniqueness of
		// names is not what is tested here.
		drop := "DROP INDEX IF EXISTS none"
		if d.Engine() == db.Postgres {
			drop = "ALTER TABLE profile DROP CONSTRAINT profile_name_key"
		}
		err := d.InTx(ctx, func(tx *db.Tx) error {
			if _, err := db.Exec(ctx, tx, drop); err != nil {
				return err
			}
			for i := range rows {
				r := newRow(i)
				if d.Engine() == db.SQLite {
					r.Name = fmt.Sprintf("p%d-%d", i%3, i)
				}
				if err := insert(ctx, tx, r); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		sorts := db.Sorts[row]{
			"id":         {Column: "id", Key: func(r row) any { return r.ID }},
			"name":       {Column: "name", Key: func(r row) any { return r.Name }},
			"created_at": {Column: "created_at", Key: func(r row) any { return r.CreatedAt }},
		}
		for _, sort := range []string{"", "id", "name", "-name", "created_at", "-created_at"} {
			seen := map[string]bool{}
			page := db.Page{Limit: 3, Sort: sort}
			for {
				query := db.Select("SELECT id, name, created_at FROM profile").Where("revision >= ?", 0)
				items, next, err := db.List(ctx, d.Read(), query, page, sorts)
				if err != nil {
					t.Fatal(err)
				}
				for _, item := range items {
					if seen[item.ID] {
						t.Errorf("sort %q gives %s twice", sort, item.ID)
					}
					seen[item.ID] = true
				}
				if page.Cursor = next; next == "" {
					break
				}
			}
			if len(seen) != rows {
				t.Errorf("sort %q gives %d of %d rows", sort, len(seen), rows)
			}
		}
		for _, page := range []db.Page{{Sort: "nope"}, {Limit: 1000}, {Limit: -1}, {Cursor: "%%"}, {Cursor: "e30"}} {
			_, _, err := db.List(ctx, d.Read(), db.Select("SELECT id FROM profile"), page, sorts)
			if problem.KindOf(err) != problem.KindInvalid {
				t.Errorf("%+v: %v", page, err)
			}
		}
	})
}

func TestSchemasOfBothEnginesAreTheSame(t *testing.T) {
	t.Parallel()
	columns := func(d *db.DB, query string) []string {
		rows, err := db.All[string](t.Context(), d.Read(), query)
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	sqlite := columns(testkit.NewDB(t, db.SQLite), `SELECT m.name || '.' || c.name || ' ' || CASE WHEN c."notnull" = 1 OR c.pk > 0 THEN 'not null' ELSE 'null' END
		FROM sqlite_master m JOIN pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name NOT LIKE 'river%' AND m.name NOT LIKE 'sqlite%' AND m.name <> 'schema_migration' ORDER BY 1`)
	postgres := columns(testkit.NewDB(t, db.Postgres), `SELECT table_name || '.' || column_name || ' ' || CASE is_nullable WHEN 'NO' THEN 'not null' ELSE 'null' END COLLATE "C"
		FROM information_schema.columns WHERE table_schema = 'public' AND table_name NOT LIKE 'river%' AND table_name <> 'schema_migration' ORDER BY 1`)
	if diff := cmp.Diff(sqlite, postgres); diff != "" {
		t.Errorf("SQLite (-) and PostgreSQL (+) differ:\n%s", diff)
	}
}

func TestWrongURLsAreRefusedWithoutShowingThem(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"mysql://u:hunter2@h/d", "postgres://u:hunter2@h:port/d", "::hunter2"} {
		_, err := db.Open(t.Context(), db.Options{URL: url})
		if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "database_url") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

var placeholder = regexp.MustCompile(`\$(\d+)`)

// TestPlaceholdersAreInOrder reads the SQL in the source: some drivers bind by
// position, so $1, $2, ... must first appear in this order.
func TestPlaceholdersAreInOrder(t *testing.T) {
	t.Parallel()
	literal := regexp.MustCompile("(?s)`[^`]*`|\"[^\"\n]*\"")
	err := filepath.WalkDir("..", func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, text := range literal.FindAllString(string(source), -1) {
			if !regexp.MustCompile(`(?s)\b(SELECT|INSERT|UPDATE|DELETE)\b.*\$1\b`).MatchString(text) {
				continue
			}
			highest := 0
			for _, match := range placeholder.FindAllStringSubmatch(text, -1) {
				n, _ := strconv.Atoi(match[1])
				if n > highest+1 {
					t.Errorf("%s: $%d before $%d in %s", path, n, highest+1, text)
				}
				highest = max(highest, n)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestOnlyTheOwnerReadsTheSQLiteFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "certctl.db")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	d, err := db.Open(t.Context(), db.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	if err := d.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 2 {
		t.Fatalf("%v, %v: the write-ahead log is missing", files, err)
	}
	for _, file := range files {
		info, err := file.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %04o", file.Name(), info.Mode().Perm())
		}
	}
}
