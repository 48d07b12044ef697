// Package e2e tests the built programs as a whole: server and agent as
// processes, both database engines, a real nginx, and the tools of others
// (openssl, curl) as judges.
package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/testkit"
	"github.com/certctl-io/certctl/test/lab"
)

// bin holds the binaries under test.
var bin string

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "certctl-e2e-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-o", dir, "../../cmd/certctl", "../../cmd/certctl-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build: %w\n%s", err, out)
	}
	bin = dir
	return m.Run(), nil
}

// settings are the variables that put a server on an engine.
func settings(t *testing.T, engine db.Engine) []string {
	t.Helper()
	if engine == db.Postgres {
		return []string{"CERTCTL_DATABASE_URL=" + testkit.PostgresURL(t)}
	}
	return nil
}

// startServer runs a server until the test ends.
func startServer(t *testing.T, engine db.Engine, env ...string) (*lab.Server, *client.Client) {
	t.Helper()
	s, err := lab.StartServer(t.Context(), filepath.Join(bin, "certctl"), t.TempDir(), append(settings(t, engine), env...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("stop server: %v", err)
		}
		if t.Failed() {
			t.Logf("server log:\n%s", tail(s.Log))
		}
	})
	api, err := s.Client()
	if err != nil {
		t.Fatal(err)
	}
	return s, api
}

// startAgent runs an agent until the test ends.
func startAgent(t *testing.T, s *lab.Server, name string) *lab.Agent {
	t.Helper()
	a, err := lab.StartAgent(t.Context(), filepath.Join(bin, "certctl-agent"), t.TempDir(), s, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Stop(); err != nil {
			t.Errorf("stop agent: %v", err)
		}
		if t.Failed() {
			t.Logf("log of agent %s:\n%s", name, tail(a.Log))
		}
	})
	return a
}

func startNginx(t *testing.T, site string) *lab.Nginx {
	t.Helper()
	n, err := lab.StartNginx(t.Context(), t.TempDir(), site)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Stop() })
	return n
}

// eachEngine runs a test on both engines at the same time.
func eachEngine(t *testing.T, test func(t *testing.T, engine db.Engine)) {
	t.Helper()
	for _, engine := range []db.Engine{db.SQLite, db.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			t.Parallel()
			test(t, engine)
		})
	}
}

// await waits for a condition and fails the test with its last error.
func await(t *testing.T, what string, condition func(ctx context.Context) error) {
	t.Helper()
	if err := lab.Await(t.Context(), time.Minute, what, condition); err != nil {
		t.Fatal(err)
	}
}

func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	const most = 6000
	return string(text[max(0, len(text)-most):])
}
