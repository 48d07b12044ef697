package targets

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/certctl-io/certctl/internal/problem"
)

// The functions here work on a path that resolve gave, and follow no link on
// it, not even in the directories: a link that stands there now was put there
// since, by somebody who may write to one of them and would have a privileged
// agent read or replace a file elsewhere.

// inFolder opens the folder of a path and has something done to a name in it.
func inFolder(op, path string, do func(folder int, name string) error) error {
	folder, err := openat(unix.AT_FDCWD, "/", searchOnly|unix.O_DIRECTORY, 0)
	for _, name := range namesIn(filepath.Dir(path)) {
		if err != nil {
			break
		}
		parent := folder
		folder, err = openat(parent, name, searchOnly|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		_ = unix.Close(parent) // nothing was written to it
	}
	switch {
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
		return problem.Conflict("a directory of %s was replaced by something else meanwhile", path).
			Hint("deploy again; if it repeats, see who may write to the directories above the file")
	case err == nil:
		err = do(folder, filepath.Base(path))
		_ = unix.Close(folder) // what is written is synced by who asks for it
	}
	if err != nil {
		return &fs.PathError{Op: op, Path: path, Err: err}
	}
	return nil
}

// openBeside opens a file, which is not followed if it is a link.
func openBeside(path string, flags int, mode uint32) (file *os.File, err error) {
	err = inFolder("open", path, func(folder int, name string) error {
		fd, err := openat(folder, name, flags|unix.O_NOFOLLOW, mode)
		if err == nil {
			file = os.NewFile(uintptr(fd), path)
		}
		return err
	})
	return file, err
}

// renameBeside gives a file another name in its folder.
func renameBeside(from, to string) error {
	return inFolder("rename", to, func(folder int, name string) error {
		return unix.Renameat(folder, filepath.Base(from), folder, name)
	})
}

// removeBeside removes a file; one that is not there is removed already.
func removeBeside(path string) error {
	err := inFolder("remove", path, func(folder int, name string) error { return unix.Unlinkat(folder, name, 0) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// syncFolderOf makes renames and removals beside a path survive a power cut.
func syncFolderOf(path string) error {
	return inFolder("sync", path, func(folder int, _ string) error {
		fd, err := openat(folder, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		return errors.Join(unix.Fsync(fd), unix.Close(fd))
	})
}

func openat(folder int, name string, flags int, mode uint32) (fd int, err error) {
	for {
		fd, err = unix.Openat(folder, name, flags|unix.O_CLOEXEC, mode)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}
