package targets

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/certctl-io/certctl/internal/problem"
)

// maxLinks bounds a chain of symbolic links, as the kernel does (ELOOP).
const maxLinks = 40

// resolve finds the file that a path of a plan stands for, following symbolic
// links, and makes sure that a file can be put there: the directory exists and
// what stands there, if anything, is a regular file.
//
// A link, be it the file or a directory on the way, may lead only where its
// owner could have written: it belongs to root, to the user that runs this
// process, or to the owner of what it leads to. Else whoever may write to a
// directory could have a privileged agent replace any file of the system.
func resolve(path string) (string, error) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" {
		return "", problem.Conflict("%q is not a plain absolute path of a file", path).
			Hint("write it from the root, without . or .., and without a slash at the end")
	}
	var linkOwners []int
	real, names := "/", namesIn(path)
	for len(names) > 0 {
		if len(linkOwners) > maxLinks {
			return "", problem.Conflict("%s leads through more than %d symbolic links", path, maxLinks).Hint("repair the link")
		}
		next := filepath.Join(real, names[0])
		names = names[1:]
		at, err := os.Lstat(next)
		if err == nil && at.Mode()&fs.ModeSymlink != 0 {
			to, err := os.Readlink(next)
			if err != nil {
				return "", denied(err)
			}
			if filepath.IsAbs(to) {
				real = "/"
			}
			linkOwners, names = append(linkOwners, owner(at)), append(namesIn(to), names...)
			continue
		}
		if err := checkPlace(next, at, err, len(names) == 0); err != nil {
			return "", err
		}
		real = next
	}
	return real, checkLinks(path, real, linkOwners)
}

func namesIn(path string) []string {
	return strings.FieldsFunc(path, func(c rune) bool { return c == '/' })
}

// checkPlace tells whether what os.Lstat saw at a path can be a directory on
// the way or, at the end of it, the place of the file.
func checkPlace(path string, at fs.FileInfo, err error, last bool) error {
	switch {
	case errors.Is(err, fs.ErrNotExist) && last:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return problem.Conflict("the directory %s does not exist", path).
			Hint("create it for the user that runs the agent, or change the path in the target's settings")
	case err != nil:
		return denied(err)
	case !last && !at.IsDir():
		return problem.Conflict("%s is not a directory", path).Hint("change the path in the target's settings")
	case last && at.IsDir():
		return problem.Conflict("%s is a directory", path).Hint("name the file, not the directory that it is in")
	case last && !at.Mode().IsRegular():
		return problem.Conflict("%s is not a regular file", path).Hint("a device, pipe or socket cannot be replaced: choose another path")
	}
	return nil
}

// checkLinks compares the owners of links with those who could write where the
// links lead: the owner of the file there and the owner of its directory.
func checkLinks(path, real string, linkOwners []int) error {
	trusted := []int{0, os.Geteuid()}
	for _, end := range []string{real, filepath.Dir(real)} {
		at, err := os.Lstat(end)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return denied(err)
		}
		if err == nil {
			trusted = append(trusted, owner(at))
		}
	}
	for _, uid := range linkOwners {
		if !slices.Contains(trusted, uid) {
			return problem.Conflict("%s leads through a symbolic link of %s to %s, which is not theirs", path, userName(uid), real).
				Hint("name the file itself in the target's settings, or give the link to root")
		}
	}
	return nil
}

func owner(at fs.FileInfo) int { return int(at.Sys().(*syscall.Stat_t).Uid) }
func group(at fs.FileInfo) int { return int(at.Sys().(*syscall.Stat_t).Gid) }

// denied adds the remedy to an error of the file system that has one.
func denied(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return problem.Conflict("%v", err).Hint("the agent runs as %s: give this user access, or run the agent as another user", userName(os.Geteuid()))
	}
	return err
}
