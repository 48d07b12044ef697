package cli_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/certctl-io/certctl/internal/cli"
	"github.com/certctl-io/certctl/internal/pki"
)

// TestMain makes this test program certctl itself when a script runs it by that
// name, as a process of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"certctl": func() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, pretendToServe)) },
	})
}

// TestScripts runs each file of testdata/script against a server of its own.
// Besides testscript's commands they know:
//
//	exits CODE COMMAND [ARGS...]  run a command, which must end with CODE
//	changes                       tell the calls that changed something on the server since the last time
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		Setup:               startServer,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "changes": changes},
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// serverOf finds the server of a script among its values.
type serverOf struct{}

func startServer(env *testscript.Env) error {
	fake := newFakeAPI(env.T().(testing.TB))
	fingerprint := pki.Fingerprint(fake.Certificate().Raw)
	env.Values[serverOf{}] = fake
	env.Setenv("SERVER", fake.URL)
	env.Setenv("FINGERPRINT", fingerprint)
	env.Setenv("CERTCTL_URL", fake.URL)
	env.Setenv("CERTCTL_API_KEY", fakeKey)
	env.Setenv("CERTCTL_CA_SHA256", fingerprint)
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
	return nil
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARGS...]")
	}
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

func changes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: changes")
	}
	_, err := io.WriteString(ts.Stdout(), ts.Value(serverOf{}).(*fakeAPI).takeChanges())
	ts.Check(err)
}
