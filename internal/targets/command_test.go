package targets_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/targets"
	"github.com/certctl-io/certctl/internal/targets/targetstest"
	"github.com/certctl-io/certctl/internal/testkit"
)

func TestCommandIsNoShell(t *testing.T) {
	t.Parallel()
	output, err := targets.RunCommand(t.Context(), targets.Plan{}, targets.Command{"printf", "%s|", "$HOME; false", "a b"})
	if err != nil || !strings.HasSuffix(output, "\n$HOME; false|a b|") {
		t.Errorf("%q, %v", output, err)
	}
	if want := `$ printf '%s|' '$HOME; false' 'a b'`; !strings.HasPrefix(output, want) {
		// %s| holds a pipe, so it is quoted for whoever copies the line.
		t.Errorf("%q does not begin with %q", output, want)
	}
}

func TestCommandGetsThePathAndThePlansVariablesOnly(t *testing.T) {
	t.Parallel()
	output, err := targets.RunCommand(t.Context(), targets.Plan{Env: []string{"ONE=1"}}, targets.Command{"env"})
	if err != nil {
		t.Fatal(err)
	}
	_, variables, _ := strings.Cut(output, "\n")
	for line := range strings.Lines(variables) {
		if name, _, _ := strings.Cut(line, "="); name != "PATH" && name != "ONE" {
			t.Errorf("the command got %s", line)
		}
	}
	if !strings.Contains(variables, "ONE=1") || !strings.Contains(variables, "/nowhere:/usr/local/sbin:") {
		t.Errorf("the command got %s", variables)
	}
}

func TestCommandThatTakesTooLongIsKilledWithItsChildren(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := targetstest.WriteFile(t, dir+"/slow", "sleep 60 &\necho $! > "+dir+"/child\nwait\n", 0o644)
	started := time.Now()
	_, err := targets.RunCommand(t.Context(), targets.Plan{Timeout: 300 * time.Millisecond}, targets.Command{"sh", script})
	if problem.KindOf(err) != problem.KindTemporary || !strings.Contains(err.Error(), "did not end within 300ms") {
		t.Errorf("err = %v", err)
	}
	if took := time.Since(started); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	child, err := strconv.Atoi(strings.TrimSpace(targetstest.ReadFile(t, dir+"/child")))
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the child is gone", func() bool {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
		return err != nil || strings.Contains(string(state), ") Z ")
	})
}

func TestDaemonThatACommandLeavesBehindDoesNotHoldIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := targetstest.WriteFile(t, dir+"/daemon", "sleep 30 &\necho $! > "+dir+"/child\n", 0o644)
	started := time.Now()
	if _, err := targets.RunCommand(t.Context(), targets.Plan{}, targets.Command{"sh", script}); err != nil {
		t.Errorf("err = %v", err)
	}
	if took := time.Since(started); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	child, err := strconv.Atoi(strings.TrimSpace(targetstest.ReadFile(t, dir+"/child")))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
		t.Errorf("the daemon does not run: %v", err)
	}
}

func TestOutputIsBoundedAndReadable(t *testing.T) {
	t.Parallel()
	line := []byte(strings.Repeat("x", 99) + "\n")
	var chunks [][]byte
	for range 10000 {
		chunks = append(chunks, line)
	}
	chunks = append(append([][]byte{[]byte("the beginning \x1b[31m\xff\n")}, chunks...), []byte("the end"))
	shown := targets.Shown(targets.Plan{}, chunks...)
	if len(shown) > targets.MaxOutput+100 {
		t.Errorf("%d bytes are kept", len(shown))
	}
	if !strings.HasPrefix(shown, "the beginning [31m\uFFFD\n") || !strings.HasSuffix(shown, "the end") || !strings.Contains(shown, "left out") {
		t.Errorf("%q ... %q", shown[:40], shown[len(shown)-40:])
	}
}

