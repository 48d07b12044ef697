package arch

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestTheProgramsStaySmall holds the budgets of docs/architecture.md, for
// binaries stripped like those of "make build".
func TestTheProgramsStaySmall(t *testing.T) {
	t.Parallel()
	const megabyte = 1_000_000
	dir := t.TempDir()
	run(t, "go", "build", "-ldflags=-s -w", "-o", dir, "./cmd/certctl", "./cmd/certctl-agent")
	for name, budget := range map[string]int64{"certctl": 80 * megabyte, "certctl-agent": 25 * megabyte} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s has %.1f MB", name, float64(info.Size())/megabyte)
		if info.Size() > budget {
			t.Errorf("%s has %d bytes, its budget is %d", name, info.Size(), budget)
		}
	}
}

// TestTheAgentHasNoDatabaseAndNoFeature keeps the program that runs on every
// host to what it needs there.
func TestTheAgentHasNoDatabaseAndNoFeature(t *testing.T) {
	t.Parallel()
	unwanted := []string{
		"modernc.org/", "github.com/jackc/", "github.com/lib/pq", "github.com/riverqueue/", "github.com/pressly/goose",
		"github.com/danielgtaylor/huma", "k8s.io/", "github.com/aws/", "cloud.google.com/", "github.com/Azure/",
	}
	packages := list(t, "./cmd/certctl-agent")
	for _, p := range packages {
		if at, ours := locate(p.ImportPath); ours && ringOf(at.folder) == features {
			t.Errorf("the agent contains the feature %s", p.ImportPath)
		}
		if p.ImportPath == "database/sql" || slices.ContainsFunc(unwanted, func(prefix string) bool { return strings.HasPrefix(p.ImportPath, prefix) }) {
			t.Errorf("the agent contains %s", p.ImportPath)
		}
	}
	if !slices.ContainsFunc(packages, func(p goPackage) bool { return p.ImportPath == module+"/internal/agent" }) {
		t.Error("the agent does not contain its own runtime: this test looks at the wrong program")
	}
}
