package queue_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/queue"
	"github.com/certctl-io/certctl/internal/testkit"
)

type args struct {
	Word string `json:"word"`
}

func (args) Kind() string { return "test" }

// startRunner works jobs of the kind test until the test ends.
func startRunner(t *testing.T, d *db.DB, work func(ctx context.Context, word string) error) *queue.Runner {
	t.Helper()
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, job *river.Job[args]) error { return work(ctx, job.Args.Word) }))
	runner, err := queue.NewRunner(d, queue.Config{Replica: "test", Workers: 4, Registry: workers, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := runner.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := runner.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return runner
}

func newInserter(t *testing.T, d *db.DB) *queue.Inserter {
	t.Helper()
	inserter, err := queue.NewInserter(d)
	if err != nil {
		t.Fatal(err)
	}
	return inserter
}

func enqueue(t *testing.T, d *db.DB, i *queue.Inserter, word string) {
	t.Helper()
	if err := d.InTx(t.Context(), func(tx *db.Tx) error { return i.Enqueue(t.Context(), tx, args{word}) }); err != nil {
		t.Fatal(err)
	}
}

// only reads the one job of the tests that there is.
func only(t *testing.T, i *queue.Inserter) *rivertype.JobRow {
	t.Helper()
	found, _, err := i.List(t.Context(), queue.Filter{Kind: "test"}, 10, "")
	if err != nil || len(found) != 1 {
		t.Fatalf("%d jobs, %v", len(found), err)
	}
	return found[0]
}

func TestAJobExistsOnlyWithItsTransaction(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		inserter := newInserter(t, d)
		refused := errors.New("refused")
		err := d.InTx(t.Context(), func(tx *db.Tx) error {
			if err := inserter.Enqueue(t.Context(), tx, args{"never"}); err != nil {
				return err
			}
			return refused
		})
		if !errors.Is(err, refused) {
			t.Fatal(err)
		}
		words := make(chan string, 10)
		startRunner(t, d, func(_ context.Context, word string) error { words <- word; return nil })
		enqueue(t, d, inserter, "committed")
		if word := <-words; word != "committed" {
			t.Fatalf("worked %q", word)
		}
		testkit.Eventually(t, "the job is completed", func() bool { return only(t, inserter).State == rivertype.JobStateCompleted })
	})
}

func TestTheErrorOfAJobDecidesWhatHappensNext(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		want rivertype.JobState
	}{
		"final":     {problem.Invalid("names", "are wrong"), rivertype.JobStateCancelled},
		"temporary": {problem.Temporary(errors.New("away"), time.Hour), rivertype.JobStateScheduled},
		"unknown":   {errors.New("a defect"), rivertype.JobStateRetryable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
				inserter := newInserter(t, d)
				startRunner(t, d, func(context.Context, string) error { return test.err })
				enqueue(t, d, inserter, "x")
				testkit.Eventually(t, "the job is "+string(test.want), func() bool { return only(t, inserter).State == test.want })
			})
		})
	}
}

func TestAReplicaThatComesBackWorksWhatItWasKilledIn(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		inserter := newInserter(t, d)
		enqueue(t, d, inserter, "lost")
		lost := `UPDATE river_job SET state = 'running', attempt = 1, attempted_by = `
		if d.Engine() == db.Postgres {
			lost += `ARRAY['test']`
		} else {
			lost += `'["test"]'`
		}
		err := d.InTx(t.Context(), func(tx *db.Tx) error { _, err := db.Exec(t.Context(), tx, lost); return err })
		if err != nil {
			t.Fatal(err)
		}
		words := make(chan string, 1)
		startRunner(t, d, func(_ context.Context, word string) error { words <- word; return nil })
		select {
		case <-words:
		case <-time.After(20 * time.Second):
			t.Fatal("the job was not worked again")
		}
	})
}

func TestStopHandsBackWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		inserter := newInserter(t, d)
		began := make(chan struct{})
		runner := startRunner(t, d, func(ctx context.Context, _ string) error {
			close(began)
			<-ctx.Done()
			return ctx.Err()
		})
		enqueue(t, d, inserter, "long")
		<-began
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := runner.Stop(ctx); err != nil {
			t.Fatal(err)
		}
		if job := only(t, inserter); job.State != rivertype.JobStateAvailable {
			t.Fatalf("the job is %s", job.State)
		}
	})
}

func TestAPersonCanRetryAndCancelJobs(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		inserter := newInserter(t, d)
		var fixed atomic.Bool
		startRunner(t, d, func(context.Context, string) error {
			if fixed.Load() {
				return nil
			}
			return problem.Conflict("not yet")
		})
		enqueue(t, d, inserter, "x")
		testkit.Eventually(t, "the job is cancelled", func() bool { return only(t, inserter).State == rivertype.JobStateCancelled })
		jobID := only(t, inserter).ID

		change := func(do func(context.Context, *db.Tx, int64) (*rivertype.JobRow, error), jobID int64) error {
			return d.InTx(t.Context(), func(tx *db.Tx) error { _, err := do(t.Context(), tx, jobID); return err })
		}
		if err := change(inserter.Cancel, jobID); problem.KindOf(err) != problem.KindConflict {
			t.Errorf("cancel a job that is over: %v", err)
		}
		fixed.Store(true)
		if err := change(inserter.Retry, jobID); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "the job is completed", func() bool { return only(t, inserter).State == rivertype.JobStateCompleted })
		if err := change(inserter.Retry, jobID+1_000_000); problem.KindOf(err) != problem.KindNotFound {
			t.Errorf("retry a job that does not exist: %v", err)
		}
	})
}

func TestJobsAreListedPageByPage(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		inserter := newInserter(t, d)
		for range 5 {
			enqueue(t, d, inserter, "x")
		}
		seen, cursor := map[int64]bool{}, ""
		for range 5 {
			page, next, err := inserter.List(t.Context(), queue.Filter{Kind: "test", States: []string{"available", "running"}}, 2, cursor)
			if err != nil {
				t.Fatal(err)
			}
			for _, job := range page {
				seen[job.ID] = true
			}
			if cursor = next; next == "" {
				break
			}
		}
		if len(seen) != 5 {
			t.Errorf("saw %d of 5 jobs", len(seen))
		}
		for _, f := range []struct {
			filter queue.Filter
			cursor string
		}{{queue.Filter{States: []string{"asleep"}}, ""}, {queue.Filter{}, "nonsense"}} {
			if _, _, err := inserter.List(t.Context(), f.filter, 2, f.cursor); problem.KindOf(err) != problem.KindInvalid {
				t.Errorf("%+v: %v", f, err)
			}
		}
		counts, err := queue.Counts(t.Context(), d.Read())
		if err != nil || counts["available"] != 5 {
			t.Errorf("counts %v, %v", counts, err)
		}
	})
}
