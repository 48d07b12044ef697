package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/certctl-io/certctl/internal/client"
)

// Agent is a certctl-agent as a process.
type Agent struct {
	*Process
	Name string

	binary, dir string
}

// StartAgent enrols an agent under a name and runs it, with its state below
// dir.
func StartAgent(ctx context.Context, binary, dir string, s *Server, name string) (*Agent, error) {
	api, err := s.Client()
	if err != nil {
		return nil, err
	}
	token, err := api.CreateEnrolmentToken(ctx, client.EnrolmentTokenSpec{Description: name, MaxUses: 1, Lifetime: "1h"})
	if err != nil {
		return nil, err
	}
	a := &Agent{Name: name, binary: binary, dir: dir}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "enroll", "--server", s.URL, "--ca-sha256", s.CASHA256, "--name", name, "--state", a.State()) //nolint:gosec // the lab's own binary
	cmd.Env = append(os.Environ(), "CERTCTL_AGENT_TOKEN="+token.Token.Reveal())
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("enrol agent %s: %w\n%s", name, err, out)
	}
	return a, a.Restart()
}

// State is the agent's state directory.
func (a *Agent) State() string { return filepath.Join(a.dir, "agent-"+a.Name) }

// Restart runs the agent again, after Stop or Kill.
func (a *Agent) Restart() error {
	cmd := exec.Command(a.binary, "run", "--state", a.State()) //nolint:gosec // the lab's own binary
	var err error
	a.Process, err = start(cmd, filepath.Join(a.dir, "agent-"+a.Name+".log"))
	return err
}