func TestSecretsAreTakenOutOfOutput(t *testing.T) {
	t.Parallel()
	b := newHost(t).issue(t)
	_, key := contents(t, b)
	plan := targets.Plan{
		Files:  []targets.File{{Path: "/key", Data: []byte(key), Secret: true}},
		Redact: []secret.String{secret.New("hunter2"), secret.New("hunter2-longer"), secret.New("")},
	}
	body := strings.Split(key, "\n")[1]
	for name, output := range map[string]string{
		"alone":             "password=hunter2 and hunter2-longer\n" + key,
		"across a cut":      strings.Repeat("a", targets.MaxOutput-5) + "hunter2" + body,
		"far from the ends": strings.Repeat("a", 2*targets.MaxOutput-5) + "hunter2-longer" + body + strings.Repeat("b", 4*targets.MaxOutput),
		"at the end":        strings.Repeat("a", 3*targets.MaxOutput) + body + "hunter2",
	} {
		shown := targets.Shown(plan, []byte(output))
		for _, value := range []string{"hunter2", "-longer", body, body[:20]} {
			if strings.Contains(shown, value) {
				t.Errorf("%s: %q is shown", name, value)
			}
		}
	}
	output, err := targets.RunCommand(t.Context(), plan, targets.Command{"sh", "-c", "echo with hunter2; exit 1", "hunter2"})
	if err == nil || strings.Contains(output+err.Error(), "hunter2") {
		t.Errorf("%q, %v", output, err)
	}
}

func TestFilesNeverPrintTheirContent(t *testing.T) {
	t.Parallel()
	file := targets.File{Path: "/key", Data: []byte("the key")}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
		if shown := fmt.Sprintf(format, file) + fmt.Sprintf(format, []targets.File{file}); strings.Contains(shown, "the key") || !strings.Contains(shown, "/key (7 bytes)") {
			t.Errorf("%s gives %s", format, shown)
		}
	}
}

// sleeper starts a process whose number is in a PID file, and gives the way to
// see how it ended.
func sleeper(t *testing.T, pidFile string) (ended <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(cancel)
	targetstest.WriteFile(t, pidFile, strconv.Itoa(cmd.Process.Pid)+"\n", 0o644)
	testkit.Eventually(t, "sleep runs", func() bool {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
		return err == nil && string(name) == "sleep\n"
	})
	return done
}

func TestSignalReachesTheProgramThatIsMeantOnly(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	pidFile := h.path("pid")
	ended := sleeper(t, pidFile)
	job := h.job(t, "dep_1", h.issue(t))
	job.Plan.Reload, job.Plan.Probe = nil, nil
	for name, test := range map[string]struct{ content, process, reason string }{
		"another program": {targetstest.ReadFile(t, pidFile), "nginx", "which is sleep and not nginx"},
		"no number":       {"x", "sleep", "does not hold the number"},
		"init":            {"1", "sleep", "does not hold the number"},
		"a group":         {"-5", "sleep", "does not hold the number"},
		"nobody":          {"4194304", "sleep", "does not run"},
	} {
		file := targetstest.WriteFile(t, h.path("pid-"+name), test.content, 0o644)
		job.Plan.Signal = &targets.Signal{PIDFile: file, Signal: syscall.SIGTERM, Process: test.process}
		if report := h.engine(t).Deploy(t.Context(), job); !strings.Contains(report.Reason, test.reason) {
			t.Errorf("%s: %s", name, report.Reason)
		}
	}
	select {
	case err := <-ended:
		t.Fatalf("the process was signalled: %v", err)
	default:
	}
	job.Plan.Signal = &targets.Signal{PIDFile: pidFile, Signal: syscall.SIGTERM, Process: "sleep"}
	targetstest.WantOutcome(t, h.engine(t).Deploy(t.Context(), job), targets.OutcomeDeployed)
	var exit *exec.ExitError
	if err := <-ended; !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("the process ended with %v", err)
	}
}

func TestOutputCannotPlayWithATerminal(t *testing.T) {
	t.Parallel()
	if got := targets.Shown(targets.Plan{}, []byte("a\x1b[2Jb\u202ec\u009bd\r\n\te\x00")); got != "a[2Jbcd\n\te" {
		t.Errorf("got %q", got)
	}
}
