package status

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/issuers/local"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/queue"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/testkit"
)

// linter is shared, as choosing the lints takes a moment.
var linter = sync.OnceValue(pki.NewLinter)

// localAuthorities finds the CAs of local issuers, as the program does.
type localAuthorities struct{ *local.Local }

func (a localAuthorities) Authority(ctx context.Context, issuerID string) (Authority, error) {
	return a.Open(ctx, issuerID)
}

// world is a CA whose status is served, with the clock of everything in it.
type world struct {
	*Service
	t        *testing.T
	db       *db.DB
	clock    *testkit.Clock
	local    *local.Local
	issuerID string
	ca       *local.Authority
	server   *httptest.Server
}

// newWorld starts on the time of the wall clock, which OpenSSL looks at.
func newWorld(t *testing.T, d *db.DB) *world {
	t.Helper()
	w := &world{t: t, db: d, clock: testkit.NewClock(time.Now()), issuerID: id.New("iss")}
	w.server = httptest.NewUnstartedServer(nil)
	w.local = w.driver("http://" + w.server.Listener.Addr().String())
	w.Service = w.replica(localAuthorities{w.local})
	w.server.Config.Handler = w.Service
	w.server.Start()
	t.Cleanup(w.server.Close)
	w.tx(func(tx *db.Tx) error { return w.local.Found(t.Context(), tx, w.issuerID, nil) })
	w.insertOwners()
	ca, err := w.local.Open(t.Context(), w.issuerID)
	if err != nil {
		t.Fatal(err)
	}
	w.ca = ca
	return w
}

func eachEngine(t *testing.T, test func(*testing.T, *world)) {
	t.Helper()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) { test(t, newWorld(t, d)) })
}

