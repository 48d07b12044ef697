//go:build !linux

package cli_test

import (
	"os"
	"testing"
)

// terminalThatTypes is known for Linux only.
func terminalThatTypes(t *testing.T, _ string) *os.File {
	t.Helper()
	t.Skip("a terminal can be made on Linux only")
	return nil
}
