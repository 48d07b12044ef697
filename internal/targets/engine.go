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
	stores   map[string]Store

	// keptChanged says that there may be other records to keep.
	keptChanged chan struct{}

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
		stores:   map[string]Store{},

		keptChanged: make(chan struct{}, 1),

		reached: func(string) {},
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
	if d.state, d.journal, release, err = d.engine.open(ctx, d.job.TargetID); err != nil {
		return nil, err
	}
	for _, saved := range d.journal.Previous {
		d.run.redact.hide(saved.data)
	}
	return release, nil
}

// open waits for a target and gives what is remembered of it. Until release
// nobody else works on the target.
func (e *Engine) open(ctx context.Context, targetID string) (state stateFolder, j journal, release func(), err error) {
	releaseName, err := e.locks.acquire(ctx, targetID)
	if err != nil {
		return state, j, nil, stopped(err)
	}
	defer func() {
		if err != nil {
			releaseName()
		}
	}()
	if state, err = newStateFolder(e.stateDir, targetID); err != nil {
		return state, j, nil, err
	}
	releaseFile, err := state.lock(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return state, j, nil, stopped(err)
	case err != nil:
		return state, j, nil, err
	}
	if j, err = state.load(); err != nil {
		releaseFile()
		return state, j, nil, err
	}
	return state, j, func() { releaseFile(); releaseName() }, nil
}

func stopped(err error) error {
	return problem.Temporary(fmt.Errorf("stopped while waiting for another deployment: %w", err), 0)
}
