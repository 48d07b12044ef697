// Package targetstest helps to test kinds of target: the conformance suite that
// each of them passes, certificates, and real servers on free ports.
package targetstest

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/pki"
)

// CA is a root and an intermediate for tests.
type CA struct {
	Root         *x509.Certificate
	intermediate *x509.Certificate
	key          crypto.Signer
}

// NewCA makes a CA.
func NewCA(t testing.TB) *CA {
	t.Helper()
	rootKey := newKey(t, "ecdsa-p256")
	root := sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "Test Root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, rootKey.Public(), rootKey)
	key := newKey(t, "ecdsa-p256")
	intermediate := sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "Test Intermediate"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, root, key.Public(), rootKey)
	return &CA{Root: root, intermediate: intermediate, key: key}
}

// Pool gives the trust of a client.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.Root)
	return pool
}

// Issue makes a new key and a version for the names.
func (ca *CA) Issue(t testing.TB, kt pki.KeyType, names ...string) pki.Bundle {
	t.Helper()
	parsed, err := pki.ParseNames(names)
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t, kt)
	leaf := sign(t, &x509.Certificate{
		DNSNames: parsed.DNS, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca.intermediate, key.Public(), ca.key)
	return pki.Bundle{Chain: pki.Chain{leaf.Raw, ca.intermediate.Raw}, Key: key, Names: parsed}
}

// Fingerprint gives the fingerprint of a bundle's leaf.
func Fingerprint(b pki.Bundle) string { return pki.Fingerprint(b.Chain[0]) }

func newKey(t testing.TB, kt pki.KeyType) crypto.Signer {
	t.Helper()
	key, err := pki.GenerateKey(kt)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign issues a certificate for a day; without a parent it is self-signed.
func sign(t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(24 * time.Hour)
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
