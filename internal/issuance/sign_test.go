package issuance

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/riverqueue/river/rivertype"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/testkit"
)

// signing brings a new order to the point where the issuer is asked.
func (w *world) signing() string {
	w.t.Helper()
	orderID := w.begins(w.web, inventory.Requested)
	w.submits(orderID)
	return orderID
}

func always(err error) func(context.Context, pki.Request) (*pki.Issued, error) {
	return func(context.Context, pki.Request) (*pki.Issued, error) { return nil, err }
}

func TestIssuerThatIsAwayIsAskedAgainLater(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		orderID := w.signing()
		w.ca.answers(always(problem.Temporary(errors.New("connection refused"), 0)))
		for _, pause := range []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second} {
			found, ok := problem.As(w.signs(orderID))
			if !ok || found.Kind != problem.KindTemporary || found.After != pause {
				t.Fatalf("the job ends with %v, want to be tried again in %s", found, pause)
			}
			o := w.is(orderID, Signing)
			if o.NextTryAt == nil || !o.NextTryAt.Equal(w.clock.Now().Add(pause)) || !strings.Contains(o.StateReason, "connection refused") {
				t.Errorf("the order is %+v", o)
			}
			w.clock.Advance(pause)
		}
		w.ca.answers(nil)
		if err := w.signs(orderID); err != nil {
			t.Fatal(err)
		}
		if o := w.is(orderID, Issued); o.Attempts != 4 || o.StateReason != "" || o.NextTryAt != nil {
			t.Errorf("the order is %+v", o)
		}
	})
}

func TestIssuerThatStaysAwayFailsTheOrderInTheEnd(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		orderID := w.signing()
		w.ca.answers(always(errors.New("no such host"))) // not said to be final, so it may pass
		tries := 0
		for ; w.order(orderID).State == Signing && tries < 100; tries++ {
			err := w.signs(orderID)
			if found, ok := problem.As(err); ok {
				w.clock.Advance(found.After)
			}
		}
		o := w.is(orderID, Failed)
		if took := w.clock.Now().Sub(start); took > signFor || took < signFor/2 || tries > 40 {
			t.Errorf("it was given up after %s and %d tries", took, tries)
		}
		if !strings.Contains(o.StateReason, "no such host") {
			t.Errorf("the reason is %q", o.StateReason)
		}
	})
}

func TestRefusalOfTheIssuerFailsTheOrderAtOnce(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		orderID := w.signing()
		w.ca.answers(always(problem.Invalid("names[0]", "is on the list of phishers")))
		if err := w.signs(orderID); err != nil {
			t.Fatal(err)
		}
		if o := w.is(orderID, Failed); !strings.Contains(o.StateReason, "list of phishers") || o.FinishedAt == nil {
			t.Errorf("the order is %+v", o)
		}
		w.tells(orderID, "order.pending", "order.signing", "order.failed")
	})
}

func TestIssuerThatTakesTimeHoldsNoWorkerUp(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		orderID := w.signing()
		w.ca.answers(func(context.Context, pki.Request) (*pki.Issued, error) {
			return &pki.Issued{PendingAfter: time.Minute}, nil
		})
		for range 3 {
			var snooze *rivertype.JobSnoozeError
			if err := w.signs(orderID); !errors.As(err, &snooze) || snooze.Duration != time.Minute {
				t.Fatalf("the job ends with %v, want to be snoozed", err)
			}
			w.clock.Advance(time.Minute)
		}
		if o := w.is(orderID, Signing); o.Attempts != 0 || o.NextTryAt == nil {
			t.Errorf("the order is %+v", o)
		}
		w.tells(orderID, "order.pending", "order.signing", "order.waiting")
		w.clock.Advance(decideFor)
		if err := w.signs(orderID); err != nil {
			t.Fatal(err)
		}
		w.is(orderID, Failed)
	})
}

