package netx

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"sync"
	"time"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
)

const (
	caLifetime   = 10 * 365 * 24 * time.Hour
	leafLifetime = 90 * 24 * time.Hour

	// caWarning is how long before its end the log begins to name the CA: agents
	// pin it, so replacing it takes preparation.
	caWarning = 180 * 24 * time.Hour

	// clockSkew is how far the clock of a client may lag behind.
	clockSkew = time.Hour
)

// SelfMadeCertificate is the server's certificate when none is configured: a
// CA of its own, which is kept and which clients pin, and a leaf that lives in
// memory only. The leaf is made anew at each start, for the names in force
// then, and again when two thirds of its life are over.
type SelfMadeCertificate struct {
	ca        *x509.Certificate
	caKey     crypto.Signer
	hostnames []string
	now       func() time.Time
	log       *slog.Logger

	mu      sync.Mutex
	leaf    *tls.Certificate
	renewAt time.Time
}

// NewSelfMadeCertificate makes the certificate of a server whose CA is what
// NewServerCA made.
func NewSelfMadeCertificate(serverCA []byte, hostnames []string, now func() time.Time, log *slog.Logger) (*SelfMadeCertificate, error) {
	pair, err := tls.X509KeyPair(serverCA, serverCA)
	if err != nil {
		return nil, fmt.Errorf("the server's own CA: %w", err)
	}
	ca := pair.Leaf
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !ca.IsCA {
		return nil, errors.New("the server's own CA is not the certificate of a CA")
	}
	if !now().Before(ca.NotAfter) {
		return nil, problem.Invalid("tls_certificate", "the server's own CA expired on %s", ca.NotAfter.Format(time.DateOnly)).
			Hint("configure a certificate, and give the fingerprint of its CA to all agents")
	}
	s := &SelfMadeCertificate{ca: ca, caKey: key, hostnames: hostnames, now: now, log: log}
	if _, err := s.GetCertificate(nil); err != nil {
		return nil, err
	}
	return s, nil
}

// CA implements ServerCertificate.
func (s *SelfMadeCertificate) CA() *x509.Certificate { return s.ca }

// Fingerprint implements ServerCertificate.
func (s *SelfMadeCertificate) Fingerprint() string { return pki.Fingerprint(s.ca.Raw) }

// GetCertificate implements ServerCertificate; it renews the leaf when it is
// time.
func (s *SelfMadeCertificate) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if s.leaf != nil && now.Before(s.renewAt) {
		return s.leaf, nil
	}
	leaf, err := s.newLeaf(now)
	if err != nil {
		return nil, fmt.Errorf("make the server's certificate: %w", err)
	}
	s.leaf, s.renewAt = leaf, now.Add(leafLifetime*2/3)
	if s.ca.NotAfter.Sub(now) < caWarning {
		s.log.Warn("the server's own CA expires soon; agents pin it, so plan its replacement", "not_after", s.ca.NotAfter)
	}
	return leaf, nil
}

func (s *SelfMadeCertificate) newLeaf(now time.Time) (*tls.Certificate, error) {
	key, err := pki.GenerateKey(pki.ECDSAP256)
	if err != nil {
		return nil, err
	}
	template, err := newTemplate("certctl server", now, leafLifetime)
	if err != nil {
		return nil, err
	}
	if template.NotAfter.After(s.ca.NotAfter) {
		template.NotAfter = s.ca.NotAfter
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, name := range s.hostnames {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.ca, key.Public(), s.caKey)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der, s.ca.Raw}, PrivateKey: key, Leaf: parsed}, nil
}

// newTemplate is what CA and leaf have in common.
func newTemplate(commonName string, now time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: commonName},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(lifetime),
		BasicConstraintsValid: true,
	}, nil
}

// NewServerCA makes a CA for the certificates of the server's own listener, and
// gives its certificate and its private key in one PEM text.
func NewServerCA(now time.Time) ([]byte, error) {
	signer, err := pki.GenerateKey(pki.ECDSAP256)
	if err != nil {
		return nil, err
	}
	template, err := newTemplate("certctl server CA", now, caLifetime)
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.MaxPathLenZero = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		return nil, err
	}
	key, err := pki.EncodeKey(signer)
	return append(pki.Chain{der}.PEM(), key...), err
}
