package issuance

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/testkit"
)

func (w *world) plans() {
	w.t.Helper()
	if err := w.plan(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) orders() int {
	w.t.Helper()
	return count(w, "SELECT COUNT(*) FROM cert_order")
}

func TestVersionIsRenewedWhenItFallsDue(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		first := w.issues(w.web)
		v := w.active(w.web)
		w.clock.Advance(v.RenewAt.Sub(start) - time.Second)
		w.plans()
		if n := w.orders(); n != 1 {
			t.Fatalf("%d orders before it is due, want 1", n)
		}
		w.clock.Advance(time.Second)
		for range 3 {
			w.plans()
		}
		renewal := w.latestOf(w.web)
		if n := w.orders(); n != 2 || renewal.Reason != inventory.Renew || renewal.State != Pending {
			t.Fatalf("%d orders, the last is %+v; want one renewal", n, renewal)
		}
		if due := w.active(w.web).DueAt; due != nil {
			t.Errorf("the version is due at %s while its renewal is under way", due)
		}
		w.submits(renewal.ID)
		if err := w.signs(renewal.ID); err != nil {
			t.Fatal(err)
		}
		w.deploys(renewal.ID, "done", "")
		now := w.active(w.web)
		if now.OrderID != renewal.ID || now.DueAt == nil || !now.DueAt.After(w.clock.Now()) {
			t.Errorf("the active version is %+v", now)
		}
		old, err := w.certificates.Version(t.Context(), d.Read(), first.VersionID)
		if err != nil || old.SupersededAt == nil || old.DueAt != nil {
			t.Errorf("the version before is %+v, %v", old, err)
		}
	})
}

func TestWhatIsNotKeptUpIsNotRenewed(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.issues(w.web)
		for name, test := range map[string]struct{ leave, comeBack string }{
			"archived":      {"UPDATE certificate SET archived_at = $1", "UPDATE certificate SET archived_at = NULL, updated_at = $1"},
			"not auto":      {`UPDATE certificate SET renewal = '{"auto":false}', updated_at = $1`, `UPDATE certificate SET renewal = '{"auto":true}', updated_at = $1`},
			"agent revoked": {"UPDATE agent SET revoked_at = $1", "UPDATE agent SET revoked_at = NULL, updated_at = $1"},
			"no target":     {"UPDATE target SET agent_id = (SELECT id FROM agent WHERE name = 'mail'), updated_at = $1", "UPDATE target SET agent_id = (SELECT id FROM agent WHERE name = 'web'), updated_at = $1"},
		} {
			w.exec("UPDATE version SET due_at = $1", start)
			w.exec(test.leave, start)
			w.plans()
			if due := w.active(w.web).DueAt; w.orders() != 1 || due != nil {
				t.Errorf("%s: there are %d orders, and the version is due at %v", name, w.orders(), due)
			}
			w.exec(test.comeBack, start)
		}
	})
}

func TestFailedRenewalIsRetriedWithLongerAndLongerPauses(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.issues(w.web)
		w.clock.Advance(w.active(w.web).RenewAt.Sub(start))
		w.plans()
		renewal := w.latestOf(w.web).ID
		w.submits(renewal)
		w.ca.answers(always(problem.Forbidden("account closed")))
		for _, pause := range []time.Duration{15 * time.Minute, 30 * time.Minute, time.Hour} {
			if err := w.signs(renewal); err != nil {
				t.Fatal(err)
			}
			w.is(renewal, Failed)
			due := w.active(w.web).DueAt
			if due == nil || due.Sub(w.clock.Now()) != pause {
				t.Fatalf("the next try is at %v, want in %s", due, pause)
			}
			w.clock.Advance(pause - time.Second)
			w.reconciles(inventory.TargetAdded) // nothing of the certificate changed, so neither does the pause
			w.plans()
			w.is(renewal, Failed)
			w.clock.Advance(time.Second)
			w.plans()
			w.is(renewal, Signing)
		}
		w.ca.answers(nil)
		if err := w.signs(renewal); err != nil {
			t.Fatal(err)
		}
		w.deploys(renewal, "failed", "nginx -t failed")
		w.clock.Advance(w.active(w.web).DueAt.Sub(w.clock.Now()))
		w.plans()
		w.is(renewal, Issued)
		w.deploys(renewal, "done", "")
		w.is(renewal, Done)
		if n := w.orders(); n != 2 {
			t.Errorf("%d orders, want the first and one renewal", n)
		}
	})
}

func TestRenewalThatTheProfileRefusesFailsAndWaits(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.issues(w.web)
		w.exec("UPDATE certificate SET lifetime_seconds = 86400000")
		for range 3 {
			w.clock.Advance(w.active(w.web).DueAt.Sub(w.clock.Now()))
			w.plans()
			if o := w.latestOf(w.web); o.State != Failed || o.Reason != inventory.Renew {
				t.Fatalf("the order is %+v", o)
			}
		}
		if n := w.orders(); n != 2 {
			t.Errorf("%d orders, want the first and one renewal", n)
		}
	})
}

