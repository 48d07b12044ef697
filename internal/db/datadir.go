package db

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/certctl-io/certctl/internal/problem"
)

// LockDataDir makes the data directory when it is missing and takes its lock,
// which a server holds as long as it runs: two of them on one SQLite file would
// each believe that the jobs of the other are lost.
func LockDataDir(dir string) (io.Closer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, problem.Invalid("data_dir", "%s cannot be made: %v", dir, err).Hint("make it by hand, owned by the user that runs certctl")
	}
	lock, err := os.OpenFile(filepath.Join(dir, "certctl.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, problem.Invalid("data_dir", "%s cannot be written: %v", dir, err).Hint("give it to the user that runs certctl")
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close() // nothing was written
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, problem.Conflict("another certctl server runs on the data directory %s", dir).
				Hint("stop it, or choose another data_dir")
		}
		return nil, fmt.Errorf("lock data directory %s: %w", dir, err)
	}
	return lock, nil
}

// SQLitePath is the database file in a data directory.
func SQLitePath(dataDir string) string { return filepath.Join(dataDir, "certctl.db") }
