package targets

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/certctl-io/certctl/internal/problem"
)

// observe sees what is served before anything is changed: the proof of a way
// back. What an interrupted deployment saw goes before, as it may have changed it.
func (d *deployment) observe(ctx context.Context) (string, error) {
	probe := d.job.Plan.Probe
	if probe == nil {
		return "no probe is set", nil
	}
	before := d.journal.Before
	if d.journal.open() && before.Address == probe.Address && before.ServerName == probe.ServerName {
		d.before = before
		return "before the interrupted deployment: " + seen(before.Fingerprint, nil), nil
	}
	fingerprint, err := probe.handshake(ctx)
	d.before = observation{Address: probe.Address, ServerName: probe.ServerName, Fingerprint: fingerprint}
	d.report.Served = fingerprint
	return probe.String() + ": " + seen(fingerprint, err), nil
}

func seen(fingerprint string, err error) string {
	switch {
	case fingerprint != "":
		return "serves certificate " + fingerprint
	case err != nil:
		return "no certificate is served (" + err.Error() + ")"
	default:
		return "no certificate was served"
	}
}

// backup copies the previous set and opens the journal: from here on there is
// something to put back.
func (d *deployment) backup(ctx context.Context) (string, error) {
	next := journal{
		Deployment: d.job.DeploymentID, Fingerprint: d.job.Fingerprint, Phase: phaseApplying,
		Generation: d.journal.Generation + 1, Before: d.before,
		Kept: d.journal.Kept, KeptGeneration: d.journal.KeptGeneration,
	}
	for _, file := range d.files {
		next.Previous = append(next.Previous, file.was)
	}
	if d.journal.open() {
		next.Reloaded = d.journal.Reloaded
		if err := d.leaveAlone(ctx); err != nil {
			return "", err
		}
	}
	if err := d.state.copySet(d.state.copies(next.Generation), next.Previous); err != nil {
		return "", fmt.Errorf("copy the previous files: %w", err)
	}
	d.engine.reached("copied")
	if err := d.state.save(next); err != nil {
		return "", fmt.Errorf("write the journal: %w", err)
	}
	d.journal = next
	d.engine.reached("journal open")
	return "", nil
}

// leaveAlone puts back what an interrupted deployment may have written to files
// that this one does not write.
func (d *deployment) leaveAlone(ctx context.Context) error {
	for _, saved := range d.journal.Previous {
		if slices.ContainsFunc(d.files, func(r replacement) bool { return r.path == saved.Path }) {
			continue
		}
		if err := d.putBack(ctx, saved); err != nil {
			return fmt.Errorf("put back %s after an interrupted deployment: %w", saved.Path, err)
		}
		d.engine.reached("left alone")
	}
	return nil
}

// write makes all new files ready beside the old ones, then renames them in a
// row, so that the time with a certificate and key that do not match is short.
// Records follow.
func (d *deployment) write(ctx context.Context) (string, error) {
	files := d.files[:len(d.job.Plan.Files)]
	for _, file := range files {
		if err := file.stage(tempPath(d.job.TargetID, file.path)); err != nil {
			return "", fmt.Errorf("write %s: %w", file.path, err)
		}
		d.engine.reached("staged")
	}
	folders := map[string]string{} // a file in each
	for _, file := range files {
		if err := renameBeside(tempPath(d.job.TargetID, file.path), file.path); err != nil {
			return "", denied(err)
		}
		folders[filepath.Dir(file.path)] = file.path
		d.engine.reached("renamed")
	}
	for _, path := range folders {
		if err := syncFolderOf(path); err != nil {
			return "", denied(err)
		}
	}
	return "", d.writeRecords(ctx)
}

// validate asks the server's own check about the files in place.
func (d *deployment) validate(ctx context.Context) (string, error) {
	if d.job.Plan.Validate == nil {
		return "the target has no command to validate with", nil
	}
	return d.run.run(ctx, d.job.Plan.Validate)
}

// reload makes the server load the files in place. That it may have done so is
// noted first: then the way back needs a reload too.
func (d *deployment) reload(ctx context.Context) (string, error) {
	if d.job.Plan.Reload == nil && d.job.Plan.Signal == nil {
		return "the target has no command to reload with", nil
	}
	if d.journal.open() && !d.journal.Reloaded {
		d.journal.Reloaded = true
		if err := d.state.save(d.journal); err != nil {
			return "", fmt.Errorf("write the journal: %w", err)
		}
		d.engine.reached("reload noted")
	}
	output, err := d.loadFiles(ctx)
	if err != nil {
		// The server may be starting just now, or be busy with another reload.
		err = problem.Temporary(err, 0)
	}
	return output, err
}

func (d *deployment) loadFiles(ctx context.Context) (string, error) {
	if signal := d.job.Plan.Signal; signal != nil {
		return fmt.Sprintf("%v to the process in %s", signal.Signal, signal.PIDFile), signal.send()
	}
	return d.run.run(ctx, d.job.Plan.Reload)
}

// verify reads the records back and waits until the server shows the new
// certificate.
func (d *deployment) verify(ctx context.Context) (string, error) {
	note, err := d.readBack(ctx)
	if err != nil {
		return "", err
	}
	probe := d.job.Plan.Probe
	if probe == nil && note != "" {
		return note + "\nno probe is set: what is served was not checked", nil
	}
	if probe == nil {
		return "no probe is set: what is served was not checked", nil
	}
	served, err := probe.await(ctx, func(fingerprint string) bool { return fingerprint == d.job.Fingerprint })
	d.report.Served = served
	if err != nil {
		return "", err
	}
	return strings.TrimPrefix(note+"\n", "\n") + probe.String() + " serves certificate " + served, nil
}

// finish closes the journal; the copies of the previous set are not needed any more.
func (d *deployment) finish(context.Context) (string, error) {
	return "", d.close(OutcomeDeployed)
}

func (d *deployment) close(outcome string) error {
	closed := d.journal
	if outcome == OutcomeDeployed {
		var err error
		if closed, err = d.state.keepSet(closed, d.wantedRecords()); err != nil {
			return fmt.Errorf("remember what was deployed: %w", err)
		}
	}
	closed.Phase, closed.Outcome, closed.Previous = phaseClosed, outcome, nil
	if err := d.state.save(closed); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	d.journal = closed
	d.engine.reached("journal closed")
	d.engine.wakeKeeper()
	_ = d.state.sweep(closed) // what is left goes at the next load, which tells
	return nil
}
