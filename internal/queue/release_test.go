package queue_test

import (
	"context"
	"testing"
	"time"

	"github.com/riverqueue/river/rivertype"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/queue"
	"github.com/certctl-io/certctl/internal/testkit"
)

// replicaOn opens a database as a replica that lives until the test ends, or
// until it is closed.
func replicaOn(t *testing.T, url, name string) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), db.Options{URL: url, Replica: name})
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, name+" is seen", func() bool { return alive(t, d, name) })
	return d
}

func alive(t *testing.T, d *db.DB, replica string) (alive bool) {
	t.Helper()
	err := d.InTx(t.Context(), func(tx *db.Tx) (err error) {
		alive, err = tx.Alive(t.Context(), replica)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return alive
}

func closed(t *testing.T, d *db.DB) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func TestJobsOfAReplicaThatDiedAreRunByAnother(t *testing.T) {
	t.Parallel()
	url := testkit.PostgresURL(t)
	d, other := replicaOn(t, url, "test"), replicaOn(t, url, "other")
	t.Cleanup(func() { closed(t, d) })
	inserter := newInserter(t, d)
	enqueue(t, d, inserter, "lost")
	err := d.InTx(t.Context(), func(tx *db.Tx) error {
		_, err := db.Exec(t.Context(), tx,
			`UPDATE river_job SET state = 'running', attempt = 1, attempted_by = ARRAY['test', 'other'], attempted_at = now() - interval '30 seconds'`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	words := make(chan string, 1)
	startRunner(t, d, func(_ context.Context, word string) error { words <- word; return nil })
	testkit.Eventually(t, "dead replicas were looked for", func() bool {
		looked, _, err := inserter.List(t.Context(), queue.Filter{Kind: "queue_release", States: []string{"completed"}}, 1, "")
		return err == nil && len(looked) == 1
	})
	if state := only(t, inserter).State; state != rivertype.JobStateRunning {
		t.Fatalf("the job of a replica that lives is %s", state)
	}
	closed(t, other)
	select {
	case <-words:
	case <-time.After(20 * time.Second):
		t.Fatal("the job of a replica that died was not run again")
	}
}

// A flow is jobs that follow one another closely: each must be told of.
func TestJobsThatFollowEachOtherDoNotWaitToBeFound(t *testing.T) {
	t.Parallel()
	d := testkit.NewDB(t, db.Postgres)
	inserter := newInserter(t, d)
	words := make(chan string, 1)
	startRunner(t, d, func(_ context.Context, word string) error { words <- word; return nil })
	const jobs = 20
	began := time.Now()
	for range jobs {
		enqueue(t, d, inserter, "next")
		<-words
	}
	if took := time.Since(began); took > jobs*time.Second/4 {
		t.Errorf("%d jobs one after the other took %s", jobs, took)
	}
}
