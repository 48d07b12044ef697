// Package version tells which build of certctl is running. Release builds set
// the number with -ldflags "-X"; every other build reads what the Go tool
// recorded about the checkout.
package version

import "runtime/debug"

// number is set by the linker in release builds.
var number string

// String is the release number, or for other builds the revision the program
// was built from, or "dev" when neither is known.
func String() string {
	if number != "" {
		return number
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "dev"
	}
	return fromBuild(info)
}

func fromBuild(info *debug.BuildInfo) string {
	revision, modified := "", false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value
		case "vcs.modified":
			modified = s.Value == "true"
		}
	}
	if len(revision) < 12 {
		return "dev"
	}
	if modified {
		return "dev-" + revision[:12] + "+changes"
	}
	return "dev-" + revision[:12]
}
