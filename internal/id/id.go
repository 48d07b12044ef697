// Package id makes the identifiers of certctl's objects: a short type prefix
// and a UUIDv7 (RFC 9562), so that they sort by the time they were made and
// can be made before a row is stored.
package id

import (
	"encoding/hex"
	"strings"

	"github.com/google/uuid"
)

// New returns a fresh identifier such as "crt_0197f3a2...". Prefixes are three
// letters and name the type of the object. It panics when the system has no
// randomness, as nothing can go on without.
func New(prefix string) string {
	u := uuid.Must(uuid.NewV7())
	return prefix + "_" + hex.EncodeToString(u[:])
}

// Is reports whether ref has the form of an identifier of this prefix, as
// opposed to a name that a person chose.
func Is(prefix, ref string) bool {
	digits, found := strings.CutPrefix(ref, prefix+"_")
	if !found || len(digits) != 32 {
		return false
	}
	_, err := hex.DecodeString(digits)
	return err == nil
}
