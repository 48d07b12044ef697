package netx

import (
	"crypto/tls"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/problem"
)

var discard = slog.New(slog.DiscardHandler)

func newServerCA(t testing.TB, now time.Time) []byte {
	t.Helper()
	ca, err := NewServerCA(now)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func newSelfMade(t testing.TB, now func() time.Time) *SelfMadeCertificate {
	t.Helper()
	s, err := NewSelfMadeCertificate(newServerCA(t, now()), []string{"localhost", "127.0.0.1"}, now, discard)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSelfMadeCertificateIsTrustedByItsFingerprint(t *testing.T) {
	t.Parallel()
	s := newSelfMade(t, time.Now)
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
	s := newSelfMade(t, time.Now)
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

func TestSelfMadeLeafIsRenewedInTime(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newSelfMade(t, c.Now)
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
	ca := newServerCA(t, c.Now())
	c.advance(caLifetime - 24*time.Hour)
	s, err := NewSelfMadeCertificate(ca, []string{"localhost"}, c.Now, discard)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := s.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	if !leaf.Leaf.NotAfter.Equal(s.CA().NotAfter) {
		t.Errorf("the leaf ends on %s, its CA on %s", leaf.Leaf.NotAfter, s.CA().NotAfter)
	}
}

func TestServersWithOneCAAreTrustedAsOne(t *testing.T) {
	t.Parallel()
	ca := newServerCA(t, time.Now())
	var fingerprints []string
	for range 2 {
		s, err := NewSelfMadeCertificate(ca, []string{"localhost"}, time.Now, discard)
		if err != nil {
			t.Fatal(err)
		}
		fingerprints = append(fingerprints, s.Fingerprint())
	}
	if fingerprints[0] != fingerprints[1] {
		t.Errorf("two servers with one CA show %v", fingerprints)
	}
}

func TestACAThatCannotBeUsedStopsTheStart(t *testing.T) {
	t.Parallel()
	c := newClock()
	ca := newServerCA(t, c.Now())
	c.advance(caLifetime + time.Hour)
	_, err := NewSelfMadeCertificate(ca, []string{"localhost"}, c.Now, discard)
	if p, ok := problem.As(err); !ok || p.Remedy == "" || !strings.Contains(p.Message, "expired") {
		t.Errorf("got %v, want a problem that says that the CA expired and what to do", err)
	}
	_, err = NewSelfMadeCertificate(ca[:len(ca)/2], []string{"localhost"}, time.Now, discard)
	checkError(t, err, "the server's own CA")
}
