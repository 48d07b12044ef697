package issuance

import (
	"strings"
	"testing"

	"github.com/certctl-io/certctl/internal/audit"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/testkit"
)

func TestCancelEndsAnOrderInEachOpenState(t *testing.T) {
	t.Parallel()
	reach := map[State]func(w *world, orderID string){
		Pending: func(*world, string) {},
		Signing: func(w *world, orderID string) { w.submits(orderID) },
		Issued: func(w *world, orderID string) {
			w.submits(orderID)
			if err := w.signs(orderID); err != nil {
				w.t.Fatal(err)
			}
		},
	}
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		ctx := audit.WithActor(t.Context(), audit.Actor{Kind: "user", ID: "key_1", Name: "alice"})
		for state, arrive := range reach {
			orderID := w.begins(w.web, inventory.Forced)
			arrive(w, orderID)
			w.is(orderID, state)
			for range 2 {
				o, err := w.Cancel(ctx, orderID)
				if err != nil || o.State != Cancelled || !strings.Contains(o.StateReason, "alice") {
					t.Fatalf("cancel when %s: %+v, %v", state, o, err)
				}
			}
			if err := w.signs(orderID); err != nil {
				t.Errorf("sign job after cancel: %v", err)
			}
			if err := w.settled(t.Context(), orderID); err != nil {
				t.Errorf("settled job after cancel: %v", err)
			}
			w.is(orderID, Cancelled)
			if _, err := w.Retry(ctx, orderID); problem.KindOf(err) != problem.KindConflict {
				t.Errorf("retry of a cancelled order: %v, want a conflict", err)
			}
		}
		if n := count(w, "SELECT COUNT(*) FROM task") + count(w, "SELECT COUNT(*) FROM deployment WHERE state = 'pending'"); n != 0 {
			t.Errorf("%d tasks and deployments are left", n)
		}
		if n := count(w, "SELECT COUNT(*) FROM audit_event WHERE action = 'order.cancel' AND actor_name = 'alice'"); n != 3 {
			t.Errorf("%d audit events, want one for each order", n)
		}
		done := w.issues(w.web)
		if _, err := w.Cancel(ctx, done.ID); problem.KindOf(err) != problem.KindConflict {
			t.Errorf("cancel of an order that is done: %v, want a conflict", err)
		}
	})
}

func TestRetryGoesOnWhereTheOrderFailed(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		orderID := w.begins(w.web, inventory.Requested)
		retry := func(want State) {
			t.Helper()
			for range 2 { // the second is harmless
				if o, err := w.Retry(t.Context(), orderID); err != nil || o.State != want || o.FinishedAt != nil {
					t.Fatalf("retry: the order is %s, %v; want %s", o.State, err, want)
				}
			}
		}
		if err := w.SubmitCSR(t.Context(), w.web, orderID, []byte("nonsense")); err == nil {
			t.Fatal("nonsense was taken")
		}
		retry(Pending)
		if n := count(w, "SELECT COUNT(*) FROM task WHERE subject_id = $1", orderID); n != 1 {
			t.Errorf("%d tasks, want 1", n)
		}
		w.submits(orderID)
		w.ca.answers(always(problem.Forbidden("account closed")))
		if err := w.signs(orderID); err != nil {
			t.Fatal(err)
		}
		w.is(orderID, Failed)
		retry(Signing)
		if n := w.jobs(orderID); n != 2 {
			t.Errorf("%d sign jobs, want 2", n)
		}
		w.ca.answers(nil)
		if err := w.signs(orderID); err != nil {
			t.Fatal(err)
		}
		w.deploys(orderID, "failed", "nginx -t failed")
		if o := w.is(orderID, Failed); o.StateReason != "nginx -t failed" {
			t.Errorf("the reason is %q", o.StateReason)
		}
		retry(Issued)
		w.deploys(orderID, "done", "")
		w.is(orderID, Done)
		if n := count(w, "SELECT COUNT(*) FROM version"); n != 1 {
			t.Errorf("%d versions, want 1", n)
		}
		w.tells(orderID, "order.pending", "order.failed", "order.pending", "order.signing", "order.failed",
			"order.signing", "order.issued", "order.failed", "order.issued", "order.done")
	})
}

func TestRetryAsksForWhatTheCertificateSaysNow(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		orderID := w.signing()
		w.ca.answers(always(problem.Invalid("lifetime", "too long")))
		if err := w.signs(orderID); err != nil {
			t.Fatal(err)
		}
		w.exec("UPDATE certificate SET lifetime_seconds = 86400 WHERE id = $1", w.cert)
		if o, err := w.Retry(t.Context(), orderID); err != nil || o.State != Signing || o.Spec.LifetimeSeconds != 86400 {
			t.Fatalf("retry: %+v, %v", o, err)
		}
		if err := w.signs(orderID); err != nil {
			t.Fatal(err)
		}
		w.exec(`UPDATE certificate SET names = '{"dns":["new.example.com"]}' WHERE id = $1`, w.cert)
		w.ca.answers(nil)
		if o, err := w.Retry(t.Context(), orderID); err != nil || o.State != Pending || o.CSR != nil {
			t.Fatalf("retry with other names: %+v, %v; want a new request", o, err)
		}
		w.submits(orderID)
		if err := w.signs(orderID); err != nil {
			t.Fatal(err)
		}
		w.deploys(orderID, "failed", "no")
		w.exec(`UPDATE certificate SET names = '{"dns":["newer.example.com"]}' WHERE id = $1`, w.cert)
		if _, err := w.Retry(t.Context(), orderID); problem.KindOf(err) != problem.KindConflict {
			t.Errorf("retry of an order with another version: %v, want a conflict", err)
		}
	})
}

