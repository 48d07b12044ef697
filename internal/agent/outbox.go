package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/certctl-io/certctl/internal/id"
)

// result is the outcome of a task, on its way to the server.
type result struct {
	TaskID string          `json:"task_id"`
	Path   string          `json:"path"` // of the operation that takes it
	Body   json.RawMessage `json:"body"`
}

// outbox keeps results on disk until the server has acknowledged them, so that
// the end of the process between doing and reporting loses nothing.
type outbox struct{ dir string }

func newOutbox(stateDir string) (*outbox, error) {
	dir := filepath.Join(stateDir, "outbox")
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("make the outbox: %w", err)
	}
	return &outbox{dir: dir}, nil
}

func (o *outbox) put(r result) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the result of task %s: %w", r.TaskID, err)
	}
	if err := writeFile(o.path(r.TaskID), text); err != nil {
		return fmt.Errorf("store the result of task %s: %w", r.TaskID, err)
	}
	return nil
}

func (o *outbox) remove(taskID string) error {
	if err := removeFile(o.path(taskID)); err != nil {
		return fmt.Errorf("remove the result of task %s: %w", taskID, err)
	}
	return nil
}

// all reads what an earlier life of the agent left behind. A file that cannot
// be read does not hide the others.
func (o *outbox) all() (results []result, err error) {
	files, err := filepath.Glob(filepath.Join(o.dir, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("read the outbox: %w", err)
	}
	for _, file := range files {
		var r result
		text, readErr := os.ReadFile(file)
		if readErr == nil {
			readErr = json.Unmarshal(text, &r)
		}
		if readErr == nil && !id.Is("tsk", r.TaskID) {
			readErr = errors.New("it names no task")
		}
		if readErr != nil {
			err = errors.Join(err, fmt.Errorf("read result %s: %w", file, readErr))
			continue
		}
		results = append(results, r)
	}
	return results, err
}

// path is where the result of a task is. Task ids are checked when the task is
// accepted.
func (o *outbox) path(taskID string) string { return filepath.Join(o.dir, taskID+".json") }
