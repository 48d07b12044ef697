package issuance

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/riverqueue/river"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/deployment"
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/queue"
	"github.com/certctl-io/certctl/internal/testkit"
)

// works runs the jobs of the service until the test ends.
func (w *world) works() {
	w.t.Helper()
	workers := river.NewWorkers()
	w.Register(workers)
	runner, err := queue.NewRunner(w.db, queue.Config{
		Replica: "r1", Workers: 4, Registry: workers, Periodic: w.Periodic(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := runner.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := runner.Stop(ctx); err != nil {
			w.t.Error(err)
		}
	})
}

func (w *world) becomes(orderID string, want State) {
	w.t.Helper()
	testkit.Eventually(w.t, "order is "+string(want), func() bool { return w.order(orderID).State == want })
}

func TestJobsBringAnOrderToItsEndAndRenewIt(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		inserter, err := queue.NewInserter(d)
		if err != nil {
			t.Fatal(err)
		}
		failed := make(chan struct{})
		w.ca.answers(func(context.Context, pki.Request) (*pki.Issued, error) {
			w.ca.answers(nil)
			close(failed)
			return nil, problem.Temporary(errors.New("busy"), 10*time.Millisecond)
		})
		w.works()
		w.tx(func(ctx context.Context, tx *db.Tx) error {
			return inserter.Enqueue(ctx, tx, deployment.Assigned{CertificateID: w.cert})
		})
		var orderID string
		testkit.Eventually(t, "an order is started", func() bool {
			o, found, err := w.store.latest(t.Context(), d.Read(), w.cert, w.web)
			orderID = o.ID
			return err == nil && found
		})
		w.submits(orderID)
		<-failed
		// The first answer postponed it by some seconds; the job is run by hand
		// now, and the one that is snoozed finds nothing to do.
		testkit.Eventually(t, "the attempt is taken down", func() bool { return w.order(orderID).NextTryAt != nil })
		if err := w.signs(orderID); err != nil {
			t.Fatal(err)
		}
		w.becomes(orderID, Issued)
		w.tx(func(ctx context.Context, tx *db.Tx) error {
			if _, err := db.Exec(ctx, tx, "UPDATE deployment SET state = 'done'"); err != nil {
				return err
			}
			return inserter.Enqueue(ctx, tx, deployment.Settled{OrderID: orderID})
		})
		w.becomes(orderID, Done)
		w.clock.Advance(w.active(w.web).RenewAt.Sub(start))
		testkit.Eventually(t, "the renewal is started", func() bool { return w.latestOf(w.web).Reason == inventory.Renew })
		renewal := w.latestOf(w.web).ID
		w.submits(renewal)
		w.becomes(renewal, Issued)
	})
}