func TestLeafThatIsNotWhatWasAskedForIsNotStored(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*x509.Certificate){
		"another name":    func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "evil.example.com") },
		"a name too few":  func(c *x509.Certificate) { c.DNSNames = nil },
		"another key":     func(c *x509.Certificate) { c.PublicKey = key(t, pki.ECDSAP256).Public() },
		"a CA":            func(c *x509.Certificate) { c.IsCA = true },
		"over already":    func(c *x509.Certificate) { c.NotAfter = start },
		"not valid yet":   func(c *x509.Certificate) { c.NotBefore = start.AddDate(0, 0, 1) },
		"someone's name":  func(c *x509.Certificate) { c.Subject.CommonName = "evil.example.com" },
		"the same serial": func(c *x509.Certificate) { c.SerialNumber.SetInt64(77) },
	}
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.ca.edits(tests["the same serial"])
		w.issues(w.web)
		for name, edit := range tests {
			orderID := w.begins(w.web, inventory.Forced)
			w.submits(orderID)
			w.ca.edits(edit)
			if err := w.signs(orderID); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if o := w.is(orderID, Failed); o.Progress != nil || o.VersionID != "" {
				t.Errorf("%s: the order keeps the answer: %+v", name, o)
			}
			w.ca.edits(nil)
			if _, err := w.Retry(t.Context(), orderID); err != nil {
				t.Fatalf("%s: retry: %v", name, err)
			}
			if err := w.signs(orderID); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			w.is(orderID, Issued)
			w.deploys(orderID, "done", "")
		}
	})
}

func TestTwoRunsOfOneOrderMakeOneVersion(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		for range 5 {
			orderID := w.begins(w.web, inventory.Forced)
			w.submits(orderID)
			var runs sync.WaitGroup
			for range 4 {
				runs.Go(func() {
					if err := w.signs(orderID); err != nil && problem.KindOf(err) != problem.KindConflict {
						t.Error(err)
					}
				})
			}
			runs.Wait()
			// All runs may have fenced each other out but the last.
			if err := w.signs(orderID); err != nil {
				t.Fatal(err)
			}
			w.is(orderID, Issued)
			if n := count(w, "SELECT COUNT(*) FROM version WHERE order_id = $1", orderID); n != 1 {
				t.Fatalf("%d versions of one order", n)
			}
			if prints := w.ca.signed[orderID]; len(slices.Compact(slices.Sorted(slices.Values(prints)))) != 1 {
				t.Fatalf("the CA signed %d certificates for one order", len(prints))
			}
			w.deploys(orderID, "done", "")
		}
	})
}

// A run that was thought dead must not reserve a second certificate after the
// next run has begun.
func TestRunThatWasOvertakenCannotSaveProgress(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		orderID := w.signing()
		overtaken := false
		w.ca.answers(func(ctx context.Context, _ pki.Request) (*pki.Issued, error) {
			if overtaken {
				return nil, nil
			}
			overtaken = true
			return nil, w.signs(orderID)
		})
		if err := w.signs(orderID); err != nil {
			t.Fatal(err)
		}
		w.is(orderID, Issued)
		if n := len(w.ca.signed[orderID]); n != 1 {
			t.Errorf("the CA signed %d certificates", n)
		}
	})
}

func TestCrashAfterProgressGoesOnWithTheSameCertificate(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		orderID := w.signing()
		dying, die := context.WithCancel(t.Context())
		w.ca.onSaved(die)
		if err := w.sign(dying, orderID); !errors.Is(err, context.Canceled) {
			t.Fatalf("the run ends with %v", err)
		}
		w.is(orderID, Signing)
		if err := w.signs(orderID); err != nil {
			t.Fatal(err)
		}
		w.is(orderID, Issued)
		prints := w.ca.signed[orderID]
		if len(prints) != 2 || prints[0] != prints[1] {
			t.Errorf("the CA signed %v", prints)
		}
	})
}

func TestOrderCancelledWhileTheIssuerWorksGetsNoVersion(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		orderID := w.signing()
		w.ca.onSaved(func() {
			if _, err := w.Cancel(t.Context(), orderID); err != nil {
				t.Error(err)
			}
		})
		if err := w.signs(orderID); err != nil {
			t.Fatal(err)
		}
		w.is(orderID, Cancelled)
		if n := count(w, "SELECT COUNT(*) FROM version"); n != 0 {
			t.Errorf("%d versions were stored", n)
		}
	})
}
