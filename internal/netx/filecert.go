package netx

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
)

// recheck is how often handshakes look whether the files have changed.
const recheck = time.Second

// FileCertificate is a certificate that an operator keeps in two PEM files. A
// handshake looks at most once a second whether they changed, by their inodes,
// times and sizes, which also sees the symlink swaps of Kubernetes. Files that
// cannot be used, such as a new certificate whose key is not written yet, are
// logged, and the certificate in use is kept.
type FileCertificate struct {
	certPath, keyPath string
	now               func() time.Time
	log               *slog.Logger

	mu       sync.Mutex
	checked  time.Time
	loaded   *loadedPair
	rejected filePair // the files whose rejection is logged already
}

// loadedPair is a usable certificate and the state of the files it came from.
type loadedPair struct {
	files       filePair
	certificate *tls.Certificate
	ca          *x509.Certificate
}

// filePair is the state of both files at one time; nil is a missing file.
type filePair struct{ cert, key os.FileInfo }

// NewFileCertificate loads the files.
func NewFileCertificate(certPath, keyPath string, now func() time.Time, log *slog.Logger) (*FileCertificate, error) {
	f := &FileCertificate{certPath: certPath, keyPath: keyPath, now: now, log: log, checked: now()}
	loaded, err := f.load(f.stat())
	if err != nil {
		return nil, problem.Invalid("tls_certificate", "%v", err).
			Hint("tls_certificate and tls_key must name PEM files of one certificate and its unencrypted key, readable by this user")
	}
	if !now().Before(loaded.certificate.Leaf.NotAfter) {
		log.Warn("the server's certificate has expired", "file", certPath, "not_after", loaded.certificate.Leaf.NotAfter)
	}
	f.loaded = loaded
	return f, nil
}

// CA implements ServerCertificate.
func (f *FileCertificate) CA() *x509.Certificate { return f.current().ca }

// Fingerprint implements ServerCertificate.
func (f *FileCertificate) Fingerprint() string { return pki.Fingerprint(f.CA().Raw) }

// GetCertificate implements ServerCertificate.
func (f *FileCertificate) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return f.current().certificate, nil
}

// current gives the certificate in use, after a look at the files when it is
// time.
func (f *FileCertificate) current() *loadedPair {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if now.Sub(f.checked) < recheck {
		return f.loaded
	}
	f.checked = now
	files := f.stat()
	if files.same(f.loaded.files) {
		return f.loaded
	}
	loaded, err := f.load(files)
	if err != nil {
		if !files.same(f.rejected) {
			f.log.Warn("the changed certificate of the server cannot be used, the old one is kept", "file", f.certPath, "error", err)
			f.rejected = files
		}
		return f.loaded
	}
	f.announce(loaded)
	f.loaded = loaded
	return loaded
}

// announce logs a new certificate, louder when clients that pin the old CA
// will not accept it.
func (f *FileCertificate) announce(next *loadedPair) {
	f.log.Info("the server's certificate was replaced", "file", f.certPath, "not_after", next.certificate.Leaf.NotAfter)
	if before, after := pki.Fingerprint(f.loaded.ca.Raw), pki.Fingerprint(next.ca.Raw); before != after {
		f.log.Warn("the last certificate of the chain changed: clients that pin the old one refuse the server",
			"old_sha256", before, "new_sha256", after)
	}
}

func (f *FileCertificate) stat() filePair {
	// A missing file shows when it is read; its error says more.
	cert, _ := os.Stat(f.certPath)
	key, _ := os.Stat(f.keyPath)
	return filePair{cert, key}
}

// load reads both files. Their state was taken before, so that a change while
// they are read is seen the next time.
func (f *FileCertificate) load(files filePair) (*loadedPair, error) {
	pair, err := tls.LoadX509KeyPair(f.certPath, f.keyPath)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", f.certPath, f.keyPath, err)
	}
	ca, err := x509.ParseCertificate(pair.Certificate[len(pair.Certificate)-1])
	if err != nil {
		return nil, fmt.Errorf("last certificate in %s: %w", f.certPath, err)
	}
	return &loadedPair{files, &pair, ca}, nil
}

func (p filePair) same(q filePair) bool {
	return sameFile(p.cert, q.cert) && sameFile(p.key, q.key)
}

func sameFile(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
