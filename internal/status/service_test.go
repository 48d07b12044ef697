package status

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"golang.org/x/crypto/ocsp"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/issuers/local"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/queue"
	"github.com/certctl-io/certctl/internal/testkit"
)

func TestRevocationIsVisibleAtOnce(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, w *world) {
		var all sync.WaitGroup
		asking, stop := context.WithCancel(t.Context())
		for range 5 {
			v := w.issue()
			all.Go(func() { // keeps the caches warm and the answers being made
				for asking.Err() == nil {
					w.ask(v)
					w.crlOf(v)
				}
			})
			w.ask(v)
			before := w.crlOf(v)
			w.revoke(v, 1)
			if response := w.ask(v); response.Status != ocsp.Revoked || response.RevocationReason != 1 {
				t.Errorf("OCSP says %d, reason %d", response.Status, response.RevocationReason)
			}
			after := w.crlOf(v)
			if !lists(after, v) || after.Number.Cmp(before.Number) <= 0 {
				t.Errorf("CRL %s after %s does not list the certificate", after.Number, before.Number)
			}
		}
		stop()
		all.Wait()
	})
}

func TestAnotherReplicaLearnsOfARevocation(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, w *world) {
		v := w.issue()
		other := w.replica(localAuthorities{w.driver(w.server.URL)})
		request, err := ocsp.CreateRequest(v.Certificate, w.issuer(), nil)
		if err != nil {
			t.Fatal(err)
		}
		status := func(s *Service) int {
			d, err := s.response(t.Context(), w.issuerID, request)
			if err != nil {
				t.Fatal(err)
			}
			response, err := ocsp.ParseResponseForCert(d.body, v.Certificate, w.issuer())
			if err != nil {
				t.Fatal(err)
			}
			return response.Status
		}
		if status(other) != ocsp.Good || status(w.Service) != ocsp.Good {
			t.Fatal("the certificate is not good")
		}
		w.revoke(v, 1)
		testkit.Eventually(t, "the other replica says revoked", func() bool { return status(other) == ocsp.Revoked })
		testkit.Eventually(t, "the other replica lists it", func() bool {
			d, err := other.crl(t.Context(), w.issuerID, v.shard)
			if err != nil {
				t.Fatal(err)
			}
			list, err := x509.ParseRevocationList(d.body)
			if err != nil {
				t.Fatal(err)
			}
			return lists(list, v)
		})
	})
}

func TestReplicasShareOneResponder(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, w *world) {
		signers := make([]*signer, 3)
		var all sync.WaitGroup
		for i := range signers {
			s := w.replica(localAuthorities{w.driver(w.server.URL)})
			all.Go(func() {
				made, err := s.signer(t.Context(), w.issuerID)
				if err != nil {
					t.Errorf("signer: %v", err)
				}
				signers[i] = made
			})
		}
		all.Wait()
		if t.Failed() {
			return
		}
		for _, other := range signers[1:] {
			if !other.responder.Equal(signers[0].responder) {
				t.Error("two replicas have two responders")
			}
		}
		w.clock.Advance(local.DefaultOCSPLife / 2)
		renewed, err := w.signer(t.Context(), w.issuerID)
		if err != nil || renewed.responder.Equal(signers[0].responder) {
			t.Errorf("the responder is not renewed at half of its life: %v", err)
		}
	})
}

// work runs the jobs of the service until the test ends.
func (w *world) work() {
	w.t.Helper()
	workers := river.NewWorkers()
	w.Register(workers)
	runner, err := queue.NewRunner(w.db, queue.Config{
		Replica: "test", Workers: 2, Registry: workers, Periodic: w.Periodic(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := runner.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := runner.Stop(ctx); err != nil {
			w.t.Errorf("stop: %v", err)
		}
	})
}

func (w *world) storedNumber(shard int) int64 {
	w.t.Helper()
	stored, err := storedCRL(w.t.Context(), w.db.Read(), w.issuerID, shard)
	if err != nil {
		w.t.Fatal(err)
	}
	return stored.number
}

func TestJobsPublishWithoutBeingAsked(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, w *world) {
		v := w.issue()
		w.work()
		w.revoke(v, 1)
		testkit.Eventually(t, "the CRL is published", func() bool { return w.storedNumber(v.shard) == 1 })
		if list := w.crlOf(v); !lists(list, v) {
			t.Error("the published CRL does not list the certificate")
		}
	})
}

