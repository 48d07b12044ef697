package netx

import (
	"bytes"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/problem"
)

// served gives the serial number that a client would see now.
func served(t testing.TB, f *FileCertificate) string {
	t.Helper()
	certificate, err := f.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return certificate.Leaf.SerialNumber.String()
}

func serial(i *identity) string { return i.certificate.SerialNumber.String() }

func TestPinIsTheLastCertificateOfTheFile(t *testing.T) {
	t.Parallel()
	root := newIdentity(t, nil, authority)
	leaf := newIdentity(t, root, server)
	alone := newIdentity(t, nil, server)
	for _, test := range []struct {
		name  string
		chain []*identity
		want  *identity
	}{
		{"chain", []*identity{leaf, root}, root},
		{"leaf alone", []*identity{alone}, alone},
	} {
		certPath, keyPath := test.chain[0].write(t, t.TempDir(), test.chain[1:]...)
		f, err := NewFileCertificate(certPath, keyPath, time.Now, discard)
		if err != nil {
			t.Fatal(err)
		}
		if f.Fingerprint() != test.want.fingerprint() {
			t.Errorf("%s: pinned %s, want %s", test.name, f.CA().Subject, test.want.certificate.Subject)
		}
	}
}

func TestChangedFilesAreServedAfterASecond(t *testing.T) {
	t.Parallel()
	c, dir := newClock(), t.TempDir()
	root := newIdentity(t, nil, authority)
	before, after := newIdentity(t, root, server), newIdentity(t, root, server)
	certPath, keyPath := before.write(t, dir, root)
	f, err := NewFileCertificate(certPath, keyPath, c.Now, discard)
	if err != nil {
		t.Fatal(err)
	}
	after.write(t, dir, root)
	if served(t, f) != serial(before) {
		t.Error("the files were read again within a second")
	}
	c.advance(recheck)
	if served(t, f) != serial(after) {
		t.Error("the new certificate is not served")
	}
}

func TestHalfWrittenPairKeepsTheOldCertificate(t *testing.T) {
	t.Parallel()
	c, dir := newClock(), t.TempDir()
	before, after := newIdentity(t, nil, server), newIdentity(t, nil, server)
	certPath, keyPath := before.write(t, dir)
	var log bytes.Buffer
	f, err := NewFileCertificate(certPath, keyPath, c.Now, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}

	oldKey, err := os.ReadFile(keyPath)
	if err != nil {
		t.Fatal(err)
	}
	after.write(t, dir)
	newKey, err := os.ReadFile(keyPath)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, keyPath, oldKey) // the certificate is new, the key is not yet
	for range 3 {
		c.advance(recheck)
		if served(t, f) != serial(before) {
			t.Fatal("a certificate without its key is served")
		}
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("the mismatch was logged %d times, want once:\n%s", n, &log)
	}

	if err := os.Remove(keyPath); err != nil {
		t.Fatal(err)
	}
	c.advance(recheck)
	if served(t, f) != serial(before) {
		t.Fatal("a missing key stopped the old certificate")
	}

	writeFile(t, keyPath, newKey)
	c.advance(recheck)
	if served(t, f) != serial(after) {
		t.Error("the complete pair is not served")
	}
	if !strings.Contains(log.String(), "new_sha256="+after.fingerprint()) {
		t.Errorf("the changed pin was not logged:\n%s", &log)
	}
}

func TestKubernetesSymlinkSwapIsSeen(t *testing.T) {
	t.Parallel()
	c, dir := newClock(), t.TempDir()
	before, after := newIdentity(t, nil, server), newIdentity(t, nil, server)
	for name, i := range map[string]*identity{"..1": before, "..2": after} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		i.write(t, filepath.Join(dir, name))
	}
	link := func(target, name string) {
		t.Helper()
		temporary := filepath.Join(dir, "..tmp")
		if err := os.Symlink(target, temporary); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(temporary, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("..1", "..data")
	link("..data/tls.crt", "tls.crt")
	link("..data/tls.key", "tls.key")
	f, err := NewFileCertificate(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), c.Now, discard)
	if err != nil {
		t.Fatal(err)
	}
	link("..2", "..data")
	c.advance(recheck)
	if served(t, f) != serial(after) {
		t.Error("the swapped certificate is not served")
	}
}

func TestUnusableFilesStopTheStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certPath, _ := newIdentity(t, nil, server).write(t, dir)
	for _, keyPath := range []string{filepath.Join(dir, "missing.key"), certPath} {
		_, err := NewFileCertificate(certPath, keyPath, time.Now, discard)
		p, ok := problem.As(err)
		if !ok || p.Field != "tls_certificate" || p.Remedy == "" || !strings.Contains(p.Message, keyPath) {
			t.Errorf("got %v, want a problem of tls_certificate that names %s", err, keyPath)
		}
	}
}

func TestExpiredFileCertificateIsLogged(t *testing.T) {
	t.Parallel()
	expired := newIdentity(t, nil, func(c *x509.Certificate) { server(c); c.NotAfter = time.Now().Add(-time.Minute) })
	certPath, keyPath := expired.write(t, t.TempDir())
	var log bytes.Buffer
	if _, err := NewFileCertificate(certPath, keyPath, time.Now, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "has expired") {
		t.Errorf("no warning in the log: %s", &log)
	}
}
