package netx

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
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
// CA of its own, kept in the data directory and pinned by clients, and a leaf
// that lives in memory only. The leaf is made anew at each start, for the
// names in force then, and again when two thirds of its life are over.
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

// NewSelfMadeCertificate loads the CA from dataDir/tls, or makes it at the
// first start. Servers that start at the same time on one directory end up
// with one CA.
func NewSelfMadeCertificate(dataDir string, hostnames []string, now func() time.Time, log *slog.Logger) (*SelfMadeCertificate, error) {
	ca, key, err := loadCA(dataDir)
	if errors.Is(err, fs.ErrNotExist) {
		if err = createCA(dataDir, now()); err == nil {
			ca, key, err = loadCA(dataDir)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the server's own CA in %s: %w", caDir(dataDir), err)
	}
	if !now().Before(ca.NotAfter) {
		return nil, problem.Invalid("tls_certificate", "the server's own CA in %s expired on %s", caDir(dataDir), ca.NotAfter.Format(time.DateOnly)).
			Hint("remove that directory for a new CA and give its fingerprint to all agents, or configure a certificate")
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

func caDir(dataDir string) string { return filepath.Join(dataDir, "tls") }

func loadCA(dataDir string) (*x509.Certificate, crypto.Signer, error) {
	dir := caDir(dataDir)
	if _, err := os.Stat(dir); err != nil {
		return nil, nil, err
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key"))
	if err != nil {
		// Not ErrNotExist: a directory without its files is damage, and making a
		// new CA would lock all agents out without a word.
		return nil, nil, fmt.Errorf("%v; restore it from a backup, or remove the directory for a new CA and give its fingerprint to all agents", err) //nolint:errorlint // see above
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return nil, nil, errors.New("ca.crt is not the certificate of a CA")
	}
	return pair.Leaf, key, nil
}

// createCA makes the CA in a new directory and puts it in place as a whole, so
// that neither a crash nor a second server can leave half of it.
func createCA(dataDir string, now time.Time) error {
	certificate, key, err := newCA(now)
	if err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(dataDir, ".tls-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(temporary) }() // gone already when the rename succeeded
	if err := writeSynced(filepath.Join(temporary, "ca.key"), key, 0o600); err != nil {
		return err
	}
	if err := writeSynced(filepath.Join(temporary, "ca.crt"), certificate, 0o644); err != nil {
		return err
	}
	if err := errors.Join(syncDir(temporary), os.Rename(temporary, caDir(dataDir))); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil // another server was first; its CA is the one
		}
		return err
	}
	return syncDir(dataDir)
}

// newCA makes the CA and gives certificate and key in PEM.
func newCA(now time.Time) (certificate, key []byte, err error) {
	signer, err := pki.GenerateKey(pki.ECDSAP256)
	if err != nil {
		return nil, nil, err
	}
	template, err := newTemplate("certctl server CA", now, caLifetime)
	if err != nil {
		return nil, nil, err
	}
	template.IsCA = true
	template.MaxPathLenZero = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		return nil, nil, err
	}
	key, err = pki.EncodeKey(signer)
	return pki.Chain{der}.PEM(), key, err
}

// writeSynced writes a new file and waits until it is on the disk.
func writeSynced(path string, data []byte, mode fs.FileMode) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Sync(), file.Close())
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
