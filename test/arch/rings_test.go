// Package arch keeps the architecture true: which package may import which,
// what the programs contain and how large they are, and what no tracked file
// may hold.
package arch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	module      = "github.com/certctl-io/certctl"
	toolTimeout = 5 * time.Minute
)

// ring is the height of a package. Imports go only down, or stay on the same
// ring where nothing below forbids it.
type ring int

const (
	ground ring = iota + 1
	drivers
	features
	faces
	mains
)

// ringOf gives the ring of a package of this module by the folder it stands
// in, such as internal/pki; it is 0 for a folder that has none yet.
func ringOf(folder string) ring {
	for r, names := range map[ring][]string{
		ground: {
			"agentapi", "client", "config", "db", "duration", "id", "keys", "kube", "netx", "pki", "problem", "queue", "rest", "secret",
			"telemetry", "testkit", "version",
		},
		drivers: {"channels", "issuers", "targets"},
		features: {
			"access", "alerting", "audit", "backup", "deployment", "discovery", "fleet", "inventory", "issuance", "issuer", "jobs", "profile",
			"status",
		},
		faces: {"agent", "api", "app", "cli", "mcp"},
	} {
		if name, internal := strings.CutPrefix(folder, "internal/"); internal && slices.Contains(names, name) {
			return r
		}
	}
	switch top, _, _ := strings.Cut(folder, "/"); top {
	case "cmd", "test":
		return mains
	case "web": // the built dashboard, as files
		return ground
	}
	return 0
}

// shared are the features whose exported types others may use.
func shared() []string {
	return []string{"internal/access", "internal/audit", "internal/inventory", "internal/profile"}
}

// location is where a package stands: its folder, which decides its ring, and
// the path below that.
type location struct{ folder, below string }

func locate(importPath string) (location, bool) {
	path, ours := strings.CutPrefix(importPath, module+"/")
	if !ours {
		return location{}, false
	}
	parts := strings.SplitN(path, "/", 3)
	at := location{folder: strings.Join(parts[:min(2, len(parts))], "/")}
	if len(parts) == 3 {
		at.below = parts[2]
	}
	return at, true
}

// forbidden says why a package may not import another, and is empty where it
// may.
func forbidden(from, to location) string {
	lower, upper := ringOf(to.folder), ringOf(from.folder)
	switch {
	case lower == 0 || upper == 0:
		return "a folder without a ring: give it one in test/arch and in .golangci.yml"
	case from.folder == to.folder || upper == mains:
		return ""
	case lower > upper:
		return "imports go only down the rings"
	case to.folder == "internal/testkit" || strings.HasSuffix(to.below, "test"):
		return "only tests import it"
	case lower == drivers && to.below != "" && from.folder != "internal/app" && from.folder != "internal/agent":
		return "only app and agent import drivers; they hand them over"
	case lower == drivers && upper == drivers:
		return "a family of drivers stands alone"
	case lower == features:
		return forbiddenFeature(from.folder, to.folder, upper)
	case lower == faces && from.folder != "internal/app":
		return "only app and the mains import a face"
	}
	return ""
}

func forbiddenFeature(from, to string, upper ring) string {
	switch {
	case from == "internal/app":
		return ""
	case from == "internal/cli" && to == "internal/backup":
		return "" // it works on the database of this machine and not through the API
	case from == "internal/issuance" && to == "internal/deployment":
		return "" // for the arguments of the jobs that deployment leaves to issuance
	case !slices.Contains(shared(), to):
		return "features know each other by small interfaces that app fills"
	case upper == faces && from != "internal/api":
		return "the agent and the commands know no feature"
	}
	return ""
}

// goPackage is what "go list" tells of a package.
type goPackage struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

// list asks the Go tool for the packages that match patterns and all that they
// import.
func list(t testing.TB, patterns ...string) []goPackage {
	t.Helper()
	out := run(t, "go", append([]string{"list", "-deps", "-json=ImportPath,Imports,Standard"}, patterns...)...)
	var packages []goPackage
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatalf("read what go list prints: %v", err)
		}
		packages = append(packages, p)
	}
}

// run runs a program at the root of the checkout and gives what it prints.
func run(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), toolTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = root(t)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.Bytes())
	}
	return out
}

// root is the directory of the checkout.
func root(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestImportsGoOnlyDownTheRings(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, p := range list(t, "./...") {
		from, ours := locate(p.ImportPath)
		if !ours {
			continue
		}
		for _, path := range p.Imports {
			to, ours := locate(path)
			if !ours {
				continue
			}
			seen++
			if why := forbidden(from, to); why != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, path, why)
			}
		}
	}
	if seen < 50 {
		t.Errorf("only %d imports were seen", seen)
	}
}

func TestTheRulesForbidWhatTheyShould(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		from, to string
		allowed  bool
	}{
		{"internal/pki", "internal/problem", true},
		{"internal/pki", "internal/inventory", false},
		{"internal/db", "internal/api", false},
		{"internal/issuance", "internal/inventory", true},
		{"internal/issuance", "internal/deployment", true},
		{"internal/deployment", "internal/issuance", false},
		{"internal/issuance", "internal/fleet", false},
		{"internal/issuance", "internal/testkit", false},
		{"internal/deployment", "internal/targets", true},
		{"internal/deployment", "internal/targets/nginx", false},
		{"internal/targets/nginx", "internal/targets", true},
		{"internal/targets/kinds", "internal/targets/nginx", true},
		{"internal/targets/nginx", "internal/issuers/local", false},
		{"internal/issuers/local", "internal/issuer", false},
		{"internal/agent", "internal/targets/nginx", true},
		{"internal/agent", "internal/inventory", false},
		{"internal/cli", "internal/client", true},
		{"internal/cli", "internal/access", false},
		{"internal/cli", "internal/app", false},
		{"internal/api", "internal/access", true},
		{"internal/api", "internal/issuance", false},
		{"internal/app", "internal/issuance", true},
		{"internal/app", "internal/issuers/local", true},
		{"cmd/certctl", "internal/app", true},
		{"internal/app", "internal/misc", false},
	} {
		from, _ := locate(module + "/" + test.from)
		to, _ := locate(module + "/" + test.to)
		if why := forbidden(from, to); (why == "") != test.allowed {
			t.Errorf("%s imports %s: allowed should be %t, the rule says %q", test.from, test.to, test.allowed, why)
		}
	}
}
