package targets

import (
	"context"
	"fmt"
	"strings"

	"github.com/certctl-io/certctl/internal/problem"
)

// resolveFiles finds where the plan's files really are, and adds its records.
func (d *deployment) resolveFiles() error {
	seen := map[string]string{}
	for _, file := range d.job.Plan.Files {
		real, err := resolve(file.Path)
		if err != nil {
			return err
		}
		if other, taken := seen[real]; taken {
			return problem.Conflict("%s and %s are the same file", other, file.Path).Hint("give each file a path of its own")
		}
		seen[real] = file.Path
		d.files = append(d.files, replacement{path: real, data: file.Data})
	}
	for _, record := range d.job.Plan.Records {
		path := recordPath(record.Store, record.Name)
		if _, taken := seen[path]; taken {
			return problem.Conflict("%s is named twice", path).Hint("give each record a name of its own")
		}
		seen[path] = path
		d.files = append(d.files, replacement{path: path, store: record.Store, data: record.Data})
	}
	if len(d.files) == 0 {
		return problem.Conflict("the target names no file to write").Hint("name at least one file in its settings")
	}
	return nil
}

// paths are all files that this deployment may write, also those of an earlier
// one that it may have to put back.
func (d *deployment) paths() []string {
	var paths []string
	for _, file := range d.files {
		paths = append(paths, file.path)
	}
	for _, saved := range d.journal.Previous {
		paths = append(paths, saved.Path)
	}
	return paths
}

// prepare settles what will be written and finds what could stand in the way.
func (d *deployment) prepare(ctx context.Context) (string, error) {
	for _, command := range []Command{d.job.Plan.Validate, d.job.Plan.Reload} {
		if command == nil {
			continue
		}
		if _, err := d.run.find(command); err != nil {
			return "", err
		}
	}
	var notes []string
	if d.journal.open() {
		notes = append(notes, "deployment "+d.journal.Deployment+" was interrupted: the files from before it are kept for the way back")
	}
	for i, file := range d.job.Plan.Files {
		note, err := d.prepareFile(file, &d.files[i])
		if err != nil {
			return "", err
		}
		notes = append(notes, note)
	}
	for i := len(d.job.Plan.Files); i < len(d.files); i++ {
		record := &d.files[i]
		var err error
		if record.was, err = d.previousRecord(ctx, *record); err != nil {
			return "", err
		}
		d.run.redact.hide(record.was.data)
		notes = append(notes, record.path)
	}
	return strings.Join(notes, "\n"), nil
}

func (d *deployment) prepareFile(file File, to *replacement) (note string, err error) {
	if to.was, err = d.previous(to.path); err != nil {
		return "", err
	}
	d.run.redact.hide(to.was.data)
	if to.uid, err = lookupUser(file.Owner); err != nil {
		return "", err
	}
	if to.gid, err = lookupGroup(file.Group); err != nil {
		return "", err
	}
	to.mode = file.Mode.Perm()
	switch {
	case to.was.Existed:
		if to.mode == 0 {
			to.mode = to.was.Mode
		}
		if to.uid == keep {
			to.uid = to.was.UID
		}
		if to.gid == keep {
			to.gid = to.was.GID
		}
	case to.mode == 0 && file.Secret:
		to.mode = 0o600
	case to.mode == 0:
		to.mode = 0o644
	}
	note = to.path
	if to.path != file.Path {
		note = file.Path + " -> " + note
	}
	if file.Secret && to.mode&0o004 != 0 {
		note += fmt.Sprintf(": holds a private key and is readable by everybody (mode %04o)", to.mode)
	}
	return note, nil
}

// previous tells what stood at a path before anything unfinished touched it.
func (d *deployment) previous(path string) (snapshot, error) {
	if saved, ok := d.journal.previous(path); ok {
		return saved, nil
	}
	return takeSnapshot(path)
}

// previousRecord tells the same of a record. That it is not somebody else's is
// asked in any case.
func (d *deployment) previousRecord(ctx context.Context, record replacement) (snapshot, error) {
	now, err := d.engine.lookAt(ctx, d.job.TargetID, record.store, record.path)
	if err != nil {
		return snapshot{}, err
	}
	if saved, ok := d.journal.previous(record.path); ok {
		return saved, nil
	}
	return now, nil
}
