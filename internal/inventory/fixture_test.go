package inventory

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/profile"
	"github.com/certctl-io/certctl/internal/testkit"
)

// fixture is a database with a service on it, two agents with two targets
// each, and in place of the other features what they are asked for.
type fixture struct {
	*Service
	t        *testing.T
	db       *db.DB
	clock    *testkit.Clock
	profiles *profile.Service
	web, api string // agents
	asked    *asked
}

func eachEngine(t *testing.T, test func(f *fixture)) {
	t.Helper()
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) { test(newFixture(t, d)) })
}

func newFixture(t *testing.T, d *db.DB) *fixture {
	t.Helper()
	clock := testkit.NewClock(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC))
	f := &fixture{t: t, db: d, clock: clock, profiles: profile.New(d, clock.Now), asked: &asked{}}
	f.must(d.InTx(t.Context(), func(tx *db.Tx) error { return f.profiles.EnsureDefaults(t.Context(), tx) }))
	for _, name := range []string{"local", "other", "disabled"} {
		f.exec(`INSERT INTO issuer (id, name, type, revision, settings, enabled, created_at, updated_at)
			VALUES ($1, $2, 'local', 1, '{}', $3, $4, $5)`, issuerID(name), name, name != "disabled", clock.Now(), clock.Now())
	}
	f.web, f.api = f.agent("web"), f.agent("api")
	f.Service = New(Config{
		DB: d, Profiles: f.profiles, Issuers: issuers{}, Targets: placing{}, Orders: f.asked, Status: f.asked, Now: clock.Now,
	})
	return f
}

func issuerID(name string) string {
	return "iss_" + strings.Repeat("0", 32-len(name)*2) + fmt.Sprintf("%x", name)
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) exec(query string, args ...any) {
	f.t.Helper()
	f.must(f.db.InTx(f.t.Context(), func(tx *db.Tx) error {
		_, err := db.Exec(f.t.Context(), tx, query, args...)
		return err
	}))
}

// agent enrols an agent with the targets NAME-1 and NAME-2.
func (f *fixture) agent(name string) string {
	f.t.Helper()
	agentID, now := id.New("agt"), f.clock.Now()
	f.exec(`INSERT INTO agent (id, name, revision, public_key, labels, version, os, token_id, created_at, updated_at)
		VALUES ($1, $2, 1, $3, '{}', '1', 'linux', '', $4, $5)`, agentID, name, []byte(agentID), now, now)
	for i := 1; i <= 2; i++ {
		f.exec(`INSERT INTO target (id, name, revision, agent_id, kind, settings, created_at, updated_at)
			VALUES ($1, $2, 1, $3, 'file', '{}', $4, $5)`, id.New("tgt"), fmt.Sprintf("%s-%d", name, i), agentID, now, now)
	}
	return agentID
}

// create makes a certificate for one name with these targets.
func (f *fixture) create(name string, targets ...string) Standing {
	f.t.Helper()
	made, err := f.Create(f.t.Context(), Change{Names: &[]string{name}, Targets: &targets})
	f.must(err)
	return made
}

func (f *fixture) get(ref string) Standing {
	f.t.Helper()
	c, err := f.Get(f.t.Context(), ref)
	f.must(err)
	return c
}

// order stores an order in a state.
func (f *fixture) order(certificateID, agentID, state, reason string) string {
	f.t.Helper()
	orderID, now := id.New("ord"), f.clock.Now()
	f.exec(`INSERT INTO cert_order (id, certificate_id, agent_id, reason, state, state_reason, attempts, spec, created_at, updated_at)
		VALUES ($1, $2, $3, 'requested', $4, $5, 0, '{}', $6, $7)`, orderID, certificateID, agentID, state, reason, now, now)
	return orderID
}

// version stores a version that a holder got for thirty days and, when it is
// said, serves.
func (f *fixture) version(certificateID, agentID string, active bool) Version {
	f.t.Helper()
	now := f.clock.Now()
	v := Version{
		ID: id.New("ver"), CertificateID: certificateID, OrderID: f.order(certificateID, agentID, "done", ""), AgentID: agentID,
		IssuerID: issuerID("local"), KeyType: pki.ECDSAP256, Chain: leaf(), Shard: 3,
		NotBefore: now, NotAfter: now.AddDate(0, 0, 30), RenewAt: now.AddDate(0, 0, 20), ExpiringAt: now.AddDate(0, 0, 23), CreatedAt: now,
	}
	v.Serial = strings.TrimPrefix(v.ID, "ver_")
	v.Fingerprint = pki.Fingerprint([]byte(v.ID))
	f.must(f.db.InTx(f.t.Context(), func(tx *db.Tx) error {
		if err := f.store.InsertVersion(f.t.Context(), tx, v); err != nil || !active {
			return err
		}
		return f.store.Activate(f.t.Context(), tx, v, now, &v.RenewAt)
	}))
	return v
}

