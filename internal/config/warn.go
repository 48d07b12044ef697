package config

import (
	"fmt"
	"os"
)

// The permission bits of users who are neither the owner nor in the group of a
// file: a group is often how a service is let in.
const (
	othersMayRead  = 0o004
	othersMayWrite = 0o002
)

// Warnings are sentences about what does not stop the start but should not
// stay: secrets that every user of the machine may read, and a data directory
// in which each of them may put another master key.
func (e *Effective) Warnings() []string {
	var warnings []string
	if permits(e.DataDir, othersMayWrite) {
		warnings = append(warnings, fmt.Sprintf("%s, the data directory, may be written by every user of this machine; chmod o-w %s", e.DataDir, e.DataDir))
	}
	for _, s := range settings() {
		if s.secret && e.origins[s.name].Kind == FromFlag {
			warnings = append(warnings, fmt.Sprintf("%s is given as a flag, which every user of this machine sees in the list of processes; set %s instead", s.key(), s.variable()))
		}
		if s.secret && e.origins[s.name].Kind == FromFile && permits(e.Config, othersMayRead) {
			warnings = append(warnings, fmt.Sprintf("%s holds %s and may be read by every user of this machine; chmod o-rwx %s", e.Config, s.key(), e.Config))
		}
	}
	if e.TLSKey != "" && permits(e.TLSKey, othersMayRead) {
		warnings = append(warnings, fmt.Sprintf("%s, the private key of tls_key, may be read by every user of this machine; chmod o-rwx %s", e.TLSKey, e.TLSKey))
	}
	return warnings
}

// permits reports whether others may do something with a file. Whether it can
// be used is for those who use it to say.
func permits(path string, what os.FileMode) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Perm()&what != 0
}
