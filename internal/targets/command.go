package targets

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/certctl-io/certctl/internal/problem"
)

// systemPath holds the folders where servers and their tools stand. An agent
// that is not root often has a PATH without the sbin folders.
const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// inheritedOutputWait is how long the output of a command that has ended may
// stay open, as when it left a daemon behind that holds on to it.
const inheritedOutputWait = 300 * time.Millisecond

// runner runs the commands of one plan.
type runner struct {
	env     []string
	timeout time.Duration
	redact  redactor
}

func newRunner(path string, plan Plan) runner {
	timeout := plan.Timeout
	if timeout <= 0 {
		timeout = DefaultCommandTimeout
	}
	return runner{env: append([]string{"PATH=" + path}, plan.Env...), timeout: timeout, redact: newRedactor(plan)}
}

// run runs a command to its end: no shell, no input, an environment of PATH and
// the plan's own, and a process group that is killed when the time is up. The
// output is given in any case.
func (r runner) run(ctx context.Context, c Command) (string, error) {
	program, err := r.find(c)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	var output boundedOutput
	cmd := exec.CommandContext(ctx, program, c[1:]...) //nolint:gosec // what an operator wrote, as arguments and without a shell
	cmd.Args[0] = c[0]
	cmd.Env = r.env
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = inheritedOutputWait
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err = cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	said := output.text(r.redact)
	shown := strings.TrimSpace("$ " + r.redact.clean([]byte(c.String())) + "\n" + said)
	if err != nil {
		shown += "\n[" + err.Error() + "]"
	}
	return shown, r.explain(ctx, c, err, said)
}

func (r runner) explain(ctx context.Context, c Command, err error, output string) error {
	name := filepath.Base(c[0])
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return problem.Temporary(fmt.Errorf("%s did not end within %v and was killed", name, r.timeout), 0)
	case ctx.Err() != nil:
		return problem.Temporary(fmt.Errorf("%s was stopped: %w", name, context.Cause(ctx)), 0)
	case errors.As(err, &exit):
		message := fmt.Sprintf("%s failed (%v)", name, exit)
		if output != "" {
			message += ": " + summary(output)
		}
		return errors.New(message)
	case errors.Is(err, fs.ErrPermission):
		return problem.Conflict("%s may not be run by %s", c[0], userName(os.Geteuid())).Hint("give the user that runs the agent the right to run it")
	default:
		return fmt.Errorf("run %s: %w", name, err)
	}
}

// find gives the path of the program of a command.
func (r runner) find(c Command) (string, error) {
	if len(c) == 0 || c[0] == "" {
		return "", problem.Conflict("a command of the target is empty").Hint("name a program, then its arguments")
	}
	if strings.Contains(c[0], "/") {
		if !filepath.IsAbs(c[0]) {
			return "", problem.Conflict("the program %q is named by a relative path", c[0]).Hint("name it by its absolute path or by its name alone")
		}
		if err := executable(c[0]); err != nil {
			return "", problem.Conflict("the program %s cannot be run: %v", c[0], err).Hint("install it, or correct the path in the target's settings")
		}
		return c[0], nil
	}
	path := strings.TrimPrefix(r.env[0], "PATH=")
	for _, dir := range filepath.SplitList(path) {
		if candidate := filepath.Join(dir, c[0]); filepath.IsAbs(candidate) && executable(candidate) == nil {
			return candidate, nil
		}
	}
	return "", problem.Conflict("there is no program %q in %s", c[0], path).Hint("install it, or name it by its absolute path in the target's settings")
}

func executable(path string) error {
	at, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case at.IsDir():
		return errors.New("it is a directory")
	case at.Mode()&0o111 == 0:
		return errors.New("it is not executable")
	}
	return nil
}

// searchPath adds to a PATH the system's folders that it lacks.
func searchPath(inherited string) string {
	dirs := filepath.SplitList(inherited)
	seen := map[string]bool{}
	var path []string
	for _, dir := range append(dirs, filepath.SplitList(systemPath)...) {
		if filepath.IsAbs(dir) && !seen[dir] {
			seen[dir] = true
			path = append(path, dir)
		}
	}
	return strings.Join(path, string(filepath.ListSeparator))
}

// send signals the process that a PID file names, after making sure that it is
// the program that is meant.
func (s Signal) send() error {
	text, err := os.ReadFile(s.PIDFile)
	if errors.Is(err, fs.ErrNotExist) {
		return problem.Conflict("%s does not exist", s.PIDFile).Hint("start %s, or correct pid_file in the target's settings", s.Process)
	}
	if err != nil {
		return denied(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 {
		return problem.Conflict("%s does not hold the number of a process", s.PIDFile).Hint("correct pid_file in the target's settings")
	}
	// Only Linux tells the name; elsewhere the PID file is trusted.
	name, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	if running := strings.TrimSpace(string(name)); err == nil && running != s.Process {
		return problem.Conflict("%s names process %d, which is %s and not %s", s.PIDFile, pid, running, s.Process).Hint("start %s, or correct pid_file in the target's settings", s.Process)
	}
	switch err := syscall.Kill(pid, s.Signal); {
	case errors.Is(err, syscall.ESRCH):
		return problem.Conflict("%s names process %d, which does not run", s.PIDFile, pid).Hint("start %s", s.Process)
	case errors.Is(err, syscall.EPERM):
		return problem.Conflict("the agent, running as %s, may not signal process %d", userName(os.Geteuid()), pid).
			Hint("run the agent as root or as the user of %s", s.Process)
	default:
		return err
	}
}
