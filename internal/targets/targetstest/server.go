package targetstest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/targets"
)

// Host deploys to one target as an agent does, with a memory of its own.
type Host struct {
	engine      *targets.Engine
	deployments int
}

// NewHost makes a host that nothing was deployed on.
func NewHost(t testing.TB) *Host {
	t.Helper()
	engine, err := targets.NewEngine(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return &Host{engine: engine}
}

// Deploy puts a bundle on the target.
func (h *Host) Deploy(t testing.TB, kind targets.Kind, settings string, b pki.Bundle) targets.Report {
	t.Helper()
	plan, err := kind.Plan(json.RawMessage(settings), b)
	if err != nil {
		t.Fatal(err)
	}
	h.deployments++
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return h.engine.Deploy(ctx, targets.Job{
		DeploymentID: "dep_" + strconv.Itoa(h.deployments), TargetID: "tgt_1", Plan: plan, Fingerprint: Fingerprint(b),
	})
}

// WantOutcome fails the test, with everything that was tried, when a report is
// not what was to be.
func WantOutcome(t testing.TB, report targets.Report, outcome string) {
	t.Helper()
	if report.Outcome == outcome {
		return
	}
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	t.Fatalf("outcome is %s and not %s:\n%s", report.Outcome, outcome, text)
}

// FreeAddress gives a local address on which nothing listens.
func FreeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// Start runs a server in the foreground until the test ends. The test is
// skipped where the program is not installed.
func Start(t testing.TB, program string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not installed", program)
	}
	var output bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", program, output.Bytes())
		}
	})
}

// Served gives the fingerprint that a new connection is shown, "" for none.
func Served(address, serverName string) string {
	dialer := &net.Dialer{Timeout: time.Second}
	conn, err := tls.DialWithDialer(dialer, "tcp", address, &tls.Config{ServerName: serverName, InsecureSkipVerify: true})
	if err != nil {
		return ""
	}
	defer func() { _ = conn.Close() }()
	return pki.Fingerprint(conn.ConnectionState().PeerCertificates[0].Raw)
}

// Load asks a server all the time, over new connections and over kept ones.
type Load struct {
	stop     context.CancelFunc
	done     sync.WaitGroup
	mu       sync.Mutex
	requests int
	failures []error
}

// StartLoad begins to ask the server for its root page.
func StartLoad(t testing.TB, address, serverName string, trust *x509.CertPool) *Load {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	l := &Load{stop: stop}
	for _, keep := range []bool{false, false, true} {
		client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: trust, ServerName: serverName},
			DisableKeepAlives: !keep,
		}}
		l.done.Go(func() {
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				l.count(ask(client, "https://"+address+"/"))
			}
		})
	}
	t.Cleanup(func() { l.Stop() })
	return l
}

// Stop ends the load and tells how it went.
func (l *Load) Stop() (requests int, failures []error) {
	l.stop()
	l.done.Wait()
	return l.requests, l.failures
}

// Requests gives the number of answers so far.
func (l *Load) Requests() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.requests
}

func (l *Load) count(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	if err != nil {
		l.failures = append(l.failures, err)
	}
}

func ask(client *http.Client, url string) error {
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", response.Status)
	}
	return nil
}

// WriteFile writes a file of a test and gives its path.
func WriteFile(t testing.TB, path, content string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// ReadFile reads a file of a test.
func ReadFile(t testing.TB, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// AsNobody runs tests of this test binary again, as a user without rights.
func AsNobody(t *testing.T, pattern string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user; the tests ran without rights already")
	}
	const nobody = 65534
	dir, err := os.MkdirTemp("", "certctl-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Another process copies it: a child forked by this one while the copy is
	// open for writing would make it "text file busy".
	binary := filepath.Join(dir, "test")
	if output, err := exec.Command("cp", self, binary).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-test.v", "-test.run", pattern)
	cmd.Dir, cmd.Env = dir, []string{"TMPDIR=" + dir, "HOME=" + dir, "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	output, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(output, []byte("--- PASS")) {
		t.Fatalf("as nobody: %v\n%s", err, output)
	}
}
