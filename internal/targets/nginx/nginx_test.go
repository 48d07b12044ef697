package nginx_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/targets"
	"github.com/certctl-io/certctl/internal/targets/nginx"
	"github.com/certctl-io/certctl/internal/targets/targetstest"
	"github.com/certctl-io/certctl/internal/testkit"
)

const name = "www.example.com"

func TestKind(t *testing.T) {
	t.Parallel()
	targetstest.TestKind(t, nginx.Kind{},
		`{"certificate": "/etc/nginx/tls/a.pem", "key": "/etc/nginx/tls/a.key"}`,
		`{"certificate": "/a.pem", "key": "/a.key", "owner": "root", "group": "33", "mode": "0640",
		  "binary": "/usr/sbin/nginx", "config": "/srv/nginx.conf", "prefix": "/srv", "reload": ["systemctl", "reload", "nginx"],
		  "probe": {"address": "[::1]:8443", "server_name": "a.example.com", "timeout": "3s"}}`,
		`{"certificate": "/a.pem", "key": "/a.key", "pid_file": "/run/nginx.pid"}`,
	)
}

func TestReloadByCommandAndBySignalExcludeEachOther(t *testing.T) {
	t.Parallel()
	targetstest.WantInvalid(t, nginx.Kind{}.Check([]byte(
		`{"certificate": "/a.pem", "key": "/a.key", "pid_file": "/run/nginx.pid", "reload": ["true"]}`)), "settings.pid_file")
}

// server is a running nginx and the settings of the target that it is.
type server struct {
	ca       *targetstest.CA
	dir      string
	address  string
	first    pki.Bundle // what it serves at the start
	settings string
}

func startServer(t *testing.T, more string) server {
	t.Helper()
	s := server{ca: targetstest.NewCA(t), dir: t.TempDir(), address: targetstest.FreeAddress(t)}
	s.first = s.ca.Issue(t, pki.ECDSAP256, name)
	key, err := s.first.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	targetstest.WriteFile(t, s.path("tls.pem"), string(s.first.FullChainPEM()), 0o644)
	targetstest.WriteFile(t, s.path("tls.key"), string(key), 0o600)
	s.configure(t, "")
	s.settings = fmt.Sprintf(`{"certificate": %q, "key": %q, "config": %q, "prefix": %q,
		"probe": {"address": %q, "timeout": "5s"} %s}`, s.path("tls.pem"), s.path("tls.key"), s.path("nginx.conf"), s.dir, s.address, more)
	targetstest.Start(t, "nginx", "-e", s.path("error.log"), "-p", s.dir, "-c", s.path("nginx.conf"), "-g", "daemon off;")
	testkit.Eventually(t, "nginx serves the first certificate", func() bool { return s.serves(s.first) })
	return s
}

func (s server) path(file string) string { return filepath.Join(s.dir, file) }

func (s server) serves(b pki.Bundle) bool {
	return targetstest.Served(s.address, name) == targetstest.Fingerprint(b)
}

// configure writes the configuration; extra goes into its server block.
func (s server) configure(t *testing.T, extra string) {
	t.Helper()
	targetstest.WriteFile(t, s.path("nginx.conf"), fmt.Sprintf(`
worker_processes 2;
pid nginx.pid;
error_log error.log;
events { worker_connections 256; }
http {
	access_log off;
	client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
	server {
		listen %s ssl;
		server_name %s;
		ssl_certificate tls.pem;
		ssl_certificate_key tls.key;
		location / { return 200 "ok"; }
		%s
	}
}
`, s.address, name, extra), 0o644)
}

func TestRenewalUnderLoadFailsNoRequest(t *testing.T) {
	t.Parallel()
	s, host := startServer(t, ""), targetstest.NewHost(t)
	load := targetstest.StartLoad(t, s.address, name, s.ca.Pool())
	for _, kt := range []pki.KeyType{pki.ECDSAP256, pki.RSA2048, pki.ECDSAP384} {
		answered := load.Requests()
		testkit.Eventually(t, "the load goes on", func() bool { return load.Requests() > answered+20 })
		next := s.ca.Issue(t, kt, name)
		report := host.Deploy(t, nginx.Kind{}, s.settings, next)
		targetstest.WantOutcome(t, report, targets.OutcomeDeployed)
		if !s.serves(next) {
			t.Errorf("the %s certificate was reported live and is not served", kt)
		}
		t.Logf("%s was live after %v", kt, report.Finished.Sub(report.Started).Round(time.Millisecond))
	}
	requests, failures := load.Stop()
	if len(failures) > 0 {
		t.Errorf("%d of %d requests failed, first %v", len(failures), requests, failures[0])
	}
}

