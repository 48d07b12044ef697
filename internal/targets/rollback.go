package targets

import (
	"context"
	"fmt"
)

// rollback puts the previous set back and shows that it is served again. The
// journal says why. It goes on when ctx ends: each of its steps has a time
// limit of its own, and a host is not left half way.
func (d *deployment) rollback(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	d.report.Retryable = d.journal.Retryable
	err := d.step(ctx, "rollback.restore", d.restore)
	if err != nil {
		// The copies stay the previous set, for the next deployment too.
		d.journal.Phase = phaseApplying
		d.end(ctx, OutcomeFailed, "the previous "+d.job.Plan.content()+" could not be put back: "+err.Error(), d.state.save)
		return
	}
	reloadErr := d.reloadRestored(ctx)
	verifyErr := d.step(ctx, "rollback.verify", d.verifyRestored)
	outcome, end := d.judge(reloadErr, verifyErr)
	d.end(ctx, outcome, end, func(journal) error { return d.close(outcome) })
}

// restore makes every file what it was.
func (d *deployment) restore(ctx context.Context) (string, error) {
	// If this cannot be saved, a rerun after a crash starts over instead of
	// going on here, which is right as well.
	saveErr := d.state.save(d.journal)
	d.engine.reached("restoring noted")
	for _, saved := range d.journal.Previous {
		if err := d.putBack(ctx, saved); err != nil {
			return "", fmt.Errorf("%s: %w", saved.Path, err)
		}
		d.engine.reached("restored")
	}
	if saveErr != nil {
		return "the journal could not be written: " + saveErr.Error(), nil //nolint:nilerr // the files are restored, which is what counts
	}
	return "", nil
}

// putBack makes a file or a record what the snapshot says.
func (d *deployment) putBack(ctx context.Context, saved snapshot) error {
	if saved.Store == "" {
		return restore(d.job.TargetID, saved)
	}
	if changed, err := d.engine.settle(ctx, d.job.TargetID, saved); err != nil || !changed {
		return err
	}
	return d.engine.confirmRecord(ctx, d.job.TargetID, saved)
}

// reloadRestored makes the server load the restored files, unless it never
// loaded others. A set that does not validate is not loaded: for some servers
// a reload would be the end.
func (d *deployment) reloadRestored(ctx context.Context) error {
	if !d.journal.Reloaded {
		return nil
	}
	if err := d.step(ctx, "rollback.validate", d.validate); err != nil {
		return err
	}
	return d.step(ctx, "rollback.reload", d.reload)
}

// verifyRestored waits until the probe sees what it saw before the deployment.
func (d *deployment) verifyRestored(ctx context.Context) (string, error) {
	probe := d.witness()
	if probe == nil {
		return "nothing was seen before that could be seen again", nil
	}
	before, brought := d.journal.Before, d.journal.Fingerprint
	served, err := probe.await(ctx, before.seenAgain(brought))
	d.report.Served = served
	if err != nil && before.Fingerprint == "" && served != brought {
		return probe.String() + ": " + seen(served, err), nil
	}
	if err != nil {
		return "", err
	}
	return probe.String() + ": " + seen(served, nil), nil
}

// witness is the probe that looked before the deployment, nil when none did.
func (d *deployment) witness() *Probe {
	before, probe := d.journal.Before, d.job.Plan.Probe
	if before.Address == "" || probe == nil {
		return nil
	}
	return &Probe{Address: before.Address, ServerName: before.ServerName, Timeout: probe.Timeout}
}

// seenAgain tells whether a probe shows the state of before: the same leaf, or,
// when none was served, anything but the one that the deployment brought.
func (o observation) seenAgain(brought string) func(fingerprint string) bool {
	return func(fingerprint string) bool {
		if o.Fingerprint == "" {
			return fingerprint != brought
		}
		return fingerprint == o.Fingerprint
	}
}

// judge gives the outcome of a way back on which all files were restored. A
// handshake is the better witness; without a probe the reload must do.
func (d *deployment) judge(reloadErr, verifyErr error) (outcome, reason string) {
	probe, before, back := d.witness(), d.journal.Before, d.restored()
	switch {
	case verifyErr != nil && reloadErr != nil:
		return OutcomeFailed, fmt.Sprintf("%s, but the server did not load them (%v), and %v", back, reloadErr, verifyErr)
	case verifyErr != nil:
		return OutcomeFailed, fmt.Sprintf("%s, but %v", back, verifyErr)
	case probe == nil && reloadErr != nil:
		return OutcomeFailed, fmt.Sprintf("%s, but the server did not load them: %v", back, reloadErr)
	case probe == nil:
		return OutcomeRolledBack, back
	case before.Fingerprint == "":
		return OutcomeRolledBack, fmt.Sprintf("%s; %s served no certificate before either", back, probe)
	default:
		return OutcomeRolledBack, fmt.Sprintf("%s and %s serves the previous certificate %s", back, probe, short(before.Fingerprint))
	}
}

// restored says for a person that the previous set is back.
func (d *deployment) restored() string {
	if len(d.job.Plan.Files) == 0 {
		return "the previous content is back"
	}
	return "the previous files are back"
}

// end writes the report of a way back, and the journal.
func (d *deployment) end(ctx context.Context, outcome, reason string, save func(journal) error) {
	d.report.Outcome = outcome
	d.report.Reason = d.journal.Failure + "; " + reason
	_ = d.step(ctx, "rollback.finish", func(context.Context) (string, error) { return "", save(d.journal) })
}
