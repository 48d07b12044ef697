package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/agent"
	"github.com/certctl-io/certctl/internal/agent/agentcmd"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/testkit"
)

// asAgent makes this test binary the program certctl-agent.
const asAgent = "TEST_AS_CERTCTL_AGENT"

func TestMain(m *testing.M) {
	if os.Getenv(asAgent) != "" {
		os.Exit(agentcmd.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// program is one run of certctl-agent as a process.
type program struct {
	t        *testing.T
	cmd      *exec.Cmd
	out, err bytes.Buffer
}

func newProgram(t *testing.T, env []string, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	p := &program{t: t, cmd: exec.CommandContext(ctx, os.Args[0], args...)}
	p.cmd.Env = append([]string{asAgent + "=1", "HOME=" + t.TempDir()}, env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	return p
}

// run runs it to its end and gives the exit code.
func (p *program) run() int {
	p.t.Helper()
	p.start()
	return p.wait()
}

func (p *program) start() {
	p.t.Helper()
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *program) wait() int {
	p.t.Helper()
	var exit *exec.ExitError
	if err := p.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// kill ends it as a power cut would.
func (p *program) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	p.wait()
}

func (p *program) wants(what string, code, want int, part string) {
	p.t.Helper()
	if code != want || !strings.Contains(p.out.String()+p.err.String(), part) {
		p.t.Errorf("%s: exit code %d, want %d with %q\n%s%s", what, code, want, part, p.out.String(), p.err.String())
	}
}

func TestNothingIsLostWhenTheAgentIsKilled(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	stateDir := s.join()
	o := newOrder(t)
	again := func() *program {
		p := newProgram(t, nil, "run", "--state", stateDir)
		p.start()
		return p
	}
	waitingResults := func(n int) func() bool {
		return func() bool {
			status, err := agent.ReadStatus(stateDir)
			return err == nil && status.Results == n
		}
	}
	p := again()
	testkit.Eventually(t, "the agent asks for work", func() bool { return len(s.polled()) > 0 })
	p.kill()
	s.settled()

	s.steer(steering{refuse: refuseResults})
	p = again()
	s.work <- o.csrTask()
	testkit.Eventually(t, "the result is kept", waitingResults(1))
	p.kill()
	s.settled()

	s.steer(steering{lost: true})
	p = again()
	first := s.result(1)
	p.kill()
	s.settled()
	s.steer(steering{})
	p = again()
	second := s.result(2)
	testkit.Eventually(t, "the result is out of the outbox", waitingResults(0))
	repeated := o.csrTask()
	repeated.ID = id.New("tsk")
	s.work <- repeated
	third := s.result(3)
	for _, r := range []submission{second, third} {
		if o.csr(r); !bytes.Equal(r.body, first.body) {
			t.Errorf("the requests differ:\n%s\n%s", first.body, r.body)
		}
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.wants("stopped", p.wait(), 0, "agent stopped")
}

func TestTheProgramJoinsAndTellsHowItIs(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	stateDir := filepath.Join(t.TempDir(), "state")
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte(joinToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newProgram(t, nil, "status", "--state", stateDir)
	p.wants("status before", p.run(), 4, "certctl-agent enroll")
	p = newProgram(t, nil, "run", "--state", stateDir)
	p.wants("run before", p.run(), 4, "certctl-agent enroll")
	p = newProgram(t, nil, "enroll", "--state", stateDir, "--server", s.http.URL, "--token-file", tokenFile, "--ca-sha256", otherCA)
	p.wants("another CA", p.run(), 6, s.ca)
	p = newProgram(t, []string{"CERTCTL_AGENT_TOKEN=cet_wrong"}, "enroll", "--state", stateDir, "--server", s.http.URL, "--ca-sha256", s.ca)
	p.wants("a wrong token", p.run(), 5, "not one of this server's")
	p = newProgram(t, nil, "enroll", "--state", stateDir, "--server", s.http.URL, "--token-file", tokenFile, "--ca-sha256", s.ca, "--name", "web-1", "--label", "env=prod")
	p.wants("enroll", p.run(), 0, "Enrolled as web-1")
	p = newProgram(t, nil, "enroll", "--state", stateDir, "--server", s.http.URL)
	p.wants("enroll again", p.run(), 0, "Enrolled already as web-1")
	p = newProgram(t, []string{"CERTCTL_AGENT_STATE=" + stateDir}, "status")
	p.wants("status", p.run(), 0, "web-1")

	p = newProgram(t, nil, "status", "--state", stateDir, "--json")
	code := p.run()
	var status struct {
		Running bool   `json:"running"`
		Answers bool   `json:"server_answers"`
		Server  string `json:"server"`
	}
	if err := json.Unmarshal(p.out.Bytes(), &status); err != nil || code != 0 || status.Running || !status.Answers || status.Server != s.http.URL {
		t.Errorf("exit code %d: %s (%v)", code, p.out.String(), err)
	}
	s.http.Close()
	p = newProgram(t, nil, "status", "--state", stateDir)
	p.wants("status without the server", p.run(), 6, "which does not answer")
}

func TestRunJoinsAtItsFirstStartAndEndsWhenRevoked(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	env := []string{
		"CERTCTL_AGENT_STATE=" + filepath.Join(t.TempDir(), "state"), "CERTCTL_AGENT_TOKEN=" + joinToken, "CERTCTL_AGENT_NAME=web-1",
		"CERTCTL_AGENT_SERVER=" + s.http.URL, "CERTCTL_AGENT_CA_SHA256=" + s.ca, "CERTCTL_AGENT_LABELS=env=prod,zone=a",
	}
	p := newProgram(t, env, "run")
	p.start()
	testkit.Eventually(t, "the agent asks for work", func() bool { return len(s.polled()) > 0 })
	s.steer(steering{refuse: func(string) error { return problem.Forbidden("the agent was revoked") }})
	s.nudge()
	p.wants("revoked", p.wait(), 5, "enroll --force")
	if strings.Contains(p.err.String(), joinToken) {
		t.Errorf("the log holds the enrolment token:\n%s", p.err.String())
	}
}

func TestTheCommandLineExplainsItself(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args, env []string
		code      int
		part      string
	}{
		{[]string{}, nil, 0, "Exit codes:"},
		{[]string{"enroll", "--help"}, nil, 0, "--ca-sha256"},
		{[]string{"version"}, nil, 0, "certctl-agent "},
		{[]string{"dance"}, nil, 2, "certctl-agent --help"},
		{[]string{"enroll", "--state", "x", "--token", "a", "--token-file", "b"}, nil, 2, "can't be used together"},
		{[]string{"enroll"}, nil, 2, "there is no server URL"},
		{[]string{"enroll", "--server", "x", "--token-file", "/nonexistent"}, nil, 2, "token-file"},
		{[]string{"run", "--log-level", "loud"}, nil, 2, "log-level"},
		{[]string{"version"}, []string{"CERTCTL_AGENT_TOKN=x"}, 2, "CERTCTL_AGENT_TOKEN,"},
	} {
		p := newProgram(t, test.env, test.args...)
		p.wants(strings.Join(test.args, " "), p.run(), test.code, test.part)
	}
}
