package targets

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/certctl-io/certctl/internal/problem"
)

// deployment carries out one job while its target is locked.
type deployment struct {
	engine  *Engine
	job     Job
	run     runner
	state   stateFolder
	journal journal
	before  observation // what was served with the previous set
	files   []replacement
	report  Report
}

type stepFunc func(ctx context.Context) (output string, err error)

func (d *deployment) carryOut(ctx context.Context) {
	release, err := d.lockTarget(ctx)
	if err != nil {
		d.refuse(err)
		return
	}
	defer release()
	unresolved := d.resolveFiles()
	release, err = d.engine.locks.acquire(ctx, d.paths()...)
	if err != nil {
		d.refuse(stopped(err))
		return
	}
	defer release()

	if d.journal.Phase == phaseRestoring && d.journal.Deployment == d.job.DeploymentID {
		d.rollback(ctx)
		return
	}
	err = d.step(ctx, "prepare", func(ctx context.Context) (string, error) {
		if unresolved != nil {
			return "", unresolved
		}
		return d.prepare(ctx)
	})
	if err != nil {
		d.giveUp(ctx, err)
		return
	}
	if d.inPlace() {
		d.confirm(ctx)
		return
	}
	d.apply(ctx)
}

// apply goes through the steps of a deployment that has something to change.
func (d *deployment) apply(ctx context.Context) {
	for _, step := range []struct {
		name string
		do   stepFunc
	}{
		{"observe", d.observe},
		{"backup", d.backup},
		{"write", d.write},
		{"validate", d.validate},
		{"reload", d.reload},
		{"verify", d.verify},
		{"finish", d.finish},
	} {
		if err := d.step(ctx, step.name, step.do); err != nil {
			d.giveUp(ctx, err)
			return
		}
	}
	d.report.Outcome = OutcomeDeployed
	d.report.Reason = d.proof()
}

// step runs and records one step.
func (d *deployment) step(ctx context.Context, name string, do stepFunc) error {
	d.engine.reached(name)
	started := d.engine.now().UTC()
	output, err := "", ctx.Err()
	if err != nil {
		err = problem.Temporary(fmt.Errorf("stopped before the step %q: %w", name, context.Cause(ctx)), 0)
	} else {
		output, err = do(ctx)
	}
	if output == "" && err != nil {
		output = err.Error()
	}
	d.report.Steps = append(d.report.Steps, Step{
		Name: name, Started: started, DurationMS: d.engine.now().Sub(started).Milliseconds(), OK: err == nil, Output: output,
	})
	return err
}

// giveUp ends a deployment that cannot succeed: by the way back when one is
// needed, be it because of an earlier deployment that was interrupted.
func (d *deployment) giveUp(ctx context.Context, err error) {
	if !d.journal.open() {
		d.refuse(err)
		return
	}
	d.journal.Phase = phaseRestoring
	d.journal.Deployment = d.job.DeploymentID
	d.journal.Failure, d.journal.Retryable = err.Error(), retryable(err)
	d.rollback(ctx)
}

// refuse ends a deployment that changed nothing.
func (d *deployment) refuse(err error) {
	d.report.Outcome = OutcomeFailed
	d.report.Reason = err.Error() + "; nothing was changed"
	d.report.Retryable = retryable(err)
}

// retryable tells whether the failure can pass by itself.
func retryable(err error) bool {
	if problem.KindOf(err) == problem.KindTemporary {
		return true
	}
	passing := []error{
		syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EAGAIN, syscall.EBUSY,
	}
	return slices.ContainsFunc(passing, func(e error) bool { return errors.Is(err, e) })
}
