package targets

import (
	"context"
	"fmt"
)

// inPlace tells whether the plan's files stand where it wants them, byte for
// byte. Without a probe, that the server has loaded them is known only when the
// last deployment was completed.
func (d *deployment) inPlace() bool {
	unknown := d.job.Plan.Probe == nil && len(d.job.Plan.Files) > 0 && d.journal.Outcome != OutcomeDeployed
	if d.journal.open() || unknown {
		return false
	}
	for _, file := range d.files {
		wanted := snapshot{Existed: true, Mode: file.mode, UID: file.uid, GID: file.gid, SHA256: sum(file.data)}
		if !file.was.same(wanted) {
			return false
		}
	}
	return true
}

// confirm ends a deployment that has nothing to write: it is done when the
// certificate is served, be it after a reload that was missed before.
func (d *deployment) confirm(ctx context.Context) {
	if err := d.keep(); err != nil {
		d.refuse(err)
		return
	}
	if err := d.step(ctx, "verify", d.verifyNow); err == nil {
		d.report.Outcome = OutcomeUnchanged
		if d.journal.Deployment == d.job.DeploymentID {
			d.report.Outcome = OutcomeDeployed // by an earlier run that could not tell
		}
		d.report.Reason = d.proof()
		return
	}
	for _, step := range []struct {
		name string
		do   stepFunc
	}{
		{"validate", d.validate},
		{"reload", d.reload},
		{"verify", d.verify},
	} {
		if err := d.step(ctx, step.name, step.do); err != nil {
			d.report.Outcome = OutcomeFailed
			d.report.Reason = err.Error() + "; " + d.already() + ", so there is nothing to roll back to"
			d.report.Retryable = retryable(err)
			return
		}
	}
	d.report.Outcome = OutcomeDeployed
	d.report.Reason = d.already()
	if len(d.job.Plan.Files) > 0 {
		d.report.Reason += " and needed a reload"
	}
	d.report.Reason += "; " + d.proof()
}

// already says for a person that there was nothing to write.
func (d *deployment) already() string {
	if len(d.job.Plan.Files) == 0 {
		return "the content was in place already"
	}
	return "the files were in place already"
}

// verifyNow looks once, without giving the server time.
func (d *deployment) verifyNow(ctx context.Context) (string, error) {
	probe := d.job.Plan.Probe
	if probe == nil {
		return "no probe is set: what is served was not checked", nil
	}
	served, err := probe.handshake(ctx)
	d.report.Served = served
	if served != d.job.Fingerprint {
		return "", fmt.Errorf("%s: %s", probe, seen(served, err))
	}
	return probe.String() + " serves certificate " + served, nil
}

// proof says for a person how sure a success is.
func (d *deployment) proof() string {
	if d.job.Plan.Probe == nil && len(d.job.Plan.Files) == 0 {
		return fmt.Sprintf("certificate %s is in place; without a probe, what is served was not checked", short(d.job.Fingerprint))
	}
	if d.job.Plan.Probe == nil {
		return "the files are in place; without a probe, what is served was not checked"
	}
	return fmt.Sprintf("certificate %s is served at %s", short(d.job.Fingerprint), d.job.Plan.Probe)
}
