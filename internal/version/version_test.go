package version

import (
	"runtime/debug"
	"testing"
)

func TestABuildWithoutANumberTellsItsRevision(t *testing.T) {
	t.Parallel()
	const revision = "0123456789abcdef0123456789abcdef01234567"
	for _, test := range []struct {
		name     string
		settings []debug.BuildSetting
		want     string
	}{
		{"nothing recorded", nil, "dev"},
		{"clean checkout", []debug.BuildSetting{{Key: "vcs.revision", Value: revision}, {Key: "vcs.modified", Value: "false"}}, "dev-0123456789ab"},
		{"with changes", []debug.BuildSetting{{Key: "vcs.revision", Value: revision}, {Key: "vcs.modified", Value: "true"}}, "dev-0123456789ab+changes"},
		{"revision of another system", []debug.BuildSetting{{Key: "vcs.revision", Value: "42"}}, "dev"},
	} {
		if got := fromBuild(&debug.BuildInfo{Settings: test.settings}); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestTheVersionIsNeverEmpty(t *testing.T) {
	t.Parallel()
	if String() == "" {
		t.Error("the version is empty")
	}
}
