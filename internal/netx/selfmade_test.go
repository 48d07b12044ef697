package netx

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/problem"
)

var discard = slog.New(slog.DiscardHandler)

func newSelfMade(t testing.TB, dir string, now func() time.Time) *SelfMadeCertificate {
	t.Helper()
	s, err := NewSelfMadeCertificate(dir, []string{"localhost", "127.0.0.1"}, now, discard)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSelfMadeCertificateIsTrustedByItsFingerprint(t *testing.T) {
	t.Parallel()
	s := newSelfMade(t, t.TempDir(), time.Now)
	address := listenTLS(t, ServerTLS(s, tls.VersionTLS13))
	for _, host := range []string{"localhost", "127.0.0.1"} {
		dialer := tls.Dialer{Config: PinnedTLSConfig(s.Fingerprint(), host)}
		conn, err := dialer.DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatalf("connect as %s: %v", host, err)
		}
		_ = conn.Close()
	}
}

func TestTLS12IsRefusedUnlessAllowed(t *testing.T) {
	t.Parallel()
	s := newSelfMade(t, t.TempDir(), time.Now)
	for version, want := range map[uint16]string{tls.VersionTLS13: "protocol version", tls.VersionTLS12: ""} {
		config := PinnedTLSConfig(s.Fingerprint(), "localhost")
		config.MaxVersion = tls.VersionTLS12
		dialer := tls.Dialer{Config: config}
		conn, err := dialer.DialContext(t.Context(), "tcp", listenTLS(t, ServerTLS(s, version)))
		if err == nil {
			_ = conn.Close()
		}
		checkError(t, err, want)
	}
}

func TestSelfMadeCAStaysAndIsPrivate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := newSelfMade(t, dir, time.Now)
	second := newSelfMade(t, dir, time.Now)
	if first.Fingerprint() != second.Fingerprint() {
		t.Error("the second start made another CA")
	}
	for name, want := range map[string]fs.FileMode{".": 0o700, "ca.key": 0o600} {
		info, err := os.Stat(filepath.Join(dir, "tls", name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has the mode %o, want %o", name, info.Mode().Perm(), want)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the data directory holds %v (%v), want tls only", entries, err)
	}
}

func TestServersThatStartTogetherShareOneCA(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fingerprints := make([]string, 8)
	var starts sync.WaitGroup
	for i := range fingerprints {
		starts.Go(func() {
			s, err := NewSelfMadeCertificate(dir, []string{"localhost"}, time.Now, discard)
			if err != nil {
				t.Errorf("start %d: %v", i, err)
				return
			}
			fingerprints[i] = s.Fingerprint()
		})
	}
	starts.Wait()
	for _, f := range fingerprints {
		if f != fingerprints[0] {
			t.Fatalf("several CAs: %v", fingerprints)
		}
	}
}

func TestSelfMadeLeafIsRenewedInTime(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newSelfMade(t, t.TempDir(), c.Now)
	get := func() *tls.Certificate {
		t.Helper()
		leaf, err := s.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return leaf
	}
	first := get()
	c.advance(59 * 24 * time.Hour)
	if get() != first {
		t.Error("the leaf was renewed before two thirds of its life")
	}
	c.advance(2 * 24 * time.Hour)
	second := get()
	if second == first {
		t.Fatal("the leaf was not renewed after two thirds of its life")
	}
	if second.Leaf.NotAfter.Before(c.Now().Add(80 * 24 * time.Hour)) {
		t.Errorf("the new leaf ends on %s already", second.Leaf.NotAfter)
	}
}

func TestLeafDoesNotOutliveItsCA(t *testing.T) {
	t.Parallel()
	c := newClock()
	dir := t.TempDir()
	newSelfMade(t, dir, c.Now)
	c.advance(caLifetime - 24*time.Hour)
	s := newSelfMade(t, dir, c.Now)
	leaf, err := s.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	if !leaf.Leaf.NotAfter.Equal(s.CA().NotAfter) {
		t.Errorf("the leaf ends on %s, its CA on %s", leaf.Leaf.NotAfter, s.CA().NotAfter)
	}
}

func TestExpiredCAStopsTheStart(t *testing.T) {
	t.Parallel()
	c := newClock()
	dir := t.TempDir()
	newSelfMade(t, dir, c.Now)
	c.advance(caLifetime + time.Hour)
	_, err := NewSelfMadeCertificate(dir, []string{"localhost"}, c.Now, discard)
	if p, ok := problem.As(err); !ok || p.Remedy == "" || !strings.Contains(p.Message, "expired") {
		t.Errorf("got %v, want a problem that says that the CA expired and what to do", err)
	}
}

func TestDamagedCAIsNotReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	newSelfMade(t, dir, time.Now)
	if err := os.Remove(filepath.Join(dir, "tls", "ca.key")); err != nil {
		t.Fatal(err)
	}
	_, err := NewSelfMadeCertificate(dir, []string{"localhost"}, time.Now, discard)
	checkError(t, err, "restore it from a backup")
	if errors.Is(err, fs.ErrNotExist) {
		t.Error("the damage reads like a first start")
	}
}