func TestOnlyTheLastOrderOfAHolderCanBeRetried(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		orderID := w.begins(w.web, inventory.Requested)
		if err := w.SubmitCSR(t.Context(), w.web, orderID, []byte("nonsense")); err == nil {
			t.Fatal("nonsense was taken")
		}
		w.issues(w.web)
		if _, err := w.Retry(t.Context(), orderID); problem.KindOf(err) != problem.KindConflict {
			t.Errorf("retry of an order before the last: %v, want a conflict", err)
		}
		if _, err := w.Retry(t.Context(), "ord_none"); problem.KindOf(err) != problem.KindNotFound {
			t.Errorf("retry of no order: %v, want not found", err)
		}
	})
}

func TestProfileThatBecameStricterFailsTheOrderVisibly(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.exec(`UPDATE certificate SET lifetime_seconds = 86400000 WHERE id = $1`, w.cert) // over the profile's most
		orderID := w.begins(w.web, inventory.TargetAdded)
		if o := w.is(orderID, Failed); !strings.Contains(o.StateReason, "longer than profile") {
			t.Errorf("the reason is %q", o.StateReason)
		}
		if n := count(w, "SELECT COUNT(*) FROM task"); n != 0 {
			t.Errorf("the agent is asked all the same: %d tasks", n)
		}
		err := w.db.InTx(t.Context(), func(tx *db.Tx) error {
			_, err := w.Start(t.Context(), tx, w.cert, w.web, inventory.Forced)
			return err
		})
		if found, ok := problem.As(err); !ok || found.Field != "lifetime" {
			t.Errorf("a forced order: %v, want the profile's refusal", err)
		}
		if _, err := w.Retry(t.Context(), orderID); problem.KindOf(err) != problem.KindInvalid {
			t.Errorf("retry: %v, want the profile's refusal", err)
		}
	})
}

func TestOrderOfARevokedVersionIsReplaced(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		first := w.signing()
		if err := w.signs(first); err != nil {
			t.Fatal(err)
		}
		w.exec("UPDATE version SET revoked_at = $1, revocation_reason = 1", start)
		second := w.begins(w.web, inventory.Rekey)
		w.is(first, Cancelled)
		w.is(second, Pending)
	})
}

func TestVersionRevokedBeforeItIsServedDoesNotBecomeActive(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		orderID := w.signing()
		if err := w.signs(orderID); err != nil {
			t.Fatal(err)
		}
		w.exec("UPDATE version SET revoked_at = $1, revocation_reason = 1", start)
		w.deploys(orderID, "done", "")
		w.is(orderID, Failed)
	})
}

func TestDeploymentsRetriedByThemselvesFinishAFailedOrder(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		orderID := w.signing()
		if err := w.signs(orderID); err != nil {
			t.Fatal(err)
		}
		w.deploys(orderID, "failed", "reload failed")
		w.is(orderID, Failed)
		if err := w.settled(t.Context(), orderID); err != nil { // said again, nothing new
			t.Fatal(err)
		}
		w.is(orderID, Failed)
		w.exec("UPDATE deployment SET state = 'pending'")
		w.deploys(orderID, "done", "")
		w.is(orderID, Done)
		if w.active(w.web).OrderID != orderID {
			t.Error("the version is not the active one")
		}
	})
}

func TestSettledOrderWaitsForAllItsDeployments(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		second := w.target("www-2", w.web, w.cert)
		orderID := w.signing()
		if err := w.signs(orderID); err != nil {
			t.Fatal(err)
		}
		w.exec("UPDATE deployment SET state = 'done' WHERE target_id <> $1", second)
		if err := w.settled(t.Context(), orderID); err != nil {
			t.Fatal(err)
		}
		w.is(orderID, Issued)
		w.deploys(orderID, "done", "")
		w.is(orderID, Done)
	})
}

func TestListFiltersAndPages(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.target("mx", w.mail, w.cert)
		w.issues(w.web)
		w.issues(w.mail)
		open := w.begins(w.web, inventory.Forced)
		for _, test := range []struct {
			certificate, agent string
			state              State
			want               int
		}{
			{"", "", "", 3},
			{"www.example.com", "", "", 3},
			{w.cert, "web", "", 2},
			{"", w.mail, Done, 1},
			{"", "", Pending, 1},
		} {
			orders, _, err := w.List(t.Context(), test.certificate, test.agent, test.state, db.Page{Sort: "-created_at"})
			if err != nil || len(orders) != test.want {
				t.Errorf("%+v: %d orders, %v", test, len(orders), err)
			}
		}
		page, next, err := w.List(t.Context(), "", "", "", db.Page{Limit: 2})
		if err != nil || len(page) != 2 || page[0].ID != open || page[0].Agent != "web" || page[0].Certificate != "www.example.com" || next == "" {
			t.Fatalf("first page: %+v, %q, %v", page, next, err)
		}
		page, next, err = w.List(t.Context(), "", "", "", db.Page{Limit: 2, Cursor: next})
		if err != nil || len(page) != 1 || next != "" {
			t.Errorf("second page: %+v, %q, %v", page, next, err)
		}
		if _, _, err := w.List(t.Context(), "none", "", "", db.Page{}); problem.KindOf(err) != problem.KindNotFound {
			t.Errorf("orders of no certificate: %v, want not found", err)
		}
	})
}
