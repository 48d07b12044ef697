package issuance

import (
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/testkit"
)

func TestReconcileChangesNothingWhenNothingIsAmiss(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.reconciles(inventory.Requested)
		first := w.latestOf(w.web)
		if first.State != Pending || first.Reason != inventory.Requested {
			t.Fatalf("the first order is %+v", first)
		}
		for _, step := range []func(){
			func() {},
			func() { w.submits(first.ID) },
			func() {
				if err := w.signs(first.ID); err != nil {
					t.Fatal(err)
				}
			},
			func() { w.deploys(first.ID, "done", "") },
		} {
			step()
			before, lines := w.order(first.ID), len(w.kinds(first.ID))
			w.reconciles(inventory.TargetAdded)
			if after := w.order(first.ID); after.State != before.State || len(w.kinds(first.ID)) != lines || w.orders() != 1 {
				t.Errorf("when %s: the order became %s, and there are %d", before.State, after.State, w.orders())
			}
		}
		if n := count(w, "SELECT COUNT(*) FROM deployment"); n != 1 {
			t.Errorf("%d deployments, want 1", n)
		}
	})
}

func TestNewKeyHolderGetsAnOrderOfItsOwn(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.issues(w.web)
		w.target("mx", w.mail, w.cert)
		if err := w.assigned(t.Context(), w.cert); err != nil {
			t.Fatal(err)
		}
		if o := w.latestOf(w.mail); o.State != Pending || o.Reason != inventory.TargetAdded {
			t.Errorf("the order is %+v", o)
		}
		if n := w.orders(); n != 2 {
			t.Errorf("%d orders, want 2", n)
		}
	})
}

func TestNewTargetOfAHolderGetsTheVersionInUse(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		done := w.issues(w.web)
		added := w.target("www-2", w.web, w.cert)
		if err := w.assigned(t.Context(), w.cert); err != nil {
			t.Fatal(err)
		}
		if n := count(w, "SELECT COUNT(*) FROM deployment WHERE target_id = $1 AND version_id = $2", added, done.VersionID); n != 1 || w.orders() != 1 {
			t.Errorf("%d deployments to the new target, %d orders; want 1 and 1", n, w.orders())
		}
	})
}

func TestNewTargetDuringAnOrderIsDeployedToToo(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		orderID := w.signing()
		if err := w.signs(orderID); err != nil {
			t.Fatal(err)
		}
		added := w.target("www-2", w.web, w.cert)
		w.reconciles(inventory.TargetAdded)
		w.is(orderID, Issued)
		if n := count(w, "SELECT COUNT(*) FROM deployment WHERE target_id = $1", added); n != 1 {
			t.Errorf("%d deployments to the new target, want 1", n)
		}
	})
}

func TestChangedCertificateReplacesOpenOrder(t *testing.T) {
	t.Parallel()
	changes := map[string]string{
		"names":    `UPDATE certificate SET names = '{"dns":["new.example.com"]}'`,
		"key type": "UPDATE certificate SET key_type = 'rsa-2048'",
		"issuer":   "UPDATE certificate SET issuer_id = 'iss_2'",
		"lifetime": "UPDATE certificate SET lifetime_seconds = 86400",
	}
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.reconciles(inventory.Requested)
		for name, change := range changes {
			before := w.latestOf(w.web)
			w.exec(change)
			w.reconciles(inventory.Requested)
			w.is(before.ID, Cancelled)
			if after := w.latestOf(w.web); after.ID == before.ID || after.State != Pending {
				t.Errorf("%s: the order is %+v", name, after)
			}
		}
		if n := count(w, "SELECT COUNT(*) FROM task"); n != 1 {
			t.Errorf("%d tasks, want one", n)
		}
	})
}

func TestChangedCertificateReplacesActiveVersion(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		done := w.issues(w.web)
		w.exec("UPDATE certificate SET lifetime_seconds = 86400")
		w.reconciles(inventory.Requested)
		if w.latestOf(w.web).ID != done.ID {
			t.Error("another lifetime replaced the version at once; it holds from the next order on")
		}
		w.exec(`UPDATE certificate SET names = '{"dns":["new.example.com"]}'`)
		w.reconciles(inventory.Requested)
		if o := w.latestOf(w.web); o.ID == done.ID || o.State != Pending || o.Spec.Names.DNS[0] != "new.example.com" {
			t.Errorf("the order is %+v", o)
		}
		if w.active(w.web).OrderID != done.ID {
			t.Error("the version in use left before its successor came")
		}
	})
}

func TestHolderThatLeavesKeepsNothing(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.target("mx", w.mail, w.cert)
		done := w.issues(w.web)
		open := w.begins(w.web, inventory.Forced)
		w.exec("UPDATE target SET certificate_id = NULL WHERE agent_id = $1", w.web)
		w.reconciles(inventory.TargetAdded)
		w.is(open, Cancelled)
		v, err := w.certificates.Version(t.Context(), d.Read(), done.VersionID)
		if err != nil || v.SupersededAt == nil || v.DueAt != nil {
			t.Errorf("the version is %+v, %v", v, err)
		}
		if o := w.latestOf(w.mail); o.State != Pending {
			t.Errorf("the order of the other holder is %s", o.State)
		}
	})
}

func TestArchivedCertificateRestsAndComesBack(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.issues(w.web)
		open := w.begins(w.web, inventory.Forced)
		w.exec("UPDATE certificate SET archived_at = $1", start)
		w.reconciles(inventory.Requested)
		w.is(open, Cancelled)
		if due := w.active(w.web).DueAt; due != nil {
			t.Errorf("the version is due at %s", due)
		}
		w.exec("UPDATE certificate SET archived_at = NULL")
		w.reconciles(inventory.Requested)
		if v := w.active(w.web); v.DueAt == nil || !v.DueAt.Equal(v.RenewAt) {
			t.Errorf("the version is due at %v, want %s", v.DueAt, v.RenewAt)
		}
		w.exec(`UPDATE certificate SET renewal = '{"auto":false}'`)
		w.reconciles(inventory.Requested)
		if due := w.active(w.web).DueAt; due != nil {
			t.Errorf("without auto the version is due at %s", due)
		}
	})
}

func TestExpiredVersionIsNotDeployedAnyMore(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.issues(w.web)
		w.clock.Advance(200 * 24 * time.Hour)
		w.target("www-2", w.web, w.cert)
		w.reconciles(inventory.TargetAdded)
		if o := w.latestOf(w.web); o.State != Pending {
			t.Errorf("the last order is %s, want a new one", o.State)
		}
		if n := count(w, "SELECT COUNT(*) FROM deployment"); n != 1 {
			t.Errorf("%d deployments, want only the first", n)
		}
	})
}
