package targets

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// searchOnly opens a directory that may be passed through and need not be read.
const searchOnly = unix.O_PATH

// copyAccess gives f what else decides who may read the file at path, if there
// is one: its POSIX access list and its SELinux label. Replacing a file by a
// rename would lose them.
func copyAccess(path string, f *os.File) error {
	if err := copyAttribute(path, f, "system.posix_acl_access"); err != nil {
		return err
	}
	// Relabelling may be forbidden by policy; then the folder's default label
	// stands, as it does for any other program that replaces the file.
	if err := copyAttribute(path, f, "security.selinux"); err != nil && !errors.Is(err, os.ErrPermission) {
		return err
	}
	return nil
}

func copyAttribute(path string, f *os.File, name string) error {
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX
	n, err := unix.Lgetxattr(path, name, value)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("getxattr "+name, err)
	}
	return os.NewSyscallError("setxattr "+name, unix.Fsetxattr(int(f.Fd()), name, value[:n], 0))
}
