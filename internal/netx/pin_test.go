package netx

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/problem"
)

func TestPinnedTLSConfigVerifiesTheServer(t *testing.T) {
	t.Parallel()
	root := newIdentity(t, nil, authority)
	intermediate := newIdentity(t, root, authority)
	leaf := newIdentity(t, intermediate, server)
	alone := newIdentity(t, nil, server)
	expired := newIdentity(t, root, func(c *x509.Certificate) { server(c); c.NotAfter = time.Now().Add(-time.Minute) })
	foreign := newIdentity(t, newIdentity(t, nil, authority), server)
	clientOnly := newIdentity(t, root, func(c *x509.Certificate) {
		server(c)
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
	elsewhere := newIdentity(t, root, func(c *x509.Certificate) { c.DNSNames = []string{"elsewhere.example.com"} })

	tests := []struct {
		name   string
		served tls.Certificate
		pin    string
		host   string
		want   string // part of the error; empty when the server is trusted
	}{
		{"root sent along", leaf.with(intermediate, root), root.fingerprint(), "localhost", ""},
		{"by IP address", leaf.with(intermediate, root), root.fingerprint(), "127.0.0.1", ""},
		{"intermediate pinned", leaf.with(intermediate), intermediate.fingerprint(), "localhost", ""},
		{"leaf alone pinned", alone.with(), alone.fingerprint(), "localhost", ""},
		{"fingerprint as OpenSSL writes it", alone.with(), openSSLForm(alone.fingerprint()), "localhost", ""},
		{"another CA pinned", leaf.with(intermediate, root), alone.fingerprint(), "localhost", "is trusted"},
		{"pinned CA sent with a leaf it did not sign", foreign.with(root), root.fingerprint(), "localhost", "unknown authority"},
		{"expired leaf", expired.with(root), root.fingerprint(), "localhost", "expired"},
		{"leaf for clients", clientOnly.with(root), root.fingerprint(), "localhost", "incompatible key usage"},
		{"leaf for another name", elsewhere.with(root), root.fingerprint(), "localhost", "not localhost"},
		{"leaf without the address", elsewhere.with(root), root.fingerprint(), "127.0.0.1", "127.0.0.1"},
		{"malformed fingerprint", alone.with(), "abc", "localhost", "not a SHA-256 fingerprint"},
		{"no host", alone.with(), alone.fingerprint(), "", "no host"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dialer := tls.Dialer{Config: PinnedTLSConfig(test.pin, test.host)}
			conn, err := dialer.DialContext(t.Context(), "tcp", listenWith(t, test.served))
			if err == nil {
				_ = conn.Close()
			}
			checkError(t, err, test.want)
		})
	}
}

func TestAnotherCAIsToldWithBothFingerprints(t *testing.T) {
	t.Parallel()
	root := newIdentity(t, nil, authority)
	leaf := newIdentity(t, root, server)
	pin := strings.Repeat("0", 64)
	dialer := tls.Dialer{Config: PinnedTLSConfig(pin, "localhost")}
	_, err := dialer.DialContext(t.Context(), "tcp", listenWith(t, leaf.with(root)))
	var pinError *PinError
	if !errors.As(err, &pinError) || pinError.Want != pin || pinError.Got != root.fingerprint() {
		t.Errorf("got %v, want a PinError with %s and %s", err, pin, root.fingerprint())
	}
}

func TestFetchCA(t *testing.T) {
	t.Parallel()
	root := newIdentity(t, nil, authority)
	leaf := newIdentity(t, root, server)
	address := listenWith(t, leaf.with(root))
	foreign := listenWith(t, newIdentity(t, newIdentity(t, nil, authority), server).with(root))
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}

	for _, test := range []struct{ name, address, pin, want string }{
		{"with the fingerprint", address, root.fingerprint(), ""},
		{"by name", "localhost:" + port, root.fingerprint(), ""},
		{"on first use", address, "", ""},
		{"with another fingerprint", address, strings.Repeat("a", 64), "is trusted"},
		{"of a server it did not sign", foreign, root.fingerprint(), "unknown authority"},
		{"without a port", "localhost", "", "HOST:PORT"},
		{"with a malformed fingerprint", address, "abc", "not a SHA-256 fingerprint"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ca, err := FetchCA(t.Context(), test.address, test.pin)
			checkError(t, err, test.want)
			if err == nil && !ca.Equal(root.certificate) {
				t.Errorf("got the certificate %s, want the root", ca.Subject)
			}
		})
	}
}

func TestParseFingerprintNamesTheField(t *testing.T) {
	t.Parallel()
	_, err := ParseFingerprint(strings.Repeat("g", 64))
	p, ok := problem.As(err)
	if !ok || p.Field != "ca_sha256" || p.Remedy == "" {
		t.Errorf("got %v, want a problem of the field ca_sha256 with a remedy", err)
	}
}

// openSSLForm writes a fingerprint in upper case with colons.
func openSSLForm(fingerprint string) string {
	var pairs []string
	for i := 0; i < len(fingerprint); i += 2 {
		pairs = append(pairs, strings.ToUpper(fingerprint[i:i+2]))
	}
	return strings.Join(pairs, ":")
}

func checkError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("unexpected error: %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("got the error %v, want one with %q", err, want)
	}
}
