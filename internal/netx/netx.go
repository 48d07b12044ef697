// Package netx is certctl's side of the network: the listeners of the server,
// the certificate it serves, and how clients recognise it.
//
// The server always sends the certificate that clients pin along with its
// leaf: the CA when it made the certificate itself, the last certificate of
// the file when an operator gave one. A client that knows nothing but the
// SHA-256 fingerprint of it can therefore verify the server in the usual way,
// names and validity included.
package netx

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"

	"github.com/certctl-io/certctl/internal/problem"
)

// ServerCertificate is the certificate of the HTTPS listener. It may change
// while the server runs.
type ServerCertificate interface {
	// GetCertificate has the form that tls.Config wants.
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// CA is the last certificate that is sent, which is the one clients pin.
	CA() *x509.Certificate
	// Fingerprint is the SHA-256 of CA in lower-case hex.
	Fingerprint() string
}

// ServerTLS is the TLS configuration of the HTTPS listener. Older versions
// than minVersion are refused; cipher suites and curves are left to Go, which
// offers none that is known to be weak.
func ServerTLS(certificate ServerCertificate, minVersion uint16) *tls.Config {
	return &tls.Config{
		MinVersion:     minVersion,
		GetCertificate: certificate.GetCertificate,
		NextProtos:     []string{"h2", "http/1.1"},
	}
}

// Listen opens a TCP listener. A failure names the setting that holds the
// address.
func Listen(ctx context.Context, setting, address string) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err == nil {
		return listener, nil
	}
	reason := err
	var syscallErr *os.SyscallError
	if errors.As(err, &syscallErr) {
		reason = syscallErr.Err
	}
	return nil, problem.Invalid(setting, "cannot listen on %q: %v", address, reason).
		Hint("stop what uses the address, or choose another one")
}
