package agentcmd

import (
	"os"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

func TestTheStateDirectoryIsWhereTheSystemKeepsState(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		uid  int
		env  map[string]string
		want string
	}{
		{0, map[string]string{"HOME": "/root", "XDG_STATE_HOME": "/root/state"}, "/var/lib/certctl-agent"},
		{1000, map[string]string{"HOME": "/home/web"}, "/home/web/.local/state/certctl-agent"},
		{1000, map[string]string{"HOME": "/home/web", "XDG_STATE_HOME": "/srv/state"}, "/srv/state/certctl-agent"},
		{1000, map[string]string{"HOME": "/home/web", "XDG_STATE_HOME": "relative"}, "/home/web/.local/state/certctl-agent"},
		{1000, map[string]string{"HOME": ""}, ""},
	} {
		got := defaultState(test.uid, func(name string) (string, bool) { v, ok := test.env[name]; return v, ok })
		if got != test.want {
			t.Errorf("user %d with %v: %q, want %q", test.uid, test.env, got, test.want)
		}
	}
	if err := (stateFlag{}).checkState(); exitCode(err) != exitUsage {
		t.Errorf("no state directory: %v", err)
	}
}

// The page for operators names each flag, each variable and each exit code.
func TestTheDocumentationIsComplete(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/agent.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	parser, err := kong.New(&commands{}, kong.Vars{"state": "/state"})
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range parser.Model.Leaves(false) {
		for _, flag := range command.Flags {
			for _, word := range append(flag.Envs, "--"+flag.Name) {
				if !strings.Contains(page, "`"+word+"`") {
					t.Errorf("docs/agent.md does not name %s of %s", word, command.Name)
				}
			}
		}
	}
	for line := range strings.Lines(exitHelp) {
		code, meaning, found := strings.Cut(strings.TrimSpace(line), "  ")
		if found && !strings.Contains(strings.ReplaceAll(page, "`", ""), "| "+code+" | "+meaning+" |") {
			t.Errorf("docs/agent.md does not say of the exit code %s: %s", code, meaning)
		}
	}
}
