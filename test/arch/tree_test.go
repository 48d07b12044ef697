package arch

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTrackedFilesAreOfNoMachine refuses what belongs to the place where a
// file was written: its directories, and the servers that packages came from,
// which every machine sets for itself.
func TestTrackedFilesAreOfNoMachine(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(filepath.Join(root(t), ".git")); err != nil {
		t.Skip("not a checkout: there is no .git")
	}
	places := regexp.MustCompile(`(?:^|[^\w.~-])/(?:work|Users|root/go|` + strings.TrimPrefix(regexp.QuoteMeta(root(t)), "/") + `)/\w`)
	registries := regexp.MustCompile(`\b(?:proxy\.golang|sum\.golang|registry\.npmjs|deb\.debian)\.org\b`)
	names := strings.Split(strings.TrimRight(string(run(t, "git", "ls-files", "-z")), "\x00"), "\x00")
	if len(names) < 50 {
		t.Fatalf("only %d files are tracked", len(names))
	}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(root(t), name))
		if err != nil {
			continue // removed, and not yet committed; or a link to a directory
		}
		for i, line := range bytes.Split(text, []byte("\n")) {
			if places.Match(line) || registries.Match(line) {
				t.Errorf("%s:%d is about a machine: %.200s", name, i+1, line)
			}
		}
	}
}
