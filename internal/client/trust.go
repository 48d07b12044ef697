package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"

	"github.com/certctl-io/certctl/internal/netx"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
)

// tlsConfig trusts the pinned CA, else the CAs of the file, else the system's.
func tlsConfig(o Options, host string) (*tls.Config, error) {
	switch {
	case o.CASHA256 != "":
		pin, err := netx.ParseFingerprint(o.CASHA256)
		if err != nil {
			return nil, err
		}
		return netx.PinnedTLSConfig(pin, host), nil
	case o.CAFile != "":
		pem, err := netx.ReadCAFile(o.CAFile)
		if err != nil {
			return nil, problem.Invalid("ca_file", "%s cannot be read: %v", o.CAFile, rootCause(err))
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, problem.Invalid("ca_file", "%s holds no certificate in PEM form", o.CAFile)
		}
		return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}, nil
	default:
		return &tls.Config{MinVersion: tls.VersionTLS12}, nil
	}
}

// ServerCA is the CA that a server shows.
type ServerCA struct {
	Trusted bool   // by this machine, so that nothing needs to be pinned
	SHA256  string // fingerprint of the CA; empty when it is trusted anyway
	Subject string
}

// ShowCA asks a server for its CA without telling it anything. A person must
// confirm the fingerprint before it is pinned.
func ShowCA(ctx context.Context, serverURL string) (ServerCA, error) {
	c, err := New(Options{URL: serverURL})
	if err != nil {
		return ServerCA{}, err
	}
	address := hostPort(c.base)
	dialer := tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err == nil {
		_ = conn.Close() // nothing was sent that could be lost
		return ServerCA{Trusted: true}, nil
	}
	var unknownCA x509.UnknownAuthorityError
	if !errors.As(err, &unknownCA) {
		return ServerCA{}, c.transportError(ctx, err)
	}
	ca, err := netx.FetchCA(ctx, address, "")
	if err != nil {
		return ServerCA{}, c.transportError(ctx, err)
	}
	return ServerCA{SHA256: pki.Fingerprint(ca.Raw), Subject: ca.Subject.String()}, nil
}

// CAFingerprint gives the SHA-256 fingerprint of the CA that others must pin to
// trust this server; it is empty when its CA is one that machines trust anyway.
func (c *Client) CAFingerprint(ctx context.Context) (string, error) {
	if c.pin != "" {
		return c.pin, nil
	}
	if !c.ownCAs {
		return "", nil
	}
	ca, err := netx.FetchCA(ctx, hostPort(c.base), "")
	if err != nil {
		return "", c.transportError(ctx, err)
	}
	return pki.Fingerprint(ca.Raw), nil
}

func hostPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	return net.JoinHostPort(u.Hostname(), "443")
}
