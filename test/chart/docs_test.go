package chart

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// documented are the values that values.yaml describes, in its order: path and
// description.
func documented(t *testing.T) [][2]string {
	t.Helper()
	text, err := os.ReadFile(chartDir + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var found [][2]string
	var parents []string // the keys above, one for each two spaces of indentation
	description := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		content := strings.TrimLeft(line, " ")
		if said, ok := strings.CutPrefix(content, "# -- "); ok {
			description = said
			continue
		}
		key, _, isKey := strings.Cut(content, ":")
		if !isKey || strings.HasPrefix(content, "#") || strings.HasPrefix(content, "- ") {
			continue
		}
		parents = append(parents[:(len(line)-len(content))/2], key)
		if description != "" {
			found = append(found, [2]string{strings.Join(parents, "."), description})
			description = ""
		}
	}
	return found
}

func TestEveryValueIsDescribed(t *testing.T) {
	t.Parallel()
	described := documented(t)
	for path := range leaves("", defaults(t)) {
		covered := false
		for _, d := range described {
			covered = covered || path == d[0] || strings.HasPrefix(path, d[0]+".")
		}
		if !covered {
			t.Errorf("%s has no comment that begins with \"# --\"", path)
		}
	}
}

func TestTheTableOfValuesIsUpToDate(t *testing.T) {
	t.Parallel()
	const file, marker = chartDir + "/README.md", "-->\n\n"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, _, found := strings.Cut(string(text), marker)
	if !found {
		t.Fatalf("%s has no marker above its table", file)
	}
	var table strings.Builder
	table.WriteString(head + marker + "| value | default | meaning |\n| --- | --- | --- |\n")
	for _, d := range documented(t) {
		value := any(defaults(t))
		for key := range strings.SplitSeq(d[0], ".") {
			value = value.(map[string]any)[key]
		}
		standard, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		table.WriteString("| `" + d[0] + "` | `" + string(standard) + "` | " + d[1] + " |\n")
	}
	golden(t, file, table.String())
}
