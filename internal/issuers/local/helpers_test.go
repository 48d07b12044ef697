package local

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/testkit"
)

var start = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

// linter is shared, as choosing the lints takes a moment.
var linter = sync.OnceValue(pki.NewLinter)

const statusURL pki.StatusURL = "http://pki.example.com"

// replica is a Local as one of several replicas on a database has it.
func replica(t testing.TB, d *db.DB, clock *testkit.Clock, edit func(*Config)) *Local {
	t.Helper()
	box, err := secret.NewBox(bytes.Repeat([]byte{7}, secret.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{StatusURL: statusURL}
	if edit != nil {
		edit(&cfg)
	}
	l, err := New(d, box, linter(), clock.Now, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// found makes the CA of a new issuer.
func found(t testing.TB, l *Local, settings string) (issuerID string, ca *Authority) {
	t.Helper()
	issuerID = id.New("iss")
	if err := l.db.InTx(t.Context(), func(tx *db.Tx) error {
		return l.Found(t.Context(), tx, issuerID, json.RawMessage(settings))
	}); err != nil {
		t.Fatalf("make CA: %v", err)
	}
	ca, err := l.Open(t.Context(), issuerID)
	if err != nil {
		t.Fatalf("open CA: %v", err)
	}
	return issuerID, ca
}

// newCA makes a CA on SQLite with a clock that stands at start.
func newCA(t testing.TB, settings string) (*Authority, *testkit.Clock) {
	t.Helper()
	clock := testkit.NewClock(start)
	_, ca := found(t, replica(t, testkit.NewDB(t, db.SQLite), clock, nil), settings)
	return ca, clock
}

// keys are made once per type, as RSA keys take their time.
var keys = func() map[pki.KeyType]func() (crypto.Signer, error) {
	made := map[pki.KeyType]func() (crypto.Signer, error){}
	for _, kt := range pki.KeyTypes {
		made[kt] = sync.OnceValues(func() (crypto.Signer, error) { return pki.GenerateKey(kt) })
	}
	return made
}()

func keyOf(t testing.TB, kt pki.KeyType) crypto.Signer {
	t.Helper()
	key, err := keys[kt]()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// order is a request as an order makes it: Save keeps the progress in it.
type order struct{ pki.Request }

func newOrder(t testing.TB, kt pki.KeyType, commonName string, names ...string) *order {
	t.Helper()
	parsed, err := pki.ParseNames(names)
	if err != nil {
		t.Fatal(err)
	}
	o := &order{pki.Request{
		OrderID: id.New("ord"), CommonName: commonName, Names: parsed, KeyType: kt,
		Lifetime: 90 * 24 * time.Hour, Usages: []string{pki.ServerAuth},
	}}
	if o.CSR, err = pki.CreateCSR(keyOf(t, kt), commonName, parsed); err != nil {
		t.Fatal(err)
	}
	o.Save = func(_ context.Context, progress json.RawMessage) error {
		o.Progress = progress
		return nil
	}
	return o
}

func issue(t testing.TB, ca *Authority, o *order) (*x509.Certificate, pki.Issued) {
	t.Helper()
	issued, err := ca.Issue(t.Context(), o.Request)
	if err != nil {
		t.Fatalf("issue for %v: %v", o.Names, err)
	}
	leaf, err := issued.Chain.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	return leaf, issued
}

// refused checks that an error is a problem of a kind with a field.
func refused(t testing.TB, err error, kind problem.Kind, field string) {
	t.Helper()
	p, ok := problem.As(err)
	if !ok || p.Kind != kind || p.Field != field {
		t.Errorf("the error is %v, want a problem %s about %q", err, kind, field)
	}
}

func write(t testing.TB, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// opensslVerify checks a chain, which has no root, as a client that trusts the
// root would.
func opensslVerify(t testing.TB, chain pki.Chain, root []byte, args ...string) {
	t.Helper()
	dir := t.TempDir()
	command := append([]string{
		"verify", "-x509_strict", "-attime", "1788264000", // start
		"-CAfile", write(t, dir, "root.pem", pki.Chain{root}.PEM()),
		"-untrusted", write(t, dir, "chain.pem", chain.PEM()),
	}, args...)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "openssl", append(command, write(t, dir, "leaf.pem", chain[:1].PEM()))...).CombinedOutput()
	if err != nil {
		t.Errorf("openssl verify: %v\n%s", err, out)
	}
}

func root(ca *Authority) []byte { return ca.Chain()[len(ca.Chain())-1] }
