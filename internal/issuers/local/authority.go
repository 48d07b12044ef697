package local

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"sync"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
)

// Authority is the CA of one local issuer, with its key open. It is safe for
// concurrent use.
type Authority struct {
	local    *Local
	issuerID string
	chain    pki.Chain
	signing  *x509.Certificate
	parsed   []*x509.Certificate // the chain: the signing certificate and what stands above it
	key      crypto.Signer

	// double stands in for the CA when a certificate is rehearsed.
	double func() (*double, error)
}

func (l *Local) newAuthority(row caRow) (*Authority, error) {
	parsed, err := row.Chain.Certificates()
	if err != nil {
		return nil, err
	}
	text, err := l.box.Open(sealPurpose(row.ID, "signing_key"), row.SigningKey)
	if err != nil {
		return nil, fmt.Errorf("open the signing key: %w", err)
	}
	key, err := pki.DecodeKey(text)
	if err != nil {
		return nil, err
	}
	a := &Authority{local: l, issuerID: row.IssuerID, chain: row.Chain, signing: parsed[0], parsed: parsed, key: key}
	a.double = sync.OnceValues(func() (*double, error) { return newDouble(parsed) })
	return a, nil
}

// Chain gives the certificates of the CA, the signing one first and the root
// last.
func (a *Authority) Chain() pki.Chain { return a.chain }

// Check tells whether the CA could issue now.
func (a *Authority) Check(ctx context.Context) error {
	if _, err := a.Shards(ctx); err != nil {
		return err
	}
	now := a.local.now()
	for _, certificate := range a.parsed {
		if now.Before(certificate.NotBefore) {
			return problem.Conflict("the CA certificate %q is not valid before %s", certificate.Subject, moment(certificate.NotBefore)).
				Hint("check the clock of this server")
		}
		if now.After(certificate.NotAfter) {
			return problem.Conflict("the CA certificate %q expired at %s", certificate.Subject, moment(certificate.NotAfter)).
				Hint("create another issuer and move the certificates to it")
		}
	}
	return nil
}

// Shards is how many parts the CRL has by now. It answers a not-found problem
// when the CA is no more.
func (a *Authority) Shards(ctx context.Context) (int, error) {
	last, err := readShard(ctx, a.local.db.Read(), a.issuerID)
	if db.IsNoRows(err) {
		return 0, problem.NotFound("CA for issuer", a.issuerID)
	}
	return last + 1, err
}

// notAfter is when the first certificate of the CA expires.
func (a *Authority) notAfter() time.Time {
	first := a.parsed[0].NotAfter
	for _, certificate := range a.parsed[1:] {
		if certificate.NotAfter.Before(first) {
			first = certificate.NotAfter
		}
	}
	return first
}

// serialBytes is the length of the random serials: as much as can be without
// a sign bit making them longer than the 20 bytes of RFC 5280, 4.1.2.2, and
// more than the 64 bits that the Baseline Requirements, 7.1, demand.
const serialBytes = 16

func newSerial() *big.Int {
	for {
		var digits [serialBytes]byte
		_, _ = rand.Read(digits[:]) // never fails
		if serial := new(big.Int).SetBytes(digits[:]); serial.Sign() > 0 {
			return serial
		}
	}
}

func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }
