package netx

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
)

// ParseFingerprint brings a SHA-256 fingerprint into the form of Fingerprint:
// colons, spaces, upper case and a leading "sha256:" are accepted.
func ParseFingerprint(text string) (string, error) {
	clean := strings.ToLower(strings.TrimSpace(text))
	clean = strings.TrimPrefix(clean, "sha256:")
	clean = strings.NewReplacer(":", "", " ", "").Replace(clean)
	if raw, err := hex.DecodeString(clean); err != nil || len(raw) != 32 {
		return "", problem.Invalid("ca_sha256", "%q is not a SHA-256 fingerprint", text).
			Hint("copy the 64 hex digits that the server prints when it starts")
	}
	return clean, nil
}

// PinnedTLSConfig trusts the server at host (a name or an IP address) when the
// chain it sends leads to the certificate with this fingerprint. Names and
// validity of the leaf are checked as always. A malformed fingerprint fails
// every connection, and so does an empty host.
//
// The host is part of the configuration because crypto/tls does not tell the
// check below which IP address was dialled.
func PinnedTLSConfig(caSHA256, host string) *tls.Config {
	pin, err := ParseFingerprint(caSHA256)
	if err == nil && host == "" {
		err = errors.New("there is no host to verify the server's certificate against")
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		ServerName: host,
		// The usual verification needs the CA itself; VerifyConnection does the
		// same with the CA that the server sent, once it is proven to be the
		// pinned one. It also runs for resumed sessions.
		InsecureSkipVerify: true, //nolint:gosec // replaced by the check below
		VerifyConnection: func(state tls.ConnectionState) error {
			if err != nil {
				return err
			}
			return verifyPinned(state.PeerCertificates, pin, host)
		},
	}
}

// verifyPinned verifies the leaf, chain[0], with the pinned certificate as the
// only root.
func verifyPinned(chain []*x509.Certificate, pin, host string) error {
	if len(chain) == 0 {
		return errors.New("the server sent no certificate")
	}
	index := indexOf(chain, pin)
	if index < 0 {
		return verifyThroughSystem(chain, pin, host)
	}
	roots := x509.NewCertPool()
	roots.AddCert(chain[index])
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: poolOf(chain[1:]), DNSName: host})
	return err
}

// verifyThroughSystem covers a pinned public root: servers do not send it, but
// the system's store has it.
func verifyThroughSystem(chain []*x509.Certificate, pin, host string) error {
	verified, err := chain[0].Verify(x509.VerifyOptions{Intermediates: poolOf(chain[1:]), DNSName: host})
	if err == nil && slices.ContainsFunc(verified, func(c []*x509.Certificate) bool { return indexOf(c, pin) >= 0 }) {
		return nil
	}
	return &PinError{Want: pin, Got: pki.Fingerprint(chain[len(chain)-1].Raw)}
}

// PinError says that the server is not the one whose CA is pinned.
type PinError struct {
	Want string // the pinned fingerprint
	Got  string // the fingerprint of the CA that the server sent
}

// Error implements error.
func (e *PinError) Error() string {
	return fmt.Sprintf("the server's CA has the SHA-256 fingerprint %s, but %s is trusted", e.Got, e.Want)
}

func indexOf(chain []*x509.Certificate, fingerprint string) int {
	return slices.IndexFunc(chain, func(c *x509.Certificate) bool { return pki.Fingerprint(c.Raw) == fingerprint })
}

func poolOf(certificates []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certificates {
		pool.AddCert(c)
	}
	return pool
}

// FetchCA asks the server at address (host:port) for its CA and verifies the
// server with it. With an empty fingerprint the CA is the last certificate
// that the server sends, and the caller must have a person confirm its
// fingerprint before anything is sent to the server.
func FetchCA(ctx context.Context, address, fingerprint string) (*x509.Certificate, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, problem.Invalid("address", "%q is not of the form HOST:PORT", address)
	}
	pin := fingerprint
	if pin != "" {
		if pin, err = ParseFingerprint(fingerprint); err != nil {
			return nil, err
		}
	}
	var ca *x509.Certificate
	dialer := tls.Dialer{Config: &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         host,
		InsecureSkipVerify: true, //nolint:gosec // replaced by the check below
		VerifyConnection: func(state tls.ConnectionState) error {
			chain := state.PeerCertificates
			ca = chain[len(chain)-1]
			if index := indexOf(chain, pin); index >= 0 {
				ca = chain[index]
			} else if pin != "" {
				return &PinError{Want: pin, Got: pki.Fingerprint(ca.Raw)}
			}
			return verifyPinned(chain, pki.Fingerprint(ca.Raw), host)
		},
	}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	_ = conn.Close() // nothing was sent that could be lost
	return ca, nil
}
