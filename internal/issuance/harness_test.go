package issuance

import (
	"context"
	"crypto"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/profile"
	"github.com/certctl-io/certctl/internal/queue"
	"github.com/certctl-io/certctl/internal/testkit"
)

// world is a Service on a real database, with a CA that signs, and the agents'
// and the deployments' side played by a test.
type world struct {
	*Service
	t     testing.TB
	db    *db.DB
	clock *testkit.Clock
	ca    *testCA
	cert  string // a certificate with one target on web
	web   string // agents
	mail  string

	mu       sync.Mutex
	outcomes []string
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newWorld(t testing.TB, d *db.DB) *world {
	t.Helper()
	inserter, err := queue.NewInserter(d)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, db: d, clock: testkit.NewClock(start)}
	w.ca = newTestCA(t, w.clock.Now)
	w.Service, err = New(Config{
		DB: d, Resolve: func(context.Context, string) (CA, error) { return w.ca, nil },
		Tasks: taskRows{}, Deployments: deploymentRows{}, Queue: inserter,
		Now: w.clock.Now, Jitter: func() float64 { return 0 },
		Finished: func(outcome string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.outcomes = append(w.outcomes, outcome)
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.tx(func(ctx context.Context, tx *db.Tx) error { return profile.New(d, w.clock.Now).EnsureDefaults(ctx, tx) })
	w.exec(`INSERT INTO issuer (id, name, type, revision, settings, enabled, created_at, updated_at)
		VALUES ('iss_1', 'local', 'local', 1, '{}', TRUE, $1, $1), ('iss_2', 'other', 'local', 1, '{}', TRUE, $1, $1)`, start)
	w.web, w.mail = w.agent("web"), w.agent("mail")
	w.cert = w.certificate("www.example.com")
	w.target("www", w.web, w.cert)
	return w
}

func (w *world) tx(work func(ctx context.Context, tx *db.Tx) error) {
	w.t.Helper()
	if err := w.db.InTx(w.t.Context(), func(tx *db.Tx) error { return work(w.t.Context(), tx) }); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) exec(query string, args ...any) {
	w.t.Helper()
	w.tx(func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, query, args...)
		return err
	})
}

func count(w *world, query string, args ...any) int {
	w.t.Helper()
	n, err := db.One[int](w.t.Context(), w.db.Read(), query, args...)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

func (w *world) agent(name string) string {
	agentID := id.New("agt")
	w.exec(`INSERT INTO agent (id, name, revision, public_key, labels, version, os, token_id, created_at, updated_at)
		VALUES ($1, $2, 1, $3, '{}', '', '', '', $4, $4)`, agentID, name, []byte(name), start)
	return agentID
}

func (w *world) certificate(name string) string {
	certificateID := id.New("crt")
	names, _ := json.Marshal(pki.Names{DNS: []string{name}})
	w.exec(`INSERT INTO certificate (id, name, revision, common_name, names, key_type, lifetime_seconds, profile_id, issuer_id, owner, tags, renewal, created_at, updated_at)
		SELECT $1, $2, 1, '', $3, 'ecdsa-p256', 7776000, id, 'iss_1', '', '{}', '{"auto":true}', $4, $4 FROM profile WHERE name = 'default'`,
		certificateID, name, string(names), start)
	return certificateID
}

func (w *world) target(name, agentID, certificateID string) string {
	targetID := id.New("tgt")
	w.exec(`INSERT INTO target (id, name, revision, agent_id, kind, settings, certificate_id, created_at, updated_at)
		VALUES ($1, $2, 1, $3, 'file', '{}', $4, $5, $5)`, targetID, name, agentID, certificateID, start)
	return targetID
}

func (w *world) begins(agentID string, reason inventory.OrderReason) (orderID string) {
	w.t.Helper()
	w.tx(func(ctx context.Context, tx *db.Tx) (err error) {
		orderID, err = w.Start(ctx, tx, w.cert, agentID, reason)
		return err
	})
	return orderID
}

func (w *world) reconciles(reason inventory.OrderReason) {
	w.t.Helper()
	w.tx(func(ctx context.Context, tx *db.Tx) error { return w.Reconcile(ctx, tx, w.cert, reason) })
}

func (w *world) order(orderID string) Order {
	w.t.Helper()
	o, err := w.store.order(w.t.Context(), w.db.Read(), orderID, "")
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

func (w *world) latestOf(agentID string) Order {
	w.t.Helper()
	o, found, err := w.store.latest(w.t.Context(), w.db.Read(), w.cert, agentID)
	if err != nil || !found {
		w.t.Fatalf("latest order of %s: found %v, %v", agentID, found, err)
	}
	return o
}

func (w *world) is(orderID string, want State) Order {
	w.t.Helper()
	o := w.order(orderID)
	if o.State != want {
		w.t.Fatalf("order is %s (%s), want %s", o.State, o.StateReason, want)
	}
	return o
}

func (w *world) active(agentID string) inventory.Version {
	w.t.Helper()
	v, found, err := w.certificates.Active(w.t.Context(), w.db.Read(), w.cert, agentID)
	if err != nil || !found {
		w.t.Fatalf("active version of %s: found %v, %v", agentID, found, err)
	}
	return v
}

// csr makes a certificate request for an order, with a new key.
func (w *world) csr(orderID string) []byte {
	w.t.Helper()
	return w.csrWith(orderID, key(w.t, pki.ECDSAP256))
}

func (w *world) csrWith(orderID string, key crypto.Signer) []byte {
	w.t.Helper()
	o := w.order(orderID)
	der, err := pki.CreateCSR(key, o.Spec.CommonName, o.Spec.Names)
	if err != nil {
		w.t.Fatal(err)
	}
	return pki.EncodeCSR(der)
}

func key(t testing.TB, kt pki.KeyType) crypto.Signer {
	t.Helper()
	k, err := pki.GenerateKey(kt)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (w *world) submits(orderID string) {
	w.t.Helper()
	if err := w.SubmitCSR(w.t.Context(), w.order(orderID).AgentID, orderID, w.csr(orderID)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) signs(orderID string) error { return w.sign(w.t.Context(), orderID) }

// deploys ends all open deployments of an order in a state, and says so.
func (w *world) deploys(orderID, state, reason string) {
	w.t.Helper()
	w.exec("UPDATE deployment SET state = $1, state_reason = $2 WHERE order_id = $3 AND state IN ('pending', 'running')", state, reason, orderID)
	if err := w.settled(w.t.Context(), orderID); err != nil {
		w.t.Fatal(err)
	}
}

// issues brings a fresh order of an agent to its end.
func (w *world) issues(agentID string) Order {
	w.t.Helper()
	orderID := w.begins(agentID, inventory.Requested)
	w.submits(orderID)
	if err := w.signs(orderID); err != nil {
		w.t.Fatal(err)
	}
	w.deploys(orderID, "done", "")
	return w.is(orderID, Done)
}

// jobs counts the sign jobs of an order that were ever enqueued.
func (w *world) jobs(orderID string) int {
	w.t.Helper()
	return count(w, `SELECT COUNT(*) FROM river_job WHERE kind = 'issuance_sign' AND args ->> 'order_id' = $1`, orderID)
}

// kinds gives the timeline of an order.
func (w *world) kinds(orderID string) []string {
	w.t.Helper()
	_, lines, err := w.Get(w.t.Context(), orderID)
	if err != nil {
		w.t.Fatal(err)
	}
	kinds := make([]string, len(lines))
	for i, line := range lines {
		kinds[i] = line.Kind
	}
	return kinds
}

func (w *world) tells(orderID string, want ...string) {
	w.t.Helper()
	if got := w.kinds(orderID); !slices.Equal(got, want) {
		w.t.Errorf("timeline is %q, want %q", got, want)
	}
}
