package cli_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl-io/certctl/internal/cli"
	"github.com/certctl-io/certctl/internal/config"
)

var update = flag.Bool("update", false, "write the golden files and those of the scripts anew")

// pretendToServe shows what a server would have been started with.
func pretendToServe(_ context.Context, settings *config.Effective, stdout io.Writer) error {
	_, err := fmt.Fprintf(stdout, "serving on %s\n", settings.Listen)
	return err
}

func TestHelpReadsWell(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"certctl":    {"--help"},
		"issue":      {"issue", "--help"},
		"apply":      {"apply", "--help"},
		"list":       {"list", "--help"},
		"agents":     {"agents", "--help"},
		"keys":       {"keys", "create", "--help"},
		"completion": {"completion", "--help"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, problems bytes.Buffer
			if code := cli.Main(args, strings.NewReader(""), &out, &problems, pretendToServe); code != 0 || problems.Len() > 0 {
				t.Fatalf("exit code %d: %s", code, problems.String())
			}
			for line := range strings.Lines(out.String()) {
				if len(line) > 110 {
					t.Errorf("a line is too long to read: %s", line)
				}
			}
			golden(t, filepath.Join("testdata", "help", name+".txt"), out.String())
		})
	}
}

func TestDocsAreUpToDate(t *testing.T) {
	t.Parallel()
	text, err := cli.Docs()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("..", "..", "docs", "cli.md"), text)
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; make it with: go test ./internal/cli -update", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is not up to date; if the change is right: go test ./internal/cli -update\n%s", path, diff)
	}
}
