package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/secret"
)

const startTimeout = 30 * time.Second

// Server is a certctl server as a process.
type Server struct {
	*Process
	URL      string
	CASHA256 string
	APIKey   secret.String // of the first start
	Started  time.Duration // from exec to its word that it is ready

	binary, dir string
	env         []string
}

// StartServer starts a server with a data directory below dir, on ports that
// are free. More settings are given as CERTCTL_* variables.
func StartServer(ctx context.Context, binary, dir string, env ...string) (*Server, error) {
	api, err := FreePort()
	if err != nil {
		return nil, err
	}
	status, err := FreePort()
	if err != nil {
		return nil, err
	}
	s := &Server{binary: binary, dir: dir, URL: fmt.Sprintf("https://127.0.0.1:%d", api)}
	s.env = append([]string{
		"CERTCTL_DATA_DIR=" + s.DataDir(),
		fmt.Sprintf("CERTCTL_LISTEN=127.0.0.1:%d", api),
		fmt.Sprintf("CERTCTL_STATUS_LISTEN=127.0.0.1:%d", status),
		fmt.Sprintf("CERTCTL_STATUS_URL=http://127.0.0.1:%d", status),
		"CERTCTL_LOG_FORMAT=json",
	}, env...)
	return s, s.Restart(ctx)
}

// Restart starts the server again, after Stop or Kill, with the same settings.
func (s *Server) Restart(ctx context.Context) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = read.Close() }()
	began := time.Now()
	cmd := exec.Command(s.binary, "server") //nolint:gosec // the lab's own binary
	cmd.Env = append(os.Environ(), s.env...)
	cmd.Stdout = write
	s.Process, err = start(cmd, filepath.Join(s.dir, "server.log"))
	_ = write.Close() // the process has its own handle
	if err != nil {
		return err
	}
	if err := s.readGreeting(ctx, read); err != nil {
		s.Kill()
		return fmt.Errorf("the server did not become ready: %w\n%s", err, s.tail())
	}
	s.Started = time.Since(began)
	return nil
}

// readGreeting reads what the server tells a person when it is ready.
func (s *Server) readGreeting(ctx context.Context, stdout io.Reader) error {
	lines := make(chan string)
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			select {
			case lines <- scanner.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case line, open := <-lines:
			if !open {
				return errors.New("it ended")
			}
			name, value, _ := strings.Cut(strings.TrimSpace(line), "  ")
			switch value = strings.TrimSpace(value); {
			case name == "CA fingerprint":
				s.CASHA256 = value
			case name == "API key":
				s.APIKey = secret.New(value)
				return nil
			case strings.HasPrefix(line, "certctl is ready at"):
				return nil
			}
		}
	}
}

// Client calls the server with the first admin key.
func (s *Server) Client() (*client.Client, error) {
	return client.New(client.Options{URL: s.URL, APIKey: s.APIKey, CASHA256: s.CASHA256})
}

// DataDir is the server's data directory.
func (s *Server) DataDir() string { return filepath.Join(s.dir, "data") }

// Local runs a command that works on the server's data itself, with the
// server's own settings, and gives what it printed.
func (s *Server) Local(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.binary, args...) //nolint:gosec // the lab's own binary
	cmd.Env = append(os.Environ(), s.env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("certctl %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// CLI runs the command line against the server and gives what it printed.
func (s *Server) CLI(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.binary, args...) //nolint:gosec // the lab's own binary
	cmd.Env = append(os.Environ(),
		"CERTCTL_URL="+s.URL, "CERTCTL_API_KEY="+s.APIKey.Reveal(), "CERTCTL_CA_SHA256="+s.CASHA256, "NO_COLOR=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("certctl %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}
