package targets

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
)

const (
	handshakeTimeout = 3 * time.Second
	// A server that is reloading answers from old and new workers side by side:
	// nginx lets the old ones go on for 100 ms when the new ones have started.
	// For so long, and so many times, each new connection must show what is wanted.
	steadyTime       = 150 * time.Millisecond
	steadyHandshakes = 3
	steadyPause      = 25 * time.Millisecond
	// The pauses grow by a quarter, so that at most a fifth of the time until
	// the new certificate is seen was spent asleep after it was there.
	firstPause   = 4 * time.Millisecond
	longestPause = 250 * time.Millisecond
)

// handshake opens a new TLS connection and gives the fingerprint of the leaf
// that the server shows. The leaf is proven to be the server's own (it signs
// the handshake) but is not checked otherwise: whom to trust, and whether it
// has expired, is not the question here. TLS 1.2 and later, all key types.
func (p Probe) handshake(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "tcp", p.Address)
	if err != nil {
		return "", err
	}
	defer func() { _ = raw.Close() }()
	var leaf *x509.Certificate
	proven := false
	err = tls.Client(raw, &tls.Config{
		ServerName:         p.ServerName,
		InsecureSkipVerify: true, //nolint:gosec // see above
		MinVersion:         tls.VersionTLS12,
		VerifyConnection: func(state tls.ConnectionState) error {
			leaf = state.PeerCertificates[0]
			return nil
		},
		// A server that wants a client certificate refuses us in the end. When
		// this is called it has already proven its own, in TLS 1.2 and 1.3.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			proven = true
			return &tls.Certificate{}, nil
		},
	}).HandshakeContext(ctx)
	if leaf == nil || err != nil && !proven {
		return "", err
	}
	return pki.Fingerprint(leaf.Raw), nil
}

// await opens connections until they show what is wanted, steadily, and gives
// what was seen last. A reload takes effect some time after its command has
// ended. The error tells what stood in the way when time is up.
func (p Probe) await(ctx context.Context, want func(fingerprint string) bool) (served string, err error) {
	timeout := p.Timeout
	if timeout <= 0 {
		timeout = DefaultProbeTimeout
	}
	deadline := time.Now().Add(timeout + steadyTime)
	within, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	pause := firstPause
	var steadySince time.Time
	for inARow := 0; ; {
		seen, failure := p.handshake(within)
		if within.Err() != nil || !time.Now().Before(deadline) {
			// The deadline cut this one short: the one before says more.
			if served == "" && err == nil {
				err = failure
			}
			return served, p.timeUp(ctx, timeout, served, err)
		}
		served, err = seen, failure
		wait := steadyPause
		if want(served) {
			if inARow++; inARow == 1 {
				steadySince = time.Now()
			}
			if inARow >= steadyHandshakes && time.Since(steadySince) >= steadyTime {
				return served, nil
			}
		} else {
			inARow = 0
			wait, pause = pause, min(pause+pause/4, longestPause)
		}
		select {
		case <-within.Done():
			return served, p.timeUp(ctx, timeout, served, err)
		case <-time.After(wait):
		}
	}
}

func (p Probe) timeUp(ctx context.Context, timeout time.Duration, served string, err error) error {
	switch {
	case ctx.Err() != nil:
		err = fmt.Errorf("stopped while waiting for %s: %w", p, context.Cause(ctx))
	case served != "":
		err = fmt.Errorf("%s still serves certificate %s after %v", p, short(served), timeout)
	default:
		err = fmt.Errorf("%s shows no certificate after %v: %w", p, timeout, unwrapDial(err))
	}
	return problem.Temporary(err, 0)
}

// unwrapDial leaves out the address, which the message names already.
func unwrapDial(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return op.Err
	}
	return err
}

// String gives address and name as a person would say them.
func (p Probe) String() string {
	if p.ServerName == "" || strings.HasPrefix(p.Address, p.ServerName+":") {
		return p.Address
	}
	return p.Address + " (" + p.ServerName + ")"
}

// short gives the beginning of a fingerprint, enough for a person to compare.
func short(fingerprint string) string { return fingerprint[:min(16, len(fingerprint))] }
