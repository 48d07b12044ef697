package id

import (
	"regexp"

	"github.com/certctl-io/certctl/internal/problem"
)

const maxName = 100

// namePattern is what stands in a URL, a shell and a file name without
// quoting.
var namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$`)

// CheckName refuses what is not usable as the name that a person gives an
// object beside its identifier of this prefix.
func CheckName(prefix, name string) *problem.Error {
	switch {
	case name == "":
		return problem.Invalid("name", "it is empty")
	case len(name) > maxName:
		return problem.Invalid("name", "it has %d characters, at most %d are allowed", len(name), maxName)
	case !namePattern.MatchString(name):
		return problem.Invalid("name", "%q is not usable as a name", name).
			Hint("use lower-case letters, digits, dots, hyphens and underscores, with a letter or digit at both ends")
	case Is(prefix, name):
		return problem.Invalid("name", "%q has the form of an id", name).Hint("choose a name that says what it is")
	}
	return nil
}
