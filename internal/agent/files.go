package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/certctl-io/certctl/internal/problem"
)

const (
	dirMode  fs.FileMode = 0o700
	fileMode fs.FileMode = 0o600

	// temporary begins the names of files that are not in place yet.
	temporary = ".new-"

	lockName = "lock"
)

// makeDir makes a directory that only this user can enter, and makes sure that
// it is still there after a power cut.
func makeDir(path string) error {
	switch info, err := os.Stat(path); {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return problem.Conflict("%s is in the way: it is not a directory", path)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := os.MkdirAll(path, dirMode); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// writeFile puts a file in place at once, readable by this user only. When it
// returns, the content survives a power cut.
func writeFile(path string, content []byte) error {
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, temporary+"*") // mode 0600
	if err != nil {
		return err
	}
	_, err = temp.Write(content)
	if err == nil {
		err = temp.Sync()
	}
	err = errors.Join(err, temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return syncDir(dir)
}

// removeTemporaries removes what a process that was killed in writeFile left
// behind.
func removeTemporaries(stateDir string) error {
	for _, pattern := range []string{"", "outbox", "keys", "keys/*"} {
		files, err := filepath.Glob(filepath.Join(stateDir, pattern, temporary+"*"))
		if err != nil {
			return fmt.Errorf("remove temporary files: %w", err)
		}
		for _, file := range files {
			if err := removeFile(file); err != nil {
				return fmt.Errorf("remove temporary files: %w", err)
			}
		}
	}
	return nil
}

// removeFile removes a file; one that is not there is removed already.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// lockState takes the state directory for this process. The lock goes with the
// process, however it ends.
func lockState(stateDir string) (release func(), err error) {
	if err := makeDir(stateDir); err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(stateDir, lockName), os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, fileMode)
	if err != nil {
		return nil, fmt.Errorf("lock the state directory: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, problem.Conflict("another certctl-agent works with %s", stateDir).
				Hint("stop it first, or give this one a state directory of its own")
		}
		return nil, fmt.Errorf("lock the state directory: %w", err)
	}
	return func() { _ = file.Close() }, nil
}
