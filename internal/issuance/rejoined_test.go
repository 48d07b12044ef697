package issuance

import (
	"context"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/testkit"
)

// loses lets an agent come in again without its keys, and works the job of it.
func (w *world) loses(agentID string) (at time.Time) {
	w.t.Helper()
	w.clock.Advance(time.Second)
	at = w.clock.Now()
	w.tx(func(ctx context.Context, tx *db.Tx) error { return w.ReturnAgent(ctx, tx, agentID) })
	if n := count(w, `SELECT COUNT(*) FROM river_job WHERE kind = 'issuance_rejoined' AND args ->> 'agent_id' = $1`, agentID); n == 0 {
		w.t.Fatal("there is no job")
	}
	w.replaces(agentID, at)
	return at
}

func (w *world) replaces(agentID string, at time.Time) {
	w.t.Helper()
	if err := w.rejoined(w.t.Context(), agentID, at); err != nil {
		w.t.Fatal(err)
	}
}

// finishes brings an order that waits for a request to its end.
func (w *world) finishes(orderID string) {
	w.t.Helper()
	w.submits(orderID)
	if err := w.signs(orderID); err != nil {
		w.t.Fatal(err)
	}
	w.deploys(orderID, "done", "")
	w.is(orderID, Done)
}

func TestAnAgentThatLostItsKeysGetsNewVersions(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.target("mx", w.mail, w.cert)
		first, others := w.issues(w.web), w.issues(w.mail)
		before := w.active(w.web)
		at := w.loses(w.web)
		next := w.latestOf(w.web)
		if next.ID == first.ID || next.State != Pending || next.Reason != inventory.KeyLost {
			t.Fatalf("the order after it is %+v", next)
		}
		if w.active(w.web).ID != before.ID || w.latestOf(w.mail).ID != others.ID {
			t.Error("what is served, and what another agent has, does not stay")
		}
		w.replaces(w.web, at) // the job ran twice
		w.finishes(next.ID)
		w.replaces(w.web, at)
		if last := w.latestOf(w.web); last.ID != next.ID || w.active(w.web).OrderID != next.ID {
			t.Errorf("in the end order %s is the last, and %s made the active version", last.ID, w.active(w.web).OrderID)
		}
	})
}

func TestAnOrderThatNeedsALostKeyBeginsAnew(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		reach func(w *world) (orderID string)
		goes  State // which the order has in the end
		anew  bool
	}{
		"pending": {func(w *world) string { return w.begins(w.web, inventory.Requested) }, Pending, false},
		"signing": {func(w *world) string {
			orderID := w.begins(w.web, inventory.Requested)
			w.submits(orderID)
			return orderID
		}, Cancelled, true},
		"issued": {func(w *world) string {
			orderID := w.begins(w.web, inventory.Requested)
			w.submits(orderID)
			if err := w.signs(orderID); err != nil {
				w.t.Fatal(err)
			}
			return orderID
		}, Cancelled, true},
		"failed": {func(w *world) string {
			orderID := w.begins(w.web, inventory.Requested)
			if err := w.CSRFailed(w.t.Context(), w.web, orderID, agentapi.TaskFailure{Reason: "no"}); err != nil {
				w.t.Fatal(err)
			}
			return orderID
		}, Failed, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
				w := newWorld(t, d)
				orderID := test.reach(w)
				w.loses(w.web)
				w.is(orderID, test.goes)
				last := w.latestOf(w.web)
				if anew := last.ID != orderID; anew != test.anew || last.State != Pending {
					t.Fatalf("a new order: %v, in the state %s", anew, last.State)
				}
				w.finishes(last.ID)
				if err := w.signs(orderID); err != nil { // its job comes late
					t.Errorf("sign the order from before: %v", err)
				}
				if w.active(w.web).OrderID != last.ID {
					t.Error("the active version is another order's")
				}
			})
		})
	}
}

func TestNothingIsIssuedAnewForWhomItIsNotKept(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		first := w.issues(w.web)
		w.loses(w.mail) // which has no target
		w.exec("UPDATE certificate SET archived_at = $1 WHERE id = $2", start, w.cert)
		w.loses(w.web)
		w.exec("UPDATE certificate SET archived_at = NULL WHERE id = $1", w.cert)
		w.exec("UPDATE agent SET revoked_at = $1 WHERE id = $2", start, w.web)
		w.loses(w.web)
		if last := w.latestOf(w.web); last.ID != first.ID {
			t.Errorf("order %s was started: %s", last.ID, last.Reason)
		}
	})
}
