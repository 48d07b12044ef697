package issuance

import (
	"context"
	"crypto"
	"strings"
	"testing"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/testkit"
)

func TestCertificateRequestSentAgainChangesNothing(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		orderID := w.begins(w.web, inventory.Requested)
		csr := w.csr(orderID)
		for range 3 {
			if err := w.SubmitCSR(t.Context(), w.web, orderID, csr); err != nil {
				t.Fatal(err)
			}
		}
		if n := w.jobs(orderID); n != 1 {
			t.Errorf("%d jobs sign the order, want 1", n)
		}
		if err := w.signs(orderID); err != nil {
			t.Fatal(err)
		}
		w.deploys(orderID, "done", "")
		if err := w.SubmitCSR(t.Context(), w.web, orderID, w.csr(orderID)); err != nil {
			t.Errorf("a request for an order that is done: %v", err)
		}
		if err := w.CSRFailed(t.Context(), w.web, orderID, agentapi.TaskFailure{Reason: "late"}); err != nil {
			t.Errorf("a failure of an order that is done: %v", err)
		}
		w.is(orderID, Done)
	})
}

func TestOrderOfAnotherAgentDoesNotExist(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		orderID := w.begins(w.web, inventory.Requested)
		for name, err := range map[string]error{
			"request":                     w.SubmitCSR(t.Context(), w.mail, orderID, w.csr(orderID)),
			"failure":                     w.CSRFailed(t.Context(), w.mail, orderID, agentapi.TaskFailure{Reason: "no"}),
			"request for no order at all": w.SubmitCSR(t.Context(), w.mail, "ord_none", w.csr(orderID)),
		} {
			if problem.KindOf(err) != problem.KindNotFound {
				t.Errorf("%s: %v, want not found", name, err)
			}
		}
		if _, ok, err := w.BuildCSR(t.Context(), w.mail, orderID); ok || err != nil {
			t.Errorf("another agent gets the task: %v, %v", ok, err)
		}
		w.is(orderID, Pending)
		w.submits(orderID)
		if err := w.signs(orderID); err != nil {
			t.Fatal(err)
		}
		if err := w.SubmitCSR(t.Context(), w.mail, orderID, w.csr(orderID)); problem.KindOf(err) != problem.KindNotFound {
			t.Errorf("request for an order that was issued: %v, want not found", err)
		}
	})
}

func TestCertificateRequestForSomethingElseFailsTheOrder(t *testing.T) {
	t.Parallel()
	request := func(names pki.Names, cn string, kt pki.KeyType) func(w *world) []byte {
		return func(w *world) []byte {
			der, err := pki.CreateCSR(key(w.t, kt), cn, names)
			if err != nil {
				w.t.Fatal(err)
			}
			return pki.EncodeCSR(der)
		}
	}
	right := pki.Names{DNS: []string{"www.example.com"}}
	tests := map[string]func(w *world) []byte{
		"other name":        request(pki.Names{DNS: []string{"bank.example.com"}}, "", pki.ECDSAP256),
		"one name too many": request(pki.Names{DNS: []string{"bank.example.com", "www.example.com"}}, "", pki.ECDSAP256),
		"common name":       request(right, "www.example.com", pki.ECDSAP256),
		"other key type":    request(right, "", pki.Ed25519),
		"no request":        func(*world) []byte { return []byte("hello") },
	}
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		for name, csr := range tests {
			orderID := w.begins(w.web, inventory.Requested)
			err := w.SubmitCSR(t.Context(), w.web, orderID, csr(w))
			if problem.KindOf(err) != problem.KindInvalid {
				t.Errorf("%s: %v, want invalid", name, err)
			}
			if o := w.is(orderID, Failed); o.StateReason == "" || len(o.CSR) > 0 || w.jobs(orderID) > 0 {
				t.Errorf("%s: the order keeps something of the request: %+v", name, o)
			}
		}
		if n := count(w, "SELECT COUNT(*) FROM task"); n != 0 {
			t.Errorf("%d tasks are left", n)
		}
	})
}

