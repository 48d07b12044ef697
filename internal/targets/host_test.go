package targets_test

import (
	"crypto/tls"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/targets"
	"github.com/certctl-io/certctl/internal/targets/targetstest"
)

const serverName = "www.example.com"

// host is a directory with a target's files, its commands and a TLS server. The
// server serves what was loaded: its reload command copies the files to it.
//
//	tls/cert.pem tls/key.pem   the target's files
//	run/loaded.pem             what the server serves
//	run/reloads, run/checks    a line for each run of a command
//	run/no-check, run/no-reload, run/deaf   while there: validating fails, reloading fails, reloading does nothing
type host struct {
	dir, address string
	ca           *targetstest.CA
}

const validateScript = `
cd "$(dirname "$0")"
echo check >> checks
cat ../tls/key.pem
if [ -e no-check ]; then echo "the configuration is broken" >&2; exit 3; fi
`

const reloadScript = `
cd "$(dirname "$0")"
mkdir busy || { echo overlap >> overlaps; exit 1; }
echo reload >> reloads
if [ -e no-reload ]; then rmdir busy; echo "the server is in no mood" >&2; exit 4; fi
[ -e deaf ] || { cat ../tls/cert.pem ../tls/key.pem > loading.pem && mv loading.pem loaded.pem; }
rmdir busy
`

func newHost(t testing.TB) *host {
	t.Helper()
	h := &host{dir: t.TempDir(), ca: targetstest.NewCA(t)}
	for _, dir := range []string{"tls", "run"} {
		if err := os.Mkdir(h.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	targetstest.WriteFile(t, h.path("run/validate"), validateScript, 0o644)
	targetstest.WriteFile(t, h.path("run/reload"), reloadScript, 0o644)
	h.serve(t)
	return h
}

// serve runs the TLS server of the host until the test ends.
func (h *host) serve(t testing.TB) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(h.path("run/loaded.pem"), h.path("run/loaded.pem"))
			return &pair, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	h.address = l.Addr().String()
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
}

func finishHandshake(conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_ = conn.(*tls.Conn).Handshake()
	_ = conn.Close()
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

func (h *host) issue(t testing.TB) pki.Bundle {
	t.Helper()
	return h.ca.Issue(t, pki.ECDSAP256, serverName)
}

// place puts a bundle in the target's files and has the server serve it.
func (h *host) place(t testing.TB, b pki.Bundle) {
	t.Helper()
	cert, key := contents(t, b)
	targetstest.WriteFile(t, h.path("tls/cert.pem"), cert, 0o644)
	targetstest.WriteFile(t, h.path("tls/key.pem"), key, 0o600)
	targetstest.WriteFile(t, h.path("run/loaded.pem"), cert+key, 0o600)
}

func contents(t testing.TB, b pki.Bundle) (cert, key string) {
	t.Helper()
	text, err := b.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	return string(b.FullChainPEM()), string(text)
}

// job is the deployment of a bundle.
func (h *host) job(t testing.TB, id string, b pki.Bundle) targets.Job {
	t.Helper()
	cert, key := contents(t, b)
	return targets.Job{
		DeploymentID: id, TargetID: "tgt_1", Fingerprint: targetstest.Fingerprint(b),
		Plan: h.plan(cert, key),
	}
}

func (h *host) plan(cert, key string) targets.Plan {
	return targets.Plan{
		Files: []targets.File{
			{Path: h.path("tls/cert.pem"), Data: []byte(cert)},
			{Path: h.path("tls/key.pem"), Data: []byte(key), Secret: true},
		},
		Validate: targets.Command{"sh", h.path("run/validate")},
		Reload:   targets.Command{"sh", h.path("run/reload")},
		Probe:    &targets.Probe{Address: h.address, ServerName: serverName, Timeout: 3 * time.Second},
	}
}

// engine gives an engine of the host; all of them share one memory.
func (h *host) engine(t testing.TB) *targets.Engine {
	t.Helper()
	e, err := targets.NewEngine(h.path("state"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (h *host) deploy(t testing.TB, id string, b pki.Bundle) targets.Report {
	t.Helper()
	return h.engine(t).Deploy(t.Context(), h.job(t, id, b))
}

// spoil makes a command misbehave, repair ends that.
func (h *host) spoil(t testing.TB, how string) {
	t.Helper()
	targetstest.WriteFile(t, h.path("run/"+how), "", 0o644)
}

func (h *host) repair(t testing.TB, how string) {
	t.Helper()
	if err := os.Remove(h.path("run/" + how)); err != nil {
		t.Fatal(err)
	}
}

// times tells how often a command ran: "reloads", "checks", or "overlaps".
func (h *host) times(what string) int {
	text, err := os.ReadFile(h.path("run/" + what))
	if err != nil {
		return 0
	}
	return strings.Count(string(text), "\n")
}

// wantServed fails unless exactly the bundle is in the files and is served,
// and nothing else is left on the host, least of all a key.
func (h *host) wantServed(t testing.TB, b pki.Bundle) {
	t.Helper()
	if got := targetstest.Served(h.address, serverName); got != targetstest.Fingerprint(b) {
		t.Errorf("%q is served and not %s", got, targetstest.Fingerprint(b))
	}
	h.wantFiles(t, b)
}

func (h *host) wantFiles(t testing.TB, b pki.Bundle) {
	t.Helper()
	cert, key := contents(t, b)
	if targetstest.ReadFile(t, h.path("tls/cert.pem")) != cert || targetstest.ReadFile(t, h.path("tls/key.pem")) != key {
		t.Error("the files do not hold the certificate and key that they should")
	}
	h.wantNothingLeft(t, "cert.pem", "key.pem")
}

func (h *host) wantNothingLeft(t testing.TB, files ...string) {
	t.Helper()
	entries, err := os.ReadDir(h.path("tls"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if fmt.Sprint(names) != fmt.Sprint(files) {
		t.Errorf("the directory holds %v and not %v", names, files)
	}
	err = filepath.WalkDir(h.path("state/targets"), func(path string, _ fs.DirEntry, err error) error {
		if strings.Contains(path, "previous-") {
			t.Errorf("%s is left", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// wantNoSecret fails when a report shows the private key of a bundle.
func wantNoSecret(t testing.TB, report targets.Report, b pki.Bundle) {
	t.Helper()
	_, key := contents(t, b)
	shown := fmt.Sprintf("%+v", report)
	for line := range strings.Lines(key) {
		if line = strings.TrimSpace(line); len(line) >= 16 && !strings.HasPrefix(line, "-----") && strings.Contains(shown, line) {
			t.Errorf("the report of %s shows the private key", stepNames(report))
			return
		}
	}
}

// stepNames lists the steps of a report, failed ones with a mark.
func stepNames(report targets.Report) string {
	var names []string
	for _, step := range report.Steps {
		name := step.Name
		if !step.OK {
			name += "!"
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}
