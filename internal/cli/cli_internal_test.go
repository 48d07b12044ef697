package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"github.com/certctl-io/certctl/internal/problem"
)

func TestExitCodes(t *testing.T) {
	t.Parallel()
	documented := map[string]bool{}
	for _, code := range exitCodes() {
		documented[code[0]] = true
	}
	for _, tt := range []struct {
		err  error
		code int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{problem.Internal(errors.New("x")), 1},
		{problem.Invalid("", "x"), 2},
		{problem.TooLarge("x"), 2},
		{problem.NotFound("agent", "x"), 3},
		{problem.Conflict("x"), 4},
		{problem.Stale("x"), 4},
		{problem.Forbidden("x"), 5},
		{problem.Unauthenticated("x"), 5},
		{problem.Temporary(errors.New("x"), 0), 6},
		{&failedError{"x", ""}, 7},
		{&timeoutError{"x", ""}, 8},
		{context.DeadlineExceeded, 8},
		{context.Canceled, 130},
	} {
		if got := exitCode(fmt.Errorf("wrapped: %w", tt.err)); tt.err != nil && got != tt.code {
			t.Errorf("%v: exit code %d, want %d", tt.err, got, tt.code)
		}
		if !documented[fmt.Sprint(tt.code)] {
			t.Errorf("exit code %d is not documented", tt.code)
		}
	}
	if exitCode(nil) != 0 {
		t.Error("success is not 0")
	}
}

func TestRelativeTimes(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		in   time.Duration
		want string
	}{
		{0, "now"},
		{500 * time.Millisecond, "now"},
		{20 * time.Second, "in 20s"},
		{-3 * time.Minute, "3m ago"},
		{-47 * time.Hour, "47h ago"},
		{59*day + time.Hour, "in 59 days"},
		{5 * 365 * day, "in 5 years"},
	} {
		if got := relative(now.Add(tt.in), now); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.in, got, tt.want)
		}
	}
	for d, want := range map[time.Duration]string{12 * time.Millisecond: "12 ms", 1400 * time.Millisecond: "1.4 s", 185 * time.Second: "3m5s"} {
		if got := took(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestTableFitsATerminalAndColoursStates(t *testing.T) {
	t.Parallel()
	rows := func() [][]string {
		return [][]string{{"www.example.com", "active", "a long line of names that nobody reads whole"}, {"x", "failed", "evil\x1b[2J\u202e!"}}
	}
	titles := []string{"NAME", "STATUS", "NAMES"}
	var pipe, terminal bytes.Buffer
	writeTable(screen{Writer: &pipe}, titles, rows())
	want := "NAME             STATUS  NAMES\n" +
		"www.example.com  active  a long line of names that nobody reads whole\n" +
		"x                failed  evil [2J !\n"
	if diff := cmp.Diff(want, pipe.String()); diff != "" {
		t.Error(diff)
	}
	writeTable(screen{Writer: &terminal, tty: true, width: 40, colour: true}, titles, rows())
	want = "NAME             STATUS  NAMES\n" +
		"www.example.com  \x1b[32mactive\x1b[0m  a long line of…\n" +
		"x                \x1b[31mfailed\x1b[0m  evil [2J !\n"
	if diff := cmp.Diff(want, terminal.String()); diff != "" {
		t.Error(diff)
	}
}

func TestYAMLKeepsTheOrderAndTheTypes(t *testing.T) {
	t.Parallel()
	got, err := yamlOf([]byte(`{"z":1,"a":{"n":null,"f":1.5,"t":"true","d":"2026-05-01T10:00:00Z"},"list":[],"m":"0640"}`))
	if err != nil {
		t.Fatal(err)
	}
	want := "z: 1\na:\n  n: null\n  f: 1.5\n  t: \"true\"\n  d: \"2026-05-01T10:00:00Z\"\nlist: []\nm: \"0640\"\n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestSettingsOfFilesNeedNoQuotes(t *testing.T) {
	t.Parallel()
	var node yaml.Node
	if err := yaml.Unmarshal([]byte("{mode: 0640, port: 443, ratio: 0.5, on: true, none: null, at: 2026-05-01, list: [1, a], group: {deep: 0x10}}"), &node); err != nil {
		t.Fatal(err)
	}
	got, err := valueOf(node.Content[0])
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"mode": "0640", "port": 443.0, "ratio": 0.5, "on": true, "none": nil, "at": "2026-05-01",
		"list": []any{1.0, "a"}, "group": map[string]any{"deep": "0x10"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSettingsAreComparedOneByOneAndSecretsNotShown(t *testing.T) {
	t.Parallel()
	current := map[string]any{
		"path": "/a", "gone": "x", "password": masked,
		"variables": map[string]any{"A": masked, "B": masked}, "probe": map[string]any{"address": "a", "timeout": "5s"},
	}
	wanted := map[string]any{
		"path": "/b", "password": "hush", "new": "hush",
		"variables": map[string]any{"A": "hush"}, "probe": map[string]any{"address": "a", "timeout": "9s"},
	}
	want := []change{
		{"s.gone", "x", nil},
		{"s.new", nil, notShown},
		{"s.path", "/a", "/b"},
		{"s.probe.timeout", "5s", "9s"},
		{"s.variables.B", masked, nil},
	}
	if diff := cmp.Diff(want, planner{}.settings("s", wanted, current)); diff != "" {
		t.Error(diff)
	}
	withSecrets := planner{secrets: true}.settings("s", wanted, current)
	if len(withSecrets) != len(want)+2 {
		t.Errorf("got %v", withSecrets)
	}
	if strings.Contains(fmt.Sprint(withSecrets), "hush") {
		t.Errorf("a secret is shown: %v", withSecrets)
	}
}

func TestWhatMeansTheSameIsNoChange(t *testing.T) {
	t.Parallel()
	texts := func(items ...any) any { return items }
	for _, tt := range []struct {
		name            string
		same            func(wanted, current any) bool
		wanted, current any
		want            bool
	}{
		{"durations in other units", sameSpan, "2160h", "90d", true},
		{"other durations", sameSpan, "2160h", "91d", false},
		{"no duration", sameSpan, "", nil, true},
		{"names in the form of the server", sameNames, texts("Bücher.example", "b.example"), texts("b.example", "xn--bcher-kva.example"), true},
		{"other names", sameNames, texts("a.example"), texts("a.example", "b.example"), false},
		{"lists in another order", sameSet, texts("a", "b"), texts("b", "a"), true},
		{"renewal without a time", sameRenewal, map[string]any{"auto": true}, map[string]any{"auto": true, "before": ""}, true},
		{"renewal switched off", sameRenewal, map[string]any{"auto": false}, map[string]any{"auto": true}, false},
		{"patterns in another order", samePatterns, map[string]any{"dns": texts("a", "B")}, map[string]any{"dns": texts("b", "a"), "ip": texts()}, true},
		{"patterns and an empty list", samePatterns, map[string]any{"dns": texts("a")}, map[string]any{"dns": texts("a"), "ip": texts()}, true},
		{"fewer patterns", samePatterns, map[string]any{"dns": texts("a")}, map[string]any{"dns": texts("a"), "ip": texts("**")}, false},
		{"common name in the form of the server", sameName, "A.example", "a.example", true},
		{"no common name any more", sameName, "", "a.example", false},
	} {
		if got := tt.same(tt.wanted, tt.current); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