func TestSweepReplacesWhatIsDue(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, w *world) {
		v, revoked := w.issue(), w.issue()
		w.revoke(revoked, 1)
		w.ask(v)
		w.ask(revoked)
		w.crlOf(v)
		if err := w.sweep(t.Context()); err != nil || w.storedNumber(v.shard) != 1 {
			t.Fatalf("a sweep replaced what is fresh: CRL %d, %v", w.storedNumber(v.shard), err)
		}
		w.clock.Advance(refreshAfter + time.Minute)
		if err := w.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w.storedNumber(v.shard) != 2 {
			t.Errorf("the CRL has the number %d, want 2", w.storedNumber(v.shard))
		}
		want := w.clock.Now().UTC().Truncate(time.Second)
		for _, of := range []version{v, revoked} {
			d, err := storedResponse(t.Context(), w.db.Read(), w.issuerID, pki.SerialHex(of.SerialNumber), "sha1")
			if err != nil || !d.thisUpdate.Equal(want) {
				t.Errorf("a response is of %s, want %s, %v", d.thisUpdate, want, err)
			}
		}
		if w.ask(v).Status != ocsp.Good || w.ask(revoked).Status != ocsp.Revoked {
			t.Error("the answers changed with their renewal")
		}
	})
}

func TestExpiredCertificateLeavesTheCRLAndItsAnswersGo(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, w *world) {
		v := w.issue()
		w.revoke(v, 1)
		w.ask(v)
		w.clock.Advance(72*time.Hour + time.Minute)
		if !lists(w.crlOf(v), v) {
			t.Error("the first CRL after its expiry does not list the certificate (RFC 5280, 3.3)")
		}
		w.clock.Advance(2 * documentLife)
		if lists(w.crlOf(v), v) {
			t.Error("the CRL lists a certificate that expired two days ago")
		}
		if err := w.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		left, err := db.One[int](t.Context(), w.db.Read(), "SELECT COUNT(*) FROM ocsp_response")
		if err != nil || left != 0 {
			t.Errorf("%d stale answers are left, %v", left, err)
		}
	})
}

func TestWhatIsLeftOfADeletedIssuerGoes(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, w *world) {
		v := w.issue()
		w.crlOf(v)
		w.tx(func(tx *db.Tx) error { return w.local.Abandon(t.Context(), tx, w.issuerID) })
		w.clock.Advance(refreshAfter + time.Minute)
		if err := w.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w.storedNumber(v.shard) != 0 {
			t.Error("its CRL is still there")
		}
	})
}

// stuck is a CA whose key does not answer.
type stuck struct{ Authority }

func (stuck) SignCRL(int, int64, []x509.RevocationListEntry, time.Time, time.Time) ([]byte, error) {
	return nil, errors.New("the key does not answer")
}

type stuckAuthorities struct{ localAuthorities }

func (a stuckAuthorities) Authority(ctx context.Context, issuerID string) (Authority, error) {
	authority, err := a.localAuthorities.Authority(ctx, issuerID)
	return stuck{authority}, err
}

func TestCRLIsServedUntilItsEndWhenItCannotBeReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testkit.NewDB(t, db.SQLite))
	v := w.issue()
	w.crlOf(v)
	s := w.replica(stuckAuthorities{localAuthorities{w.local}})
	w.clock.Advance(refreshAfter + time.Minute)
	if d, err := s.crl(t.Context(), w.issuerID, v.shard); err != nil || len(d.body) == 0 {
		t.Errorf("a CRL that clients still accept is not served: %v", err)
	}
	w.clock.Advance(documentLife - refreshAfter)
	if _, err := s.crl(t.Context(), w.issuerID, v.shard); err == nil {
		t.Error("a CRL is served after its end")
	}
}
