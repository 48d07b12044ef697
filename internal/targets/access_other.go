//go:build !linux

package targets

import (
	"os"

	"golang.org/x/sys/unix"
)

// searchOnly opens a directory; there is no way to ask for less here.
const searchOnly = unix.O_RDONLY

// copyAccess has nothing to do here: mode and owner are set by the caller.
func copyAccess(string, *os.File) error { return nil }
