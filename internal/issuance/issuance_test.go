package issuance

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/testkit"
)

func TestOrderGoesFromRequestToServedVersion(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		orderID := w.begins(w.web, inventory.Requested)
		if again := w.begins(w.web, inventory.Forced); again != orderID {
			t.Errorf("a second order %s was started beside %s", again, orderID)
		}
		payload, ok, err := w.BuildCSR(t.Context(), w.web, orderID)
		if err != nil || !ok {
			t.Fatalf("task of the order: %v, %v, %v", payload, ok, err)
		}
		w.submits(orderID)
		w.is(orderID, Signing)
		if n := w.jobs(orderID); n != 1 {
			t.Errorf("%d jobs sign the order, want 1", n)
		}
		if _, ok, _ := w.BuildCSR(t.Context(), w.web, orderID); ok || count(w, "SELECT COUNT(*) FROM task") != 0 {
			t.Error("the task for the certificate request is still there")
		}
		if err := w.signs(orderID); err != nil {
			t.Fatal(err)
		}
		o := w.is(orderID, Issued)
		if n := count(w, "SELECT COUNT(*) FROM deployment WHERE version_id = $1 AND state = 'pending'", o.VersionID); n != 1 {
			t.Errorf("%d deployments were started, want 1", n)
		}
		w.deploys(orderID, "done", "")
		w.is(orderID, Done)
		v := w.active(w.web)
		if v.OrderID != orderID || v.DueAt == nil || !v.DueAt.Equal(v.RenewAt) || v.IssuerID != "iss_1" || v.KeyType != pki.ECDSAP256 {
			t.Errorf("active version is %+v", v)
		}
		w.tells(orderID, "order.pending", "order.signing", "order.issued", "order.done")
		if len(w.outcomes) != 1 || w.outcomes[0] != "done" {
			t.Errorf("outcomes told are %q", w.outcomes)
		}
		counts, err := w.Counts(t.Context())
		if err != nil || counts[Pending]+counts[Signing]+counts[Issued] != 0 {
			t.Errorf("open orders: %v, %v", counts, err)
		}
	})
}

func TestVersionWithoutTargetsIsActiveAtOnce(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		orderID := w.begins(w.web, inventory.Requested)
		w.submits(orderID)
		w.exec("DELETE FROM target")
		if err := w.signs(orderID); err != nil {
			t.Fatal(err)
		}
		w.is(orderID, Done)
		w.active(w.web)
	})
}

// The table is all that decides about moves: an order that has ended stays so,
// and only done, failed and cancelled are ends.
func TestMovesFollowTheDrawing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		state, seen := unborn, map[State]bool{}
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			to := rapid.SampledFrom(States).Draw(t, "to")
			if !state.Can(to) {
				continue
			}
			switch {
			case state == Done || state == Cancelled:
				t.Fatalf("an order that is %s went on to %s", state, to)
			case to == Done && !seen[Issued]:
				t.Fatalf("an order is done that was never issued")
			case to == Signing && !seen[Pending]:
				t.Fatalf("an order is signed that never waited for a request")
			case state == unborn && to != Pending:
				t.Fatalf("an order begins as %s", to)
			}
			state, seen[to] = to, true
			if state.Open() == (state == Done || state == Failed || state == Cancelled) {
				t.Fatalf("%s is open and ended, or neither", state)
			}
		}
		if state.Open() && (!state.Can(Failed) || !state.Can(Cancelled)) {
			t.Fatalf("an order cannot leave %s", state)
		}
	})
}

func TestMoveThatIsNotInTheTableIsRefused(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		orderID := w.begins(w.web, inventory.Requested)
		err := w.db.InTx(t.Context(), func(tx *db.Tx) error {
			o := w.order(orderID)
			return w.move(t.Context(), tx, &o, Done, "", "Done")
		})
		if err == nil {
			t.Error("a pending order became done")
		}
		w.is(orderID, Pending)
		w.tells(orderID, "order.pending")
	})
}

func TestWaitDoublesUpToItsBound(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		failures int
		jitter   float64
		want     time.Duration
	}{
		{0, 0, 5 * time.Second},
		{1, 0, 5 * time.Second},
		{1, 1, 2500 * time.Millisecond},
		{3, 0, 20 * time.Second},
		{10, 0, 2560 * time.Second},
		{11, 0, time.Hour},
		{1000, 0, time.Hour},
	} {
		if got := wait(test.failures, firstSignWait, lastSignWait, test.jitter); got != test.want {
			t.Errorf("after %d failures with jitter %v: %s, want %s", test.failures, test.jitter, got, test.want)
		}
	}
}

func TestRenewalIsRetriedOftenEnoughForWhatIsLeft(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		failures   int
		left, want time.Duration
	}{
		{1, 30 * 24 * time.Hour, 15 * time.Minute},
		{3, 30 * 24 * time.Hour, time.Hour},
		{9, 30 * 24 * time.Hour, 12 * time.Hour},
		{9, 16 * time.Hour, 2 * time.Hour},
		{1, 2 * time.Minute, 15 * time.Second},
		{1, 10 * time.Second, leastRenewalWait},
		{2, -time.Hour, 30 * time.Minute},
	} {
		if got := renewalWait(test.failures, test.left, 0); got != test.want {
			t.Errorf("after %d failures with %s left: %s, want %s", test.failures, test.left, got, test.want)
		}
	}
}

func TestWhatOthersSayIsMadeFitForATimeline(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"  plain ":               "plain",
		"two\nlines\tand\x1b[1m": "two lines and[1m",
		"bad \xff utf":           "bad  utf",
	} {
		if got := told(in); got != want {
			t.Errorf("told(%q) = %q, want %q", in, got, want)
		}
	}
	if got := []rune(told(strings.Repeat("x", 5000))); len(got) > maxReason+4 {
		t.Errorf("a long reason has %d characters", len(got))
	}
}
