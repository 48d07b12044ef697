// Package testkit gives tests the real parts they run against: both database
// engines, a clock that tests move, conditions to wait for. Only tests import
// it.
package testkit

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/queue"
)

// EachEngine runs a test on SQLite and on PostgreSQL, each time with an empty
// database of its own that has the current schema.
func EachEngine(t *testing.T, test func(t *testing.T, d *db.DB)) {
	t.Helper()
	for _, engine := range []db.Engine{db.SQLite, db.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			t.Parallel()
			test(t, NewDB(t, engine))
		})
	}
}

// NewDB opens an empty database with the current schema.
func NewDB(t testing.TB, engine db.Engine) *db.DB {
	t.Helper()
	options := db.Options{MaxConns: 8}
	if engine == db.Postgres {
		options.URL = PostgresURL(t)
	} else {
		options.DataDir = SQLiteDir(t)
	}
	d, err := db.Open(t.Context(), options)
	if err != nil {
		t.Fatalf("open %s: %v", engine, err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close %s: %v", engine, err)
		}
	})
	return d
}

var sqliteTemplate = sync.OnceValues(func() (template []byte, err error) {
	dir, err := os.MkdirTemp("", "certctl-sqlite-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx := context.Background()
	d, err := db.Open(ctx, db.Options{DataDir: dir})
	if err != nil {
		return nil, err
	}
	if err := d.Migrate(ctx); err != nil {
		return nil, err
	}
	if err := queue.Migrate(ctx, d); err != nil {
		return nil, err
	}
	if err := d.Close(); err != nil { // closing moves the write-ahead log into the file
		return nil, err
	}
	return os.ReadFile(filepath.Join(dir, "certctl.db"))
})

// SQLiteDir makes a data directory that holds an empty database with the
// current schema.
func SQLiteDir(t testing.TB) string {
	t.Helper()
	template, err := sqliteTemplate()
	if err != nil {
		t.Fatalf("make SQLite template: %v", err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "certctl.db"), template, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Clock is a clock that only a test moves. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock starts a clock at a time.
func NewClock(start time.Time) *Clock { return &Clock{now: start} }

// Now gives the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock forward.
func (c *Clock) Advance(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(by)
}

// waitLimit ends a wait for a condition that does not come.
const waitLimit = 30 * time.Second

// Eventually waits until condition holds and fails the test when it does not
// come to hold.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	EventuallyWithin(t, waitLimit, what, condition)
}

// EventuallyWithin is Eventually with a limit of its own.
func EventuallyWithin(t testing.TB, limit time.Duration, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %s still not true: %s", limit, what)
		}
	}
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}