func TestReloadBySignal(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	settings := strings.Replace(s.settings, "{", fmt.Sprintf(`{"pid_file": %q,`, s.path("nginx.pid")), 1)
	next := s.ca.Issue(t, pki.ECDSAP256, name)
	targetstest.WantOutcome(t, targetstest.NewHost(t).Deploy(t, nginx.Kind{}, settings, next), targets.OutcomeDeployed)
	if !s.serves(next) {
		t.Error("the new certificate is not served")
	}
}

func TestTheSameCertificateAgainDoesNotReload(t *testing.T) {
	t.Parallel()
	s, host := startServer(t, ""), targetstest.NewHost(t)
	next := s.ca.Issue(t, pki.ECDSAP256, name)
	targetstest.WantOutcome(t, host.Deploy(t, nginx.Kind{}, s.settings, next), targets.OutcomeDeployed)
	s.configure(t, "this_is_no_directive;") // any use of nginx would fail now
	targetstest.WantOutcome(t, host.Deploy(t, nginx.Kind{}, s.settings, next), targets.OutcomeUnchanged)
}

func TestBrokenConfigurationIsRolledBackAndTheOldCertificateServed(t *testing.T) {
	t.Parallel()
	s, host := startServer(t, ""), targetstest.NewHost(t)
	load := targetstest.StartLoad(t, s.address, name, s.ca.Pool())
	s.configure(t, "this_is_no_directive;")
	next := s.ca.Issue(t, pki.ECDSAP256, name)
	report := host.Deploy(t, nginx.Kind{}, s.settings, next)
	targetstest.WantOutcome(t, report, targets.OutcomeRolledBack)
	if report.Served != targetstest.Fingerprint(s.first) || !s.serves(s.first) {
		t.Errorf("the old certificate is not served: %+v", report)
	}
	if got := targetstest.ReadFile(t, s.path("tls.pem")); got != string(s.first.FullChainPEM()) {
		t.Error("the old chain is not back")
	}
	if !strings.Contains(report.Reason, "this_is_no_directive") {
		t.Errorf("the reason does not say what nginx said: %s", report.Reason)
	}
	if requests, failures := load.Stop(); len(failures) > 0 {
		t.Errorf("%d of %d requests failed, first %v", len(failures), requests, failures[0])
	}
	s.configure(t, "")
	targetstest.WantOutcome(t, host.Deploy(t, nginx.Kind{}, s.settings, next), targets.OutcomeDeployed)
}

func TestAnotherCertificateAtTheProbedAddressIsRolledBack(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	other := s.ca.Issue(t, pki.ECDSAP256, name)
	key, err := other.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	targetstest.WriteFile(t, s.path("other.pem"), string(other.FullChainPEM())+string(key), 0o600)
	conf := strings.NewReplacer("ssl_certificate tls.pem", "ssl_certificate other.pem", "ssl_certificate_key tls.key", "ssl_certificate_key other.pem").
		Replace(targetstest.ReadFile(t, s.path("nginx.conf")))
	targetstest.WriteFile(t, s.path("nginx.conf"), conf, 0o644)

	next := s.ca.Issue(t, pki.ECDSAP256, name)
	report := targetstest.NewHost(t).Deploy(t, nginx.Kind{}, strings.Replace(s.settings, `"5s"`, `"1s"`, 1), next)
	if report.Outcome == targets.OutcomeDeployed || !strings.Contains(report.Reason, "still serves certificate") {
		t.Errorf("%s: %s", report.Outcome, report.Reason)
	}
	if got := targetstest.ReadFile(t, s.path("tls.pem")); got != string(s.first.FullChainPEM()) {
		t.Error("the old chain is not back")
	}
}

func TestWorksForAUserWithoutRights(t *testing.T) {
	t.Parallel()
	targetstest.AsNobody(t, "^(TestRenewalUnderLoadFailsNoRequest|TestReloadBySignal|TestBrokenConfiguration.*)$")
}
