package targets_test

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/targets"
	"github.com/certctl-io/certctl/internal/targets/targetstest"
)

// serveTLS answers handshakes until the test ends.
func serveTLS(t testing.TB, config *tls.Config) (address string) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go finishHandshake(conn)
		}
	}()
	return l.Addr().String()
}

func pair(b pki.Bundle) *tls.Certificate {
	return &tls.Certificate{Certificate: b.Chain, PrivateKey: crypto.PrivateKey(b.Key)}
}

// prove deploys a bundle to files only, with a probe of an address.
func prove(t testing.TB, h *host, b pki.Bundle, probe targets.Probe) targets.Report {
	t.Helper()
	job := h.job(t, "dep_1", b)
	job.Plan.Validate, job.Plan.Reload, job.Plan.Probe = nil, nil, &probe
	return h.engine(t).Deploy(t.Context(), job)
}

func TestProofWithEveryKeyTypeAndVersionOfTLS(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, kt := range []pki.KeyType{pki.ECDSAP256, pki.ECDSAP384, pki.RSA2048, pki.Ed25519} {
			b := h.ca.Issue(t, kt, serverName)
			address := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{*pair(b)}, MinVersion: version, MaxVersion: version})
			report := prove(t, h, b, targets.Probe{Address: address})
			targetstest.WantOutcome(t, report, targets.OutcomeDeployed)
		}
	}
}

func TestProofFromAServerThatWantsAClientCertificate(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		b := h.issue(t)
		address := serveTLS(t, &tls.Config{
			Certificates: []tls.Certificate{*pair(b)}, MinVersion: version, MaxVersion: version,
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool(),
		})
		targetstest.WantOutcome(t, prove(t, h, b, targets.Probe{Address: address}), targets.OutcomeDeployed)
	}
}

func TestProbeAsksForTheServerName(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	b, other := h.issue(t), h.issue(t)
	address := serveTLS(t, &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if hello.ServerName == serverName {
			return pair(b), nil
		}
		return pair(other), nil
	}})
	targetstest.WantOutcome(t, prove(t, h, b, targets.Probe{Address: address, ServerName: serverName}), targets.OutcomeDeployed)
	report := prove(t, h, h.issue(t), targets.Probe{Address: address, Timeout: 500 * time.Millisecond})
	if report.Outcome == targets.OutcomeDeployed || report.Served != targetstest.Fingerprint(other) {
		t.Errorf("%+v", report)
	}
}

func TestServerThatStillAnswersWithBothCertificatesIsNotDone(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	first, next := h.issue(t), h.issue(t)
	const both = 400 * time.Millisecond
	var mu sync.Mutex
	var lastOld time.Duration
	began := time.Now()
	address := serveTLS(t, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		// As of a reload: for a while, some connections meet an old worker.
		mu.Lock()
		defer mu.Unlock()
		if now := time.Since(began); lastOld == 0 || now < both && now > lastOld+50*time.Millisecond {
			lastOld = now
			return pair(first), nil
		}
		return pair(next), nil
	}})
	targetstest.WantOutcome(t, prove(t, h, next, targets.Probe{Address: address}), targets.OutcomeDeployed)
	mu.Lock()
	defer mu.Unlock()
	if took := time.Since(began); took < both || took < lastOld+100*time.Millisecond {
		t.Errorf("proven after %v, and the old certificate was seen after %v", took, lastOld)
	}
}

func TestProofComesSoonAfterTheServerServes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	first, next := h.issue(t), h.issue(t)
	began := time.Now()
	const ready = 300 * time.Millisecond
	address := serveTLS(t, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if time.Since(began) < ready {
			return pair(first), nil
		}
		return pair(next), nil
	}})
	targetstest.WantOutcome(t, prove(t, h, next, targets.Probe{Address: address}), targets.OutcomeDeployed)
	if took := time.Since(began); took > ready+2*time.Second {
		t.Errorf("proven %v after the server was ready", took-ready)
	}
}

func TestReasonTellsWhatThePortAnswered(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	for name, test := range map[string]struct{ address, reason string }{
		"nothing listens":  {targetstest.FreeAddress(t), "connection refused"},
		"it never answers": {silent.Addr().String(), "shows no certificate after 200ms"},
		"no such host":     {"no-such-host.invalid:443", "shows no certificate after 200ms"},
	} {
		started := time.Now()
		report := prove(t, h, h.issue(t), targets.Probe{Address: test.address, Timeout: 200 * time.Millisecond})
		if report.Outcome != targets.OutcomeRolledBack || !report.Retryable || !strings.Contains(report.Reason, test.reason) {
			t.Errorf("%s: %s, retryable %v: %s", name, report.Outcome, report.Retryable, report.Reason)
		}
		if took := time.Since(started); took > 20*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
}

func TestProbeNameIsAHost(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		names []string
		want  string
	}{
		{[]string{"a.example.com", "b.example.com"}, "a.example.com"},
		{[]string{"*.example.com"}, "certctl-probe.example.com"},
		{[]string{"192.0.2.1"}, ""},
	} {
		names, err := pki.ParseNames(test.names)
		if err != nil {
			t.Fatal(err)
		}
		if got := targets.ProbeName(names); got != test.want {
			t.Errorf("ProbeName(%v) = %q, want %q", test.names, got, test.want)
		}
	}
}