func TestKeyOfAnotherVersionIsRefused(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		shared := key(t, pki.ECDSAP256)
		first := w.begins(w.web, inventory.Requested)
		submit(w, first, shared)
		w.target("mx", w.mail, w.cert)
		other := w.begins(w.mail, inventory.TargetAdded)
		submit(w, other, shared) // nothing has been issued for it yet
		if err := w.signs(first); err != nil {
			t.Fatal(err)
		}
		if err := w.signs(other); err != nil {
			t.Fatal(err)
		}
		if o := w.is(other, Failed); !strings.Contains(o.StateReason, "another version") {
			t.Errorf("the order failed for %q", o.StateReason)
		}
		w.deploys(first, "done", "")
		renewal := w.begins(w.web, inventory.Forced)
		if err := w.SubmitCSR(t.Context(), w.web, renewal, w.csrWith(renewal, shared)); problem.KindOf(err) != problem.KindInvalid {
			t.Errorf("the key of the version before: %v, want invalid", err)
		}
		w.is(renewal, Failed)
	})
}

func submit(w *world, orderID string, key crypto.Signer) {
	w.t.Helper()
	if err := w.SubmitCSR(w.t.Context(), w.order(orderID).AgentID, orderID, w.csrWith(orderID, key)); err != nil {
		w.t.Fatal(err)
	}
}

func TestAgentThatCannotMakeARequestIsAskedAgainLater(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		orderID := w.begins(w.web, inventory.Requested)
		failure := agentapi.TaskFailure{Reason: "disk full", Retryable: true}
		if err := w.CSRFailed(t.Context(), w.web, orderID, failure); err != nil {
			t.Fatal(err)
		}
		o := w.is(orderID, Pending)
		if o.Attempts != 1 || o.NextTryAt == nil || !o.NextTryAt.Equal(start.Add(firstCSRWait)) || !strings.Contains(o.StateReason, "disk full") {
			t.Errorf("after one failure the order is %+v", o)
		}
		if n := count(w, "SELECT COUNT(*) FROM task WHERE subject_id = $1 AND not_before = $2", orderID, *o.NextTryAt); n != 1 {
			t.Errorf("%d tasks wait for the next try, want 1", n)
		}
		for range csrAttempts - 1 {
			if err := w.CSRFailed(t.Context(), w.web, orderID, failure); err != nil {
				t.Fatal(err)
			}
		}
		w.is(orderID, Failed)
		if n := count(w, "SELECT COUNT(*) FROM task"); n != 0 {
			t.Errorf("%d tasks are left", n)
		}
	})
}

func TestAgentThatCannotEverMakeARequestFailsTheOrder(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		orderID := w.begins(w.web, inventory.Requested)
		if err := w.CSRFailed(t.Context(), w.web, orderID, agentapi.TaskFailure{Reason: "key type unknown"}); err != nil {
			t.Fatal(err)
		}
		w.is(orderID, Failed)
		w.tells(orderID, "order.pending", "order.failed")
	})
}

func TestRevokedAgentLeavesNoOpenOrder(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.target("mx", w.mail, w.cert)
		done := w.issues(w.mail)
		mine, theirs := w.begins(w.web, inventory.Requested), w.begins(w.mail, inventory.Forced)
		w.exec("UPDATE agent SET revoked_at = $1 WHERE id = $2", start, w.web)
		w.tx(func(ctx context.Context, tx *db.Tx) error { return w.LeaveAgent(ctx, tx, w.web) })
		w.is(mine, Cancelled)
		w.is(theirs, Pending)
		w.is(done.ID, Done)
		err := w.db.InTx(t.Context(), func(tx *db.Tx) error {
			_, err := w.Start(t.Context(), tx, w.cert, w.web, inventory.Forced)
			return err
		})
		if problem.KindOf(err) != problem.KindConflict {
			t.Errorf("an order for a revoked agent: %v, want a conflict", err)
		}
		w.reconciles(inventory.TargetAdded)
		w.is(mine, Cancelled)
		if last := w.latestOf(w.web); last.ID != mine {
			t.Errorf("order %s was started for a revoked agent", last.ID)
		}
	})
}
