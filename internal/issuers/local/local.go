// Package local is the built-in CA: the issuer type "local".
//
// Each local issuer has one CA, made when the issuer is created and never
// changed afterwards: a root and an intermediate of its own, or a signing
// certificate that an operator brought. The intermediate signs everything; the
// root key is kept sealed and is not used again.
//
//	root (10 years, P-384) ── intermediate (5 years, signs) ── leaves, CRLs, OCSP responder
//
// All replicas are one CA, as the row in local_ca is all there is to it. A
// certificate is made in this order, which no crash can put in disorder:
//
//	check the request
//	→ reserve serial, validity and CRL shard
//	→ rehearse: sign a twin with a throw-away key, lint it, check it against
//	  the constraints of the CA's own certificates
//	→ save what was reserved with the order
//	→ sign
//
// Signatures are deterministic (RFC 6979 for ECDSA; PKCS #1 v1.5 and Ed25519
// are so by nature), so a repeated attempt gives the same certificate byte for
// byte: one order never has two certificates.
package local

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
)

// Type is the issuer type of this driver.
const Type = "local"

// The values that a zero Config stands for.
const (
	DefaultShardSize = 10_000
	DefaultOCSPLife  = 30 * 24 * time.Hour
)

// Config is what an operator sets for all local issuers together.
type Config struct {
	// StatusURL is where the world reaches CRLs, OCSP and CA certificates, such
	// as http://pki.example.com. It stands in issued certificates; when it is
	// empty they do not say where their status can be asked.
	StatusURL pki.StatusURL
	// ShardSize is the number of certificates that share one part of the CRL.
	ShardSize int
	// OCSPLife is the lifetime of the certificate of an OCSP responder.
	OCSPLife time.Duration
}

// Local makes and opens the CAs of local issuers.
type Local struct {
	db     *db.DB
	box    *secret.Box
	linter *pki.Linter
	now    func() time.Time
	cfg    Config

	mu   sync.Mutex
	open map[string]*Authority // by issuer id
}

// New makes the driver. It refuses a status URL that certificates cannot name.
func New(d *db.DB, box *secret.Box, linter *pki.Linter, now func() time.Time, cfg Config) (*Local, error) {
	if cfg.StatusURL != "" {
		// HTTPS would be circular: a client would have to check the status of
		// the certificate of the status server first (RFC 5280, 8).
		parsed, err := url.Parse(string(cfg.StatusURL))
		if err != nil || parsed.Scheme != "http" || parsed.Host == "" || parsed.User != nil || parsed.RawQuery != "" || parsed.Fragment != "" {
			return nil, problem.Invalid("status_url", "%q cannot stand in certificates", cfg.StatusURL).
				Hint("use a plain HTTP URL, as in http://pki.example.com; what it serves is signed")
		}
	}
	cfg.StatusURL = pki.StatusURL(strings.TrimRight(string(cfg.StatusURL), "/"))
	if cfg.ShardSize <= 0 {
		cfg.ShardSize = DefaultShardSize
	}
	if cfg.OCSPLife <= 0 {
		cfg.OCSPLife = DefaultOCSPLife
	}
	return &Local{db: d, box: box, linter: linter, now: now, cfg: cfg, open: map[string]*Authority{}}, nil
}

// Open gives the CA of an issuer. It is read from the database once, as it
// never changes.
func (l *Local) Open(ctx context.Context, issuerID string) (*Authority, error) {
	l.mu.Lock()
	known := l.open[issuerID]
	l.mu.Unlock()
	if known != nil {
		return known, nil
	}
	row, err := readCA(ctx, l.db.Read(), issuerID)
	if db.IsNoRows(err) {
		return nil, problem.NotFound("CA for issuer", issuerID)
	}
	if err != nil {
		return nil, problem.Temporary(err, 0)
	}
	authority, err := l.newAuthority(row)
	if err != nil {
		return nil, fmt.Errorf("open CA of issuer %s: %w", issuerID, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if known := l.open[issuerID]; known != nil {
		return known, nil
	}
	l.open[issuerID] = authority
	return authority, nil
}
