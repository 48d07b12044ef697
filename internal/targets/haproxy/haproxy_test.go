package haproxy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/targets"
	"github.com/certctl-io/certctl/internal/targets/haproxy"
	"github.com/certctl-io/certctl/internal/targets/targetstest"
	"github.com/certctl-io/certctl/internal/testkit"
)

const name = "www.example.com"

func TestKind(t *testing.T) {
	t.Parallel()
	targetstest.TestKind(t, haproxy.Kind{},
		`{"pem": "/etc/haproxy/certs/a.pem"}`,
		`{"pem": "/a.pem", "owner": "haproxy", "group": "haproxy", "mode": "0640", "binary": "/usr/sbin/haproxy",
		  "config": ["/etc/haproxy/haproxy.cfg", "/etc/haproxy/conf.d"], "reload": ["systemctl", "reload", "haproxy"],
		  "probe": {"address": "127.0.0.1:8443", "server_name": "a.example.com", "timeout": "3s"}}`,
		`{"pem": "/a.pem", "pid_file": "/run/haproxy.pid"}`,
	)
}

func TestReloadByCommandAndBySignalExcludeEachOther(t *testing.T) {
	t.Parallel()
	targetstest.WantInvalid(t, haproxy.Kind{}.Check([]byte(`{"pem": "/a.pem", "pid_file": "/run/haproxy.pid", "reload": ["true"]}`)), "settings.pid_file")
}

func TestPlanOfTheDefaults(t *testing.T) {
	t.Parallel()
	plan, err := haproxy.Kind{}.Plan([]byte(`{"pem": "/a.pem"}`), targetstest.NewCA(t).Issue(t, pki.ECDSAP256, name))
	if err != nil {
		t.Fatal(err)
	}
	want := targets.Plan{
		Validate: targets.Command{"haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg"},
		Reload:   targets.Command{"systemctl", "reload", "haproxy"},
		Probe:    &targets.Probe{Address: "127.0.0.1:443", ServerName: name},
	}
	plan.Files = nil
	if diff := cmp.Diff(want, plan); diff != "" {
		t.Error(diff)
	}
}

// server is a running HAProxy in master-worker mode and the settings of the
// target that it is.
type server struct {
	ca       *targetstest.CA
	dir      string
	address  string
	first    pki.Bundle // what it serves at the start
	settings string     // without the way to reload
}

func startServer(t *testing.T) server {
	t.Helper()
	// Sockets of the master stand here: their paths may have 107 bytes only.
	dir, err := os.MkdirTemp("", "haproxy-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := server{ca: targetstest.NewCA(t), dir: dir, address: targetstest.FreeAddress(t)}
	s.first = s.ca.Issue(t, pki.ECDSAP256, name)
	targetstest.WriteFile(t, s.path("tls.pem"), s.pem(t, s.first), 0o600)
	s.configure(t, "")
	s.settings = fmt.Sprintf(`"pem": %q, "config": [%q], "probe": {"address": %q, "timeout": "5s"}`, s.path("tls.pem"), s.path("haproxy.cfg"), s.address)
	targetstest.Start(t, "haproxy", "-W", "-p", s.path("haproxy.pid"), "-f", s.path("haproxy.cfg"))
	testkit.Eventually(t, "HAProxy serves the first certificate", func() bool { return s.serves(s.first) })
	return s
}

func (s server) path(file string) string { return filepath.Join(s.dir, file) }

func (s server) serves(b pki.Bundle) bool {
	return targetstest.Served(s.address, name) == targetstest.Fingerprint(b)
}

func (s server) pem(t *testing.T, b pki.Bundle) string {
	t.Helper()
	key, err := b.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	return string(key) + string(b.FullChainPEM())
}

// configure writes the configuration; extra goes into its frontend.
func (s server) configure(t *testing.T, extra string) {
	t.Helper()
	targetstest.WriteFile(t, s.path("haproxy.cfg"), fmt.Sprintf(`
global
	stats socket %s mode 600 level admin expose-fd listeners
defaults
	mode http
	timeout connect 5s
	timeout client 5s
	timeout server 5s
frontend tls
	bind %s ssl crt %s
	http-request return status 200 content-type text/plain string ok
	%s
`, s.path("sock"), s.address, s.path("tls.pem"), extra), 0o644)
}

// bySignal and byCommand complete the settings with a way to reload.
func (s server) bySignal() string {
	return fmt.Sprintf(`{%s, "pid_file": %q}`, s.settings, s.path("haproxy.pid"))
}

func (s server) byCommand() string {
	return fmt.Sprintf(`{%s, "reload": ["sh", "-c", "kill -USR2 $(cat %s)"]}`, s.settings, s.path("haproxy.pid"))
}

func TestRenewalUnderLoadFailsNoRequest(t *testing.T) {
	t.Parallel()
	s, host := startServer(t), targetstest.NewHost(t)
	load := targetstest.StartLoad(t, s.address, name, s.ca.Pool())
	for i, settings := range []string{s.bySignal(), s.byCommand()} {
		answered := load.Requests()
		testkit.Eventually(t, "the load goes on", func() bool { return load.Requests() > answered+20 })
		next := s.ca.Issue(t, []pki.KeyType{pki.RSA2048, pki.ECDSAP256}[i], name)
		report := host.Deploy(t, haproxy.Kind{}, settings, next)
		targetstest.WantOutcome(t, report, targets.OutcomeDeployed)
		if !s.serves(next) || targetstest.ReadFile(t, s.path("tls.pem")) != s.pem(t, next) {
			t.Errorf("the new certificate is not served")
		}
	}
	if requests, failures := load.Stop(); len(failures) > 0 {
		t.Errorf("%d of %d requests failed, first %v", len(failures), requests, failures[0])
	}
}

func TestBrokenConfigurationIsRolledBackAndTheOldCertificateServed(t *testing.T) {
	t.Parallel()
	s, host := startServer(t), targetstest.NewHost(t)
	s.configure(t, "this_is_no_directive")
	report := host.Deploy(t, haproxy.Kind{}, s.bySignal(), s.ca.Issue(t, pki.ECDSAP256, name))
	targetstest.WantOutcome(t, report, targets.OutcomeRolledBack)
	if !s.serves(s.first) || targetstest.ReadFile(t, s.path("tls.pem")) != s.pem(t, s.first) {
		t.Error("the old certificate is not back")
	}
	if !strings.Contains(report.Reason, "this_is_no_directive") {
		t.Errorf("the reason does not say what HAProxy said: %s", report.Reason)
	}
}

func TestStoppedServerIsReportedAndTheOldFileIsBack(t *testing.T) {
	t.Parallel()
	s, host := startServer(t), targetstest.NewHost(t)
	settings := strings.Replace(s.bySignal(), "haproxy.pid", "none.pid", 1)
	report := host.Deploy(t, haproxy.Kind{}, settings, s.ca.Issue(t, pki.ECDSAP256, name))
	targetstest.WantOutcome(t, report, targets.OutcomeRolledBack)
	if !strings.Contains(report.Reason, "none.pid does not exist") || targetstest.ReadFile(t, s.path("tls.pem")) != s.pem(t, s.first) {
		t.Errorf("reason %s", report.Reason)
	}
}

func TestWorksForAUserWithoutRights(t *testing.T) {
	t.Parallel()
	targetstest.AsNobody(t, "^TestRenewalUnderLoadFailsNoRequest$")
}
