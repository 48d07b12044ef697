package targets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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

// load reads the journal, with the content of the previous set when it is open,
// and removes copies that no journal refers to.
func (s stateFolder) load() (journal, error) {
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
		if saved.data, err = os.ReadFile(s.copyPath(j.Generation, i)); err != nil {
			return journal{}, s.damaged(err)
		}
		if sum(saved.data) != saved.SHA256 {
			return journal{}, s.damaged(fmt.Errorf("the copy of %s is not what was copied", saved.Path))
		}
	}
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

// copySet writes the copies of a previous set. They count from the moment that
// a journal of this generation is saved.
func (s stateFolder) copySet(generation int, set []snapshot) error {
	dir := s.copies(generation)
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
		if err := writeSynced(s.copyPath(generation, i), saved.data); err != nil {
			return err
		}
	}
	return syncDir(dir)
}

func (s stateFolder) copies(generation int) string {
	return filepath.Join(s.dir, "previous-"+strconv.Itoa(generation))
}

func (s stateFolder) copyPath(generation, i int) string {
	return filepath.Join(s.copies(generation), strconv.Itoa(i))
}

// sweep removes the copies that an earlier run left behind. They hold private
// keys that nothing needs any more.
func (s stateFolder) sweep(j journal) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(s.dir, entry.Name())
		if !strings.HasPrefix(entry.Name(), "previous-") || j.open() && path == s.copies(j.Generation) {
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
