package targets

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/certctl-io/certctl/internal/problem"
)

// Engine carries out deployments on this host. It may be used by several
// goroutines, and by several processes that share the state directory.
type Engine struct {
	stateDir string
	now      func() time.Time
	path     string // where commands are looked for
	locks    *locks

	// reached is called between any two things that change the host. Tests end
	// the process there.
	reached func(point string)
}

// NewEngine makes an engine that keeps what it must remember of each target
// under stateDir/targets, readable by this user only. It can hold private keys.
func NewEngine(stateDir string, now func() time.Time) (*Engine, error) {
	stateDir, err := filepath.Abs(stateDir)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(stateDir, "targets")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the state directory of targets: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // it is a directory
		return nil, fmt.Errorf("close the state directory of targets to other users: %w", err)
	}
	return &Engine{
		stateDir: stateDir,
		now:      now,
		path:     searchPath(os.Getenv("PATH")),
		locks:    newLocks(),
		reached:  func(string) {},
	}, nil
}

// Deploy carries out one deployment and tells what became of it. It waits for
// another deployment of the same target, or of the same files, to end. When ctx
// ends before the new set is proven, the previous one is put back.
func (e *Engine) Deploy(ctx context.Context, job Job) Report {
	d := &deployment{
		engine: e,
		job:    job,
		run:    newRunner(e.path, job.Plan),
		report: Report{Fingerprint: job.Fingerprint, Steps: []Step{}, Started: e.now().UTC()},
	}
	d.carryOut(ctx)
	d.report.Finished = e.now().UTC()
	return d.report
}

var (
	plainID     = regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`)
	fingerprint = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// lockTarget waits for the target and opens what is remembered of it.
func (d *deployment) lockTarget(ctx context.Context) (release func(), err error) {
	if !plainID.MatchString(d.job.TargetID) || !plainID.MatchString(d.job.DeploymentID) {
		return nil, problem.Conflict("deployment %q of target %q: these are no ids", d.job.DeploymentID, d.job.TargetID)
	}
	if !fingerprint.MatchString(d.job.Fingerprint) {
		return nil, problem.Conflict("%q is not a SHA-256 fingerprint in lower-case hex", d.job.Fingerprint)
	}
	releaseName, err := d.engine.locks.acquire(ctx, d.job.TargetID)
	if err != nil {
		return nil, stopped(err)
	}
	defer func() {
		if err != nil {
			releaseName()
		}
	}()
	if d.state, err = newStateFolder(d.engine.stateDir, d.job.TargetID); err != nil {
		return nil, err
	}
	releaseFile, err := d.state.lock(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, stopped(err)
	case err != nil:
		return nil, err
	}
	if d.journal, err = d.state.load(); err != nil {
		releaseFile()
		return nil, err
	}
	for _, saved := range d.journal.Previous {
		d.run.redact.hide(saved.data)
	}
	return func() { releaseFile(); releaseName() }, nil
}

func stopped(err error) error {
	return problem.Temporary(fmt.Errorf("stopped while waiting for another deployment: %w", err), 0)
}
