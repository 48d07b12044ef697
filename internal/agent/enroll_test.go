package agent_test

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl-io/certctl/internal/agent"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/testkit"
)

const otherCA = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

func wantKind(t *testing.T, what string, err error, kind problem.Kind, part string) {
	t.Helper()
	if problem.KindOf(err) != kind || err != nil && !strings.Contains(err.Error(), part) {
		t.Errorf("%s: %v, want %s with %q", what, err, kind, part)
	}
}

func TestEnrollTellsNothingToAServerWithAnotherCA(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	e := s.enrolment(t.TempDir())
	e.CASHA256 = otherCA
	_, err := agent.Enroll(t.Context(), e)
	wantKind(t, "another CA is pinned", err, problem.KindTemporary, s.ca)
	e.CASHA256 = ""
	_, err = agent.Enroll(t.Context(), e)
	wantKind(t, "only the system's CAs are trusted", err, problem.KindTemporary, "--ca-sha256")
	e.Server = strings.Replace(e.Server, "https:", "http:", 1)
	_, err = agent.Enroll(t.Context(), e)
	wantKind(t, "without TLS", err, problem.KindInvalid, "TLS only")
	if n := s.requested(); n != 0 {
		t.Errorf("the server got %d requests", n)
	}
}

func TestAnEnrolledAgentTellsNothingToAServerWithAnotherCA(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	stateDir := s.join()
	e := s.enrolment(stateDir)
	e.CASHA256 = otherCA
	identity, err := agent.Enroll(t.Context(), e) // as if the server's CA had changed
	if err != nil || identity.CASHA256 != otherCA {
		t.Fatalf("pin another CA: %+v, %v", identity, err)
	}
	before := s.requested()
	wantKind(t, "reach", agent.Reach(t.Context(), identity, "test", nil), problem.KindTemporary, s.ca)
	if n := s.requested(); n != before {
		t.Errorf("the server got %d requests", n-before)
	}
	if identity, err = agent.Enroll(t.Context(), s.enrolment(stateDir)); err != nil {
		t.Fatal(err)
	}
	if err := agent.Reach(t.Context(), identity, "test", nil); err != nil {
		t.Errorf("reach with the right CA: %v", err)
	}
}

func TestEnrollingAgainIsTheSameAgent(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	e := s.enrolment(t.TempDir())
	s.steer(steering{lost: true})
	_, err := agent.Enroll(t.Context(), e)
	wantKind(t, "the answer is lost", err, problem.KindTemporary, "")
	s.steer(steering{})
	_, err = agent.ReadStatus(e.StateDir)
	wantKind(t, "the status before", err, problem.KindConflict, "no enrolled agent")

	first, err := agent.Enroll(t.Context(), e)
	if err != nil || len(s.agents) != 1 {
		t.Fatalf("%d agents joined, %v", len(s.agents), err)
	}
	e.Token = secret.String{} // nothing more is asked of who has joined
	again, err := agent.Enroll(t.Context(), e)
	if err != nil || again.AgentID != first.AgentID || len(s.agents) != 1 {
		t.Errorf("then %+v, %v with %d agents", again, err, len(s.agents))
	}
	status, err := agent.ReadStatus(e.StateDir)
	if err != nil || status.Identity.Name != "web-1" || status.Identity.ServerID != serverID || status.Running {
		t.Errorf("status: %+v, %v", status, err)
	}

	elsewhere := newServer(t)
	moved := elsewhere.enrolment(e.StateDir)
	_, err = agent.Enroll(t.Context(), moved)
	wantKind(t, "another server", err, problem.KindConflict, "--force")
	moved.Force = true
	if _, err := agent.Enroll(t.Context(), moved); err != nil {
		t.Errorf("another server by force: %v", err)
	}
	for _, there := range elsewhere.agents {
		if there.Equal(s.agents[first.AgentID]) {
			t.Error("the agent shows one key to two servers")
		}
	}
}

func TestEnrollSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, test := range []struct {
		name   string
		change func(*agent.Enrolment)
		kind   problem.Kind
		part   string
	}{
		{"no token", func(e *agent.Enrolment) { e.Token = secret.String{} }, problem.KindInvalid, "CERTCTL_AGENT_TOKEN"},
		{"a wrong token", func(e *agent.Enrolment) { e.Token = secret.New("cet_wrong") }, problem.KindUnauthenticated, "not one of this server's"},
		{"no server", func(e *agent.Enrolment) { e.Server = "" }, problem.KindInvalid, "no server URL"},
		{"a bad fingerprint", func(e *agent.Enrolment) { e.CASHA256 = "12:34" }, problem.KindInvalid, "64 hex digits"},
		{"no CA in the file", func(e *agent.Enrolment) { e.CASHA256, e.CAs = "", "x" }, problem.KindInvalid, "no certificate"},
		{"nobody there", func(e *agent.Enrolment) { e.Server = "127.0.0.1:1" }, problem.KindTemporary, "cannot be reached"},
	} {
		e := s.enrolment(t.TempDir())
		test.change(&e)
		_, err := agent.Enroll(t.Context(), e)
		wantKind(t, test.name, err, test.kind, test.part)
	}
}

func TestEverythingTheAgentKeepsIsForItsUserOnly(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	stateDir := s.join()
	o := newOrder(t)
	a := start(t, stateDir)
	s.work <- o.csrTask()
	s.work <- o.deployTask(o.issue(s.result(1)), fileTarget(t, t.TempDir()))
	s.result(2)
	s.steer(steering{refuse: refuseResults})
	s.work <- newOrder(t).csrTask() // its result stays in the outbox
	testkit.Eventually(t, "a result waits", func() bool {
		status, err := agent.ReadStatus(stateDir)
		return err == nil && status.Results == 1 && status.Running
	})
	a.stopped()
	files := 0
	err := filepath.WalkDir(stateDir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == stateDir {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has the mode %s", path, info.Mode())
		}
		if !entry.IsDir() {
			files++
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s has the mode %s", path, info.Mode())
			}
		}
		return nil
	})
	if err != nil || files < 6 {
		t.Errorf("%d files, %v", files, err)
	}
}
