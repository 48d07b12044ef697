package issuance

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/pki"
)

// testCA signs as the built-in CA does: it reserves serial and validity, saves
// them, and signs deterministically, so that a repeated attempt at an order
// gives the same certificate.
type testCA struct {
	now    func() time.Time
	root   *x509.Certificate
	signer crypto.Signer

	mu     sync.Mutex
	before func(ctx context.Context, r pki.Request) (*pki.Issued, error) // may answer instead of the CA
	saved  func()                                                        // after progress is saved, before it is signed
	edit   func(template *x509.Certificate)
	signed map[string][]string // fingerprints by order
}

func newTestCA(t testing.TB, now func() time.Time) *testCA {
	t.Helper()
	_, signer, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, NotBefore: start.AddDate(-1, 0, 0), NotAfter: start.AddDate(20, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &testCA{now: now, root: root, signer: signer, signed: map[string][]string{}}
}

type reservation struct {
	Serial    int64     `json:"serial"`
	NotBefore time.Time `json:"not_before"`
}

func (ca *testCA) hooks() (before func(context.Context, pki.Request) (*pki.Issued, error), saved func(), edit func(*x509.Certificate)) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	return ca.before, ca.saved, ca.edit
}

func (ca *testCA) Issue(ctx context.Context, r pki.Request) (pki.Issued, error) {
	before, saved, edit := ca.hooks()
	if before != nil {
		if answer, err := before(ctx, r); answer != nil || err != nil {
			return value(answer), err
		}
	}
	var reserved reservation
	if len(r.Progress) > 0 {
		if err := json.Unmarshal(r.Progress, &reserved); err != nil {
			return pki.Issued{}, err
		}
	} else {
		serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
		if err != nil {
			return pki.Issued{}, err
		}
		reserved = reservation{Serial: serial.Int64(), NotBefore: ca.now().Add(-time.Minute)}
		progress, err := json.Marshal(reserved)
		if err != nil {
			return pki.Issued{}, err
		}
		if err := r.Save(ctx, progress); err != nil {
			return pki.Issued{}, err
		}
		if saved != nil {
			saved()
		}
	}
	return ca.signLeaf(r, reserved, edit)
}

func (ca *testCA) signLeaf(r pki.Request, reserved reservation, edit func(*x509.Certificate)) (pki.Issued, error) {
	csr, err := pki.ParseCSR(r.CSR)
	if err != nil {
		return pki.Issued{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(reserved.Serial), Subject: pkix.Name{CommonName: r.CommonName},
		NotBefore: reserved.NotBefore, NotAfter: reserved.NotBefore.Add(r.Lifetime), DNSNames: r.Names.DNS, IPAddresses: r.Names.IPs(),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if edit != nil {
		edit(template)
	}
	public := csr.PublicKey
	if replaced, ok := template.PublicKey.(crypto.PublicKey); ok && replaced != nil {
		public = replaced
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.root, public, ca.signer)
	if err != nil {
		return pki.Issued{}, err
	}
	ca.mu.Lock()
	defer ca.mu.Unlock()
	ca.signed[r.OrderID] = append(ca.signed[r.OrderID], pki.Fingerprint(der))
	return pki.Issued{Chain: pki.Chain{der, ca.root.Raw}}, nil
}

func value(answer *pki.Issued) pki.Issued {
	if answer == nil {
		return pki.Issued{}
	}
	return *answer
}

// answers makes the CA answer something else until it is given nil.
func (ca *testCA) answers(before func(ctx context.Context, r pki.Request) (*pki.Issued, error)) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	ca.before = before
}

func (ca *testCA) edits(edit func(*x509.Certificate)) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	ca.edit = edit
}

func (ca *testCA) onSaved(saved func()) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	ca.saved = saved
}

// taskRows keeps tasks in their table, as the fleet does.
type taskRows struct{}

func (taskRows) RequestCSR(ctx context.Context, tx *db.Tx, agentID, orderID string, notBefore time.Time) error {
	if notBefore.IsZero() {
		notBefore = start
	}
	_, err := db.Exec(ctx, tx, `INSERT INTO task (id, agent_id, kind, subject_id, lane, deliveries, not_before, created_at)
		VALUES ($1, $2, 'csr', $3, $3, 0, $4, $5) ON CONFLICT DO NOTHING`, id.New("tsk"), agentID, orderID, notBefore, start)
	return err
}

func (taskRows) FinishCSR(ctx context.Context, tx *db.Tx, orderID string) error {
	_, err := db.Exec(ctx, tx, "DELETE FROM task WHERE kind = 'csr' AND subject_id = $1", orderID)
	return err
}

// deploymentRows keeps deployments in their table; tests end them.
type deploymentRows struct{}

func (d deploymentRows) Start(ctx context.Context, tx *db.Tx, v inventory.Version) (int, error) {
	return d.start(ctx, tx, v, v.OrderID)
}

func (d deploymentRows) StartMissing(ctx context.Context, tx *db.Tx, v inventory.Version) (int, error) {
	return d.start(ctx, tx, v, "")
}

func (deploymentRows) start(ctx context.Context, tx *db.Tx, v inventory.Version, orderID string) (int, error) {
	targets, err := db.All[string](ctx, tx, `SELECT id FROM target WHERE certificate_id = $1 AND agent_id = $2
		AND NOT EXISTS (SELECT 1 FROM deployment d WHERE d.target_id = target.id AND d.version_id = $3)`, v.CertificateID, v.AgentID, v.ID)
	if err != nil {
		return 0, err
	}
	for _, targetID := range targets {
		_, err := db.Exec(ctx, tx, "UPDATE deployment SET state = 'cancelled', state_reason = 'superseded' WHERE target_id = $1 AND state = 'pending'", targetID)
		if err != nil {
			return 0, err
		}
		_, err = db.Exec(ctx, tx, `INSERT INTO deployment (id, target_id, agent_id, certificate_id, version_id, order_id, reason, state, state_reason, attempts, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6, 'issued', 'pending', '', 0, $7, $7)`, id.New("dep"), targetID, v.AgentID, v.CertificateID, v.ID, orderID, start)
		if err != nil {
			return 0, fmt.Errorf("start deployment to %s: %w", targetID, err)
		}
	}
	return len(targets), nil
}

func (deploymentRows) CancelOrder(ctx context.Context, tx *db.Tx, orderID, reason string) error {
	_, err := db.Exec(ctx, tx, "UPDATE deployment SET state = 'cancelled', state_reason = $1 WHERE order_id = $2 AND state IN ('pending', 'running')", reason, orderID)
	return err
}

func (deploymentRows) RetryOrder(ctx context.Context, tx *db.Tx, orderID string) (int, error) {
	n, err := db.Exec(ctx, tx, "UPDATE deployment SET state = 'pending', state_reason = '' WHERE order_id = $1 AND state = 'failed'", orderID)
	return int(n), err
}

func (deploymentRows) Outcome(ctx context.Context, tx *db.Tx, orderID string) (open, failed int, reason string, err error) {
	rows, err := db.All[struct {
		State  string `db:"state"`
		Reason string `db:"state_reason"`
	}](ctx, tx, "SELECT state, state_reason FROM deployment WHERE order_id = $1 ORDER BY id", orderID)
	for _, r := range rows {
		switch r.State {
		case "pending", "running":
			open++
		case "failed", "cancelled":
			failed++
			reason = r.Reason
		}
	}
	return open, failed, reason, err
}
