package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Status is what can be seen of an agent from outside of its process.
type Status struct {
	Identity Identity
	Running  bool // a process works with the state directory
	Results  int  // results of tasks that wait to be handed in
}

// ReadStatus looks at the state directory of an enrolled agent. It disturbs no
// agent that runs.
func ReadStatus(stateDir string) (Status, error) {
	identity, err := ReadIdentity(stateDir)
	if err != nil {
		return Status{}, err
	}
	if !identity.Enrolled() {
		return Status{}, notEnrolled(stateDir)
	}
	s := Status{Identity: identity}
	if s.Running, err = locked(stateDir); err != nil {
		return Status{}, err
	}
	results, err := filepath.Glob(filepath.Join(stateDir, "outbox", "*.json"))
	if err != nil {
		return Status{}, fmt.Errorf("read the outbox: %w", err)
	}
	s.Results = len(results)
	return s, nil
}

// Reach checks that the server of an identity answers, and that it is trusted.
func Reach(ctx context.Context, identity Identity, version string, transport http.RoundTripper) error {
	client, err := newClient(identity, version, time.Now, transport)
	if err != nil {
		return err
	}
	defer client.http.CloseIdleConnections()
	return client.health(ctx)
}

// locked reports whether a process has taken the state directory.
func locked(stateDir string) (bool, error) {
	file, err := os.Open(filepath.Join(stateDir, lockName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at the lock of the state directory: %w", err)
	}
	defer func() { _ = file.Close() }()
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if err != nil && !errors.Is(err, syscall.EWOULDBLOCK) {
		return false, fmt.Errorf("look at the lock of the state directory: %w", err)
	}
	return err != nil, nil
}