func TestFailedOrderThatCannotServeAnyMoreGivesWayToAnother(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.issues(w.web)
		w.clock.Advance(w.active(w.web).RenewAt.Sub(start))
		w.plans()
		failed := w.latestOf(w.web).ID
		w.submits(failed)
		if err := w.signs(failed); err != nil {
			t.Fatal(err)
		}
		w.deploys(failed, "failed", "no")
		w.exec("UPDATE certificate SET issuer_id = 'iss_2'")
		w.clock.Advance(w.active(w.web).DueAt.Sub(w.clock.Now()))
		w.plans()
		if next := w.latestOf(w.web); next.ID == failed || next.State != Pending || next.Spec.IssuerID != "iss_2" {
			t.Errorf("the order is %+v", next)
		}
	})
}

func TestCancelledRenewalIsNotStartedAgainAtOnce(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.issues(w.web)
		w.clock.Advance(w.active(w.web).RenewAt.Sub(start))
		w.plans()
		if _, err := w.Cancel(t.Context(), w.latestOf(w.web).ID); err != nil {
			t.Fatal(err)
		}
		w.plans()
		if n := w.orders(); n != 2 {
			t.Errorf("%d orders, want 2", n)
		}
		w.clock.Advance(lastRenewalWait)
		w.plans()
		if n := w.orders(); n != 3 {
			t.Errorf("%d orders after the pause, want 3", n)
		}
	})
}

func TestPlannersRenewEachVersionOnce(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		const versions = planBatch + 30
		w := newWorld(t, d)
		w.tx(w.manyDue(versions))
		var planners sync.WaitGroup
		for range 3 {
			planners.Go(func() {
				if err := w.plan(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		planners.Wait()
		w.plans() // what one planner held was left out by the others
		if n := count(w, "SELECT COUNT(*) FROM cert_order WHERE state = 'pending' AND reason = 'renewal'"); n != versions {
			t.Errorf("%d renewals for %d versions", n, versions)
		}
		if n := count(w, "SELECT COUNT(*) FROM version WHERE due_at IS NOT NULL"); n != 0 {
			t.Errorf("%d versions are still due", n)
		}
	})
}

func TestVersionThatCannotBePlannedDoesNotHoldUpTheOthers(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.tx(w.manyDue(10))
		w.exec(`UPDATE certificate SET renewal = '{"auto":true,"before":"x"}' WHERE name = 'c7'`)
		w.plans()
		if n := count(w, "SELECT COUNT(*) FROM cert_order WHERE state = 'pending'"); n != 9 {
			t.Errorf("%d renewals, want those of the other 9", n)
		}
		due, err := db.One[time.Time](t.Context(), d.Read(), "SELECT due_at FROM version WHERE due_at IS NOT NULL")
		if err != nil || !due.Equal(w.clock.Now().Add(planAgain)) {
			t.Errorf("the broken one is due at %s, %v", due, err)
		}
	})
}

// manyDue copies the certificate n times, each with a target of its own and an
// active version that is due.
func (w *world) manyDue(n int) func(ctx context.Context, tx *db.Tx) error {
	return func(ctx context.Context, tx *db.Tx) error {
		for i := range n {
			crt, ord, name := id.New("crt"), id.New("ord"), "c"+strconv.Itoa(i)
			for _, statement := range []struct {
				query string
				args  []any
			}{
				{`INSERT INTO certificate (id, name, revision, common_name, names, key_type, lifetime_seconds, profile_id, issuer_id, owner, tags, renewal, created_at, updated_at)
					SELECT $1, $2, 1, '', names, key_type, lifetime_seconds, profile_id, issuer_id, '', tags, renewal, created_at, updated_at FROM certificate WHERE id = $3`, []any{crt, name, w.cert}},
				{`INSERT INTO target (id, name, revision, agent_id, kind, settings, certificate_id, created_at, updated_at)
					VALUES ($1, $2, 1, $3, 'file', '{}', $4, $5, $5)`, []any{id.New("tgt"), name, w.web, crt, start}},
				{`INSERT INTO cert_order (id, certificate_id, agent_id, reason, state, state_reason, attempts, spec, created_at, updated_at)
					VALUES ($1, $2, $3, 'requested', 'done', '', 1, '{}', $4, $4)`, []any{ord, crt, w.web, start}},
				{
					`INSERT INTO version (id, certificate_id, order_id, agent_id, issuer_id, serial, fingerprint, subject, key_type, key_hash, chain, shard,
						not_before, not_after, renew_at, expiring_at, due_at, created_at, activated_at)
					VALUES ($1, $2, $3, $4, 'iss_1', $1, $1, '', 'ecdsa-p256', $1, $5, 0, $6, $7, $6, $7, $6, $6, $6)`,
					[]any{id.New("ver"), crt, ord, w.web, pki.Chain{w.ca.root.Raw}, start, start.AddDate(0, 0, 30)},
				},
			} {
				if _, err := db.Exec(ctx, tx, statement.query, statement.args...); err != nil {
					return err
				}
			}
		}
		return nil
	}
}