// leaf is a chain for versions that are told apart by other things.
var leaf = sync.OnceValue(func() pki.Chain {
	key, err := pki.GenerateKey(pki.ECDSAP256)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return pki.Chain{der}
})

func (f *fixture) read(versionID string) Version {
	f.t.Helper()
	v, err := f.store.Version(f.t.Context(), f.db.Read(), versionID)
	f.must(err)
	return v
}

// actions gives the audit events about an object, the first first.
func (f *fixture) actions(objectID string) []string {
	f.t.Helper()
	actions, err := db.All[string](f.t.Context(), f.db.Read(), "SELECT action FROM audit_event WHERE object_id = $1 ORDER BY id", objectID)
	f.must(err)
	return actions
}

// kinds gives the timeline of a certificate, the first line first.
func (f *fixture) kinds(ref string) []string {
	f.t.Helper()
	lines, _, err := f.Timeline(f.t.Context(), ref, db.Page{})
	f.must(err)
	kinds := make([]string, len(lines))
	for i, l := range lines {
		kinds[len(lines)-1-i] = l.Kind
	}
	return kinds
}

func anyRevision(int) error { return nil }

// asked stands in for issuance and status, and remembers what it was asked for.
type asked struct{ calls []string }

func (a *asked) Start(_ context.Context, _ *db.Tx, _, agentID string, reason OrderReason) (string, error) {
	a.calls = append(a.calls, "start "+string(reason))
	return "ord_of_" + agentID, nil
}

func (a *asked) Reconcile(_ context.Context, _ *db.Tx, _ string, reason OrderReason) error {
	a.calls = append(a.calls, "reconcile "+string(reason))
	return nil
}

func (a *asked) Revoked(_ context.Context, _ *db.Tx, issuerID, serial string, shard int) error {
	a.calls = append(a.calls, fmt.Sprintf("revoked %s %s %d", issuerID, serial, shard))
	return nil
}

// expect checks what was asked for since the last time.
func (f *fixture) expect(calls ...string) {
	f.t.Helper()
	if !slices.Equal(f.asked.calls, calls) {
		f.t.Errorf("asked for %q, want %q", f.asked.calls, calls)
	}
	f.asked.calls = nil
}

// issuers stands in for the feature issuer.
type issuers struct{}

func (issuers) Issuer(_ context.Context, _ db.Querier, ref string) (string, string, error) {
	switch ref {
	case "", "local":
		return issuerID("local"), "local", nil
	case "other":
		return issuerID("other"), "other", nil
	}
	return "", "", problem.Invalid("issuer", "there is no issuer %q", ref)
}

// placing stands in for the feature deployment.
type placing struct{}

func (placing) Assign(ctx context.Context, tx *db.Tx, certificateID string, refs []string) error {
	if _, err := db.Exec(ctx, tx, "UPDATE target SET certificate_id = NULL WHERE certificate_id = $1", certificateID); err != nil {
		return err
	}
	for i, ref := range refs {
		changed, err := db.Exec(ctx, tx, "UPDATE target SET certificate_id = $1 WHERE name = $2 AND certificate_id IS NULL", certificateID, ref)
		if err != nil {
			return err
		}
		if changed == 0 {
			return problem.Invalid(fmt.Sprintf("targets[%d]", i), "there is no free target %q", ref)
		}
	}
	return nil
}

func (placing) Redeploy(ctx context.Context, tx *db.Tx, certificateID string) ([]string, error) {
	return db.All[string](ctx, tx, `SELECT 'dep_of_' || t.name FROM target t
		JOIN version v ON v.certificate_id = t.certificate_id AND v.agent_id = t.agent_id
		WHERE t.certificate_id = $1 AND v.activated_at IS NOT NULL AND v.superseded_at IS NULL ORDER BY t.name`, certificateID)
}
