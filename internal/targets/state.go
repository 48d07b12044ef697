package targets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/certctl-io/certctl/internal/problem"
)

// phase is how far the deployment in a journal is.
type phase string

const (
	phaseNone      phase = ""          // the target never had a deployment here
	phaseApplying  phase = "applying"  // each file may be the previous or the new one
	phaseRestoring phase = "restoring" // it failed: the previous set is being put back
	phaseClosed    phase = "closed"    // nothing is under way
)

// journal is the record of the last deployment of a target. While it is open,
// Previous and the copies that belong to it are the only truth about the
// previous set.
type journal struct {
	Deployment  string      `json:"deployment"`
	Fingerprint string      `json:"fingerprint"` // of the certificate that it brings
	Phase       phase       `json:"phase"`
	Outcome     string      `json:"outcome,omitempty"`   // when closed
	Generation  int         `json:"generation"`          // names the folder of the copies
	Previous    []snapshot  `json:"previous,omitempty"`  // while open
	Before      observation `json:"before"`              // what was served with the previous set
	Reloaded    bool        `json:"reloaded,omitempty"`  // the server may have loaded the new set
	Failure     string      `json:"failure,omitempty"`   // why it is being put back
	Retryable   bool        `json:"retryable,omitempty"` // of the failure

	Kept           []snapshot `json:"kept,omitempty"`            // records as the last good deployment left them
	KeptGeneration int        `json:"kept_generation,omitempty"` // names the folder of their content
}

// open tells whether the deployment was not brought to an end.
func (j journal) open() bool { return j.Phase == phaseApplying || j.Phase == phaseRestoring }

// observation is what a probe saw.
type observation struct {
	Address     string `json:"address,omitempty"`
	ServerName  string `json:"server_name,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"` // "": no handshake succeeded
}

// stateFolder is what the engine remembers of one target:
//
//	lock                    held by whoever works on the target
//	journal.json
//	previous-<generation>/  copies of the previous set, 0, 1, ...
//	kept-<generation>/      content of the records to keep, 0, 1, ...
//
// Copies are written once and never changed; a new generation gets a new
// folder, and the rename of the journal decides which one counts.
type stateFolder struct{ dir string }

func newStateFolder(root, targetID string) (stateFolder, error) {
	s := stateFolder{dir: filepath.Join(root, "targets", targetID)}
	return s, os.MkdirAll(s.dir, 0o700)
}

func (s stateFolder) lock(ctx context.Context) (release func(), err error) {
	return lockFile(ctx, filepath.Join(s.dir, "lock"))
}

// previous finds what an open journal says of a path.
func (j journal) previous(path string) (snapshot, bool) {
	if j.open() {
		for _, saved := range j.Previous {
			if saved.Path == path {
				return saved, true
			}
		}
	}
	return snapshot{}, false
}

// read reads the journal alone, which needs no lock.
func (s stateFolder) read() (journal, error) {
	text, err := os.ReadFile(filepath.Join(s.dir, "journal.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return journal{}, err
	}
	var j journal
	if err == nil {
		if err := json.Unmarshal(text, &j); err != nil {
			return journal{}, s.damaged(err)
		}
	}
	return j, nil
}

// load reads the journal, with the content of the previous set when it is open,
// and removes copies that no journal refers to.
func (s stateFolder) load() (journal, error) {
	j, err := s.read()
	if err != nil {
		return journal{}, err
	}
	if err := s.sweep(j); err != nil {
		return journal{}, err
	}
	if !j.open() {
		return j, nil
	}
	for i := range j.Previous {
		saved := &j.Previous[i]
		if !saved.Existed {
			continue
		}
		if saved.data, err = s.copyOf(*saved, s.copies(j.Generation), i); err != nil {
			return journal{}, err
		}
	}
	return j, nil
}

// copyOf reads the copy of a snapshot, the how manyeth in its folder.
func (s stateFolder) copyOf(saved snapshot, dir string, i int) ([]byte, error) {
	data, err := os.ReadFile(copyPath(dir, i))
	if err != nil {
		return nil, s.damaged(err)
	}
	if sum(data) != saved.SHA256 {
		return nil, s.damaged(fmt.Errorf("the copy of %s is not what was copied", saved.Path))
	}
	return data, nil
}

// keepSet makes records those to keep, and gives the journal that says so. They
// count from the moment that it is saved.
func (s stateFolder) keepSet(j journal, records []snapshot) (journal, error) {
	same := func(a, b snapshot) bool { return a.Path == b.Path && a.same(b) }
	if slices.EqualFunc(records, j.Kept, same) {
		return j, nil
	}
	if len(records) > 0 {
		if err := s.copySet(s.kept(j.KeptGeneration+1), records); err != nil {
			return j, err
		}
	}
	j.Kept, j.KeptGeneration = records, j.KeptGeneration+1
	return j, nil
}

func (s stateFolder) damaged(err error) error {
	return problem.Conflict("what the agent remembers of the last deployment is damaged: %v", err).
		Hint("see that the target's files are right, then remove %s and deploy again", s.dir)
}

// save replaces the journal in one step that survives a power cut.
func (s stateFolder) save(j journal) error {
	text, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(s.dir, "journal.json")
	if err := writeSynced(path+".tmp", text); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	return syncDir(s.dir)
}

// copySet writes the copies of a set into a folder. They count from the moment
// that a journal of its generation is saved.
func (s stateFolder) copySet(dir string, set []snapshot) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for i, saved := range set {
		if !saved.Existed {
			continue
		}
		if err := writeSynced(copyPath(dir, i), saved.data); err != nil {
			return err
		}
	}
	return syncDir(dir)
}

func (s stateFolder) copies(generation int) string {
	return filepath.Join(s.dir, "previous-"+strconv.Itoa(generation))
}

func (s stateFolder) kept(generation int) string {
	return filepath.Join(s.dir, "kept-"+strconv.Itoa(generation))
}

func copyPath(dir string, i int) string { return filepath.Join(dir, strconv.Itoa(i)) }

// sweep removes the copies that an earlier run left behind. They hold private
// keys that nothing needs any more.
func (s stateFolder) sweep(j journal) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(s.dir, entry.Name())
		isCopy := strings.HasPrefix(entry.Name(), "previous-") || strings.HasPrefix(entry.Name(), "kept-")
		needed := j.open() && path == s.copies(j.Generation) || len(j.Kept) > 0 && path == s.kept(j.KeptGeneration)
		if !isCopy || needed {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}

// writeSynced writes a file that only this user may read, and syncs it.
func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