func testBox(t *testing.T) *secret.Box {
	t.Helper()
	box, err := secret.NewBox(bytes.Repeat([]byte{7}, secret.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return box
}

func (w *world) driver(statusURL string) *local.Local {
	w.t.Helper()
	driver, err := local.New(w.db, testBox(w.t), linter(), w.clock.Now, local.Config{StatusURL: pki.StatusURL(statusURL), ShardSize: 2})
	if err != nil {
		w.t.Fatal(err)
	}
	return driver
}

// replica makes a Service as a replica of the same program has it.
func (w *world) replica(authorities Authorities) *Service {
	w.t.Helper()
	inserter, err := queue.NewInserter(w.db)
	if err != nil {
		w.t.Fatal(err)
	}
	s := New(Config{
		DB: w.db, Box: testBox(w.t), Queue: inserter, Authorities: authorities, Now: w.clock.Now, Logger: slog.New(slog.DiscardHandler),
	})
	w.t.Cleanup(s.Close)
	return s
}

func (w *world) tx(fn func(*db.Tx) error) {
	w.t.Helper()
	if err := w.db.InTx(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) exec(query string, args ...any) {
	w.t.Helper()
	w.tx(func(tx *db.Tx) error {
		_, err := db.Exec(w.t.Context(), tx, query, args...)
		return err
	})
}

// insertOwners stores what versions refer to.
func (w *world) insertOwners() {
	now := w.clock.Now()
	w.exec(`INSERT INTO issuer (id, name, type, revision, settings, enabled, created_at, updated_at)
		VALUES ($1, 'local', 'local', 1, '{}', TRUE, $2, $2)`, w.issuerID, now)
	w.exec(`INSERT INTO profile (id, name, revision, spec, created_at, updated_at) VALUES ('prf', 'profile', 1, '{}', $1, $1)`, now)
	w.exec(`INSERT INTO agent (id, name, revision, public_key, labels, version, os, token_id, created_at, updated_at)
		VALUES ('agt', 'agent', 1, $1, '{}', '', '', '', $2, $2)`, []byte("key"), now)
	w.exec(`INSERT INTO certificate (id, name, revision, common_name, names, key_type, lifetime_seconds, profile_id, issuer_id,
			owner, tags, renewal, created_at, updated_at)
		VALUES ('crt', 'certificate', 1, '', '{}', 'ecdsa-p256', 1, 'prf', $1, '', '[]', '{}', $2, $2)`, w.issuerID, now)
}

// version is an issued certificate and its CRL shard.
type version struct {
	*x509.Certificate
	chain pki.Chain
	shard int
}

// issue has the CA issue a certificate and stores it.
func (w *world) issue() version {
	w.t.Helper()
	key, err := pki.GenerateKey(pki.ECDSAP256)
	if err != nil {
		w.t.Fatal(err)
	}
	names := pki.Names{DNS: []string{"www.example.com"}}
	csr, err := pki.CreateCSR(key, "", names)
	if err != nil {
		w.t.Fatal(err)
	}
	issued, err := w.ca.Issue(w.t.Context(), pki.Request{
		CSR: csr, Names: names, KeyType: pki.ECDSAP256, Lifetime: 72 * time.Hour, Usages: []string{pki.ServerAuth},
		Save: func(context.Context, json.RawMessage) error { return nil },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	leaf, err := issued.Chain.Leaf()
	if err != nil {
		w.t.Fatal(err)
	}
	v := version{Certificate: leaf, chain: issued.Chain, shard: issued.Shard}
	w.store(v)
	return v
}

func (w *world) store(v version) {
	w.t.Helper()
	now, orderID := w.clock.Now(), id.New("ord")
	w.exec(`INSERT INTO cert_order (id, certificate_id, agent_id, reason, state, state_reason, attempts, spec, created_at, updated_at)
		VALUES ($1, 'crt', 'agt', '', 'done', '', 1, '{}', $2, $2)`, orderID, now)
	w.exec(`INSERT INTO version (id, certificate_id, order_id, agent_id, issuer_id, serial, fingerprint, subject, key_type, key_hash,
			chain, shard, not_before, not_after, renew_at, expiring_at, created_at)
		VALUES ($1, 'crt', $2, 'agt', $3, $4, $5, '', '', '', $6, $7, $8, $9, $9, $9, $10)`,
		id.New("ver"), orderID, w.issuerID, pki.SerialHex(v.SerialNumber), pki.Fingerprint(v.Raw), v.chain, v.shard,
		v.NotBefore, v.NotAfter, now)
}

// revoke marks a version as the inventory does.
func (w *world) revoke(v version, reason int) {
	w.t.Helper()
	serial := pki.SerialHex(v.SerialNumber)
	w.tx(func(tx *db.Tx) error {
		_, err := db.Exec(w.t.Context(), tx, `UPDATE version SET revoked_at = $1, revocation_reason = $2 WHERE issuer_id = $3 AND serial = $4`,
			w.clock.Now(), reason, w.issuerID, serial)
		if err != nil {
			return err
		}
		return w.Revoked(w.t.Context(), tx, w.issuerID, serial, v.shard)
	})
}

// issuer is the certificate that signs.
func (w *world) issuer() *x509.Certificate {
	w.t.Helper()
	certificate, err := w.ca.Chain().Leaf()
	if err != nil {
		w.t.Fatal(err)
	}
	return certificate
}

// do sends a request and gives the answer with its body.
func do(t *testing.T, method, url string, body []byte, header http.Header) (*http.Response, []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name := range header {
		request.Header.Set(name, header.Get(name))
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, content
}

func get(t *testing.T, url string) (*http.Response, []byte) {
	t.Helper()
	return do(t, http.MethodGet, url, nil, nil)
}

// crlOf fetches the CRL that a certificate names.
func (w *world) crlOf(v version) *x509.RevocationList {
	w.t.Helper()
	answer, body := get(w.t, v.CRLDistributionPoints[0])
	if answer.StatusCode != http.StatusOK {
		w.t.Fatalf("GET %s: %s %s", v.CRLDistributionPoints[0], answer.Status, body)
	}
	list, err := x509.ParseRevocationList(body)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(w.issuer()); err != nil {
		w.t.Fatalf("signature of the CRL: %v", err)
	}
	return list
}

func lists(list *x509.RevocationList, v version) bool {
	for _, entry := range list.RevokedCertificateEntries {
		if entry.SerialNumber.Cmp(v.SerialNumber) == 0 {
			return true
		}
	}
	return false
}

// ask sends an OCSP request for a certificate with POST.
func (w *world) ask(v version) *ocsp.Response {
	w.t.Helper()
	request, err := ocsp.CreateRequest(v.Certificate, w.issuer(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	_, body := do(w.t, http.MethodPost, v.OCSPServer[0], request, nil)
	response, err := ocsp.ParseResponseForCert(body, v.Certificate, w.issuer())
	if err != nil {
		w.t.Fatalf("OCSP response: %v", err)
	}
	return response
}

// openssl runs the tool and gives all it prints; whether it should fail is the
// caller's business.
func openssl(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, "openssl", args...)
	command.Env = append(os.Environ(), "no_proxy=*", "NO_PROXY=*")
	out, _ := command.CombinedOutput()
	return string(out)
}

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (w *world) rootFile() string {
	w.t.Helper()
	chain := w.ca.Chain()
	return write(w.t, "root.pem", chain[len(chain)-1:].PEM())
}

func (w *world) issuerFile() string {
	w.t.Helper()
	return write(w.t, "issuer.pem", w.ca.Chain()[:1].PEM())
}

func (w *world) leafFile(v version) string {
	w.t.Helper()
	return write(w.t, "leaf.pem", v.chain[:1].PEM())
}

func crlPEM(list *x509.RevocationList) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list.Raw})
}
