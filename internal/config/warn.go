package config

import (
	"fmt"
	"os"
)

// othersMayRead is the permission bit of users who are neither the owner nor
// in the group of a file: a group is often how a service is let in.
const othersMayRead = 0o004

// Warnings are sentences about what does not stop the start but should not
// stay: files with secrets that every user of the machine may read.
func (e *Effective) Warnings() []string {
	var warnings []string
	for _, s := range settings() {
		if s.secret && e.origins[s.name].Kind == FromFile && open(e.Config) {
			warnings = append(warnings, fmt.Sprintf("%s holds %s and may be read by every user of this machine; chmod o-rwx %s", e.Config, s.key(), e.Config))
		}
	}
	if e.TLSKey != "" && open(e.TLSKey) {
		warnings = append(warnings, fmt.Sprintf("%s, the private key of tls_key, may be read by every user of this machine; chmod o-rwx %s", e.TLSKey, e.TLSKey))
	}
	return warnings
}

// open reports whether everybody may read a file. Whether it can be used is
// for those who use it to say.
func open(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Perm()&othersMayRead != 0
}
