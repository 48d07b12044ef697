package agent_test

import (
	"bytes"
	"crypto/ecdsa"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/agent"
	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/targets"
	"github.com/certctl-io/certctl/internal/testkit"
)

func TestAnAgentMakesTheKeyAndDeploysTheCertificate(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	o := newOrder(t)
	start(t, s.join())
	s.work <- o.csrTask()
	chain := o.issue(s.result(1))
	to := fileTarget(t, t.TempDir())
	task := o.deployTask(chain, to)
	s.work <- task
	if r := report(t, s.result(2), task); r.Outcome != targets.OutcomeDeployed {
		t.Fatalf("the report is %+v", r)
	}
	text, err := os.ReadFile(to.fullchain)
	if err != nil || !bytes.Equal(text, chain.PEM()) {
		t.Errorf("the chain on disk is %s (%v)", text, err)
	}
	key, err := os.ReadFile(to.key)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := pki.DecodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := chain.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	if !leaf.PublicKey.(*ecdsa.PublicKey).Equal(signer.Public()) {
		t.Error("the key on disk is not that of the certificate")
	}
}

func TestTheSameOrderGetsTheSameRequestAfterARestart(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	stateDir := s.join()
	o, other := newOrder(t), newOrder(t)
	a := start(t, stateDir)
	s.work <- o.csrTask()
	first := s.result(1)
	a.stopped()
	s.settled()

	start(t, stateDir)
	again := o.csrTask()
	again.ID = id.New("tsk")
	s.work <- again
	if second := s.result(2); !bytes.Equal(first.body, second.body) {
		t.Errorf("the requests differ:\n%s\n%s", first.body, second.body)
	}
	s.work <- other.csrTask()
	if bytes.Equal(other.csr(s.result(3)).RawSubjectPublicKeyInfo, o.csr(first).RawSubjectPublicKeyInfo) {
		t.Error("two orders share a key")
	}
	if polls := s.polled(); !polls[0].Resync {
		t.Errorf("the first poll after a start is no resync: %+v", polls[0])
	}
}

func TestAResultOutlivesTheAgent(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	stateDir := s.join()
	o := newOrder(t)
	s.steer(steering{refuse: refuseResults})
	a := start(t, stateDir)
	s.work <- o.csrTask()
	testkit.Eventually(t, "the result is kept", func() bool {
		status, err := agent.ReadStatus(stateDir)
		return err == nil && status.Results == 1
	})
	a.stopped()

	s.steer(steering{})
	before := len(s.polled())
	start(t, stateDir)
	o.csr(s.result(1))
	testkit.Eventually(t, "the agent asks for work", func() bool { return len(s.polled()) > before })
	if poll := s.polled()[before]; !poll.Resync || len(poll.Running) > 0 && !slices.Equal(poll.Running, []string{o.taskID}) {
		t.Errorf("the first poll is %+v", poll)
	}
	testkit.Eventually(t, "the outbox is empty", func() bool {
		status, err := agent.ReadStatus(stateDir)
		return err == nil && status.Results == 0
	})
}

func refuseResults(path string) error {
	if path == agentapi.BasePath+agentapi.PathPoll {
		return nil
	}
	return problem.Temporary(errors.New("the database is away"), 0)
}

func TestAResultThatNobodyWantsIsDropped(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	stateDir := s.join()
	s.steer(steering{refuse: func(path string) error {
		if refuseResults(path) == nil {
			return nil
		}
		return problem.Conflict("the order was cancelled")
	}})
	start(t, stateDir)
	s.work <- newOrder(t).csrTask()
	testkit.Eventually(t, "a poll names no task again", func() bool {
		polls := s.polled()
		named := slices.IndexFunc(polls, func(p agentapi.PollRequest) bool { return len(p.Running) == 1 })
		files, err := filepath.Glob(filepath.Join(stateDir, "outbox", "*"))
		// The poll that follows the task waits for more work.
		s.nudge()
		return err == nil && len(files) == 0 && named >= 0 && len(polls[len(polls)-1].Running) == 0
	})
}

func TestATaskThatIsDeliveredTwiceIsDoneOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	o := newOrder(t)
	stateDir := s.join()
	s.steer(steering{refuse: refuseResults})
	start(t, stateDir)
	s.work <- o.csrTask()
	s.work <- o.csrTask()
	testkit.Eventually(t, "both are delivered", func() bool { return len(s.polled()) == 3 })
	s.steer(steering{})
	s.result(1)
	other := newOrder(t)
	s.work <- other.csrTask()
	other.csr(s.result(2))
}

func TestARevokedAgentEnds(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a := start(t, s.join())
	testkit.Eventually(t, "the agent asks for work", func() bool { return len(s.polled()) == 1 })
	s.steer(steering{refuse: func(string) error { return problem.Forbidden("the agent was revoked") }})
	s.work <- newOrder(t).csrTask() // ends the poll; what follows is refused
	if err := a.end(); !errors.Is(err, agent.ErrRevoked) || problem.KindOf(err) != problem.KindForbidden {
		t.Errorf("it ends with %v", err)
	}
}

func TestTheAgentComesBackToAServerThatWasAway(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	stateDir := s.join()
	s.steer(steering{away: true})
	start(t, stateDir)
	testkit.Eventually(t, "it tries again and again", func() bool { return s.requested() > 5 })
	s.steer(steering{})
	o := newOrder(t)
	known := len(s.polled())
	testkit.Eventually(t, "it asks for work", func() bool { return len(s.polled()) > known })
	s.work <- o.csrTask()
	o.csr(s.result(1))
	if polls := s.polled(); !polls[known].Resync {
		t.Error("what a lost answer held is not asked for")
	}
}

func TestOnlyOneAgentWorksWithAStateDirectory(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	stateDir := s.join()
	start(t, stateDir)
	testkit.Eventually(t, "the agent runs", func() bool { return len(s.polled()) == 1 })
	err := start(t, stateDir).end()
	wantKind(t, "the second agent", err, problem.KindConflict, "another certctl-agent")
	_, err = agent.Enroll(t.Context(), s.enrolment(stateDir))
	wantKind(t, "enrolling meanwhile", err, problem.KindConflict, "another certctl-agent")
}

func TestStoppingLetsADeploymentComeToItsEnd(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	o := newOrder(t)
	dir := t.TempDir()
	a := startWith(t, s.join(), 30*time.Second)
	s.work <- o.csrTask()
	to := fileTarget(t, dir)
	began, mayEnd := filepath.Join(dir, "began"), filepath.Join(dir, "may-end")
	to.settings["reload"] = []string{"/bin/sh", "-c", `touch "$0"; until test -e "$1"; do sleep 0.01; done`, began, mayEnd}
	task := o.deployTask(o.issue(s.result(1)), to)
	s.work <- task
	testkit.Eventually(t, "the reload has begun", func() bool { _, err := os.Stat(began); return err == nil })
	a.stop()
	if err := os.WriteFile(mayEnd, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.end(); err != nil {
		t.Errorf("a stopped agent: %v", err)
	}
	if r := report(t, s.result(2), task); r.Outcome != targets.OutcomeDeployed {
		t.Errorf("the report is %+v", r)
	}
}

func TestWhatCannotBeDoneIsReported(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	o, strange := newOrder(t), newOrder(t)
	start(t, s.join())
	bad := strange.csrTask()
	bad.CSR.KeyType = "rot13"
	s.work <- bad
	if r := s.result(1); r.path != agentapi.WithID(agentapi.PathOrderFailure, strange.id) || bytes.Contains(r.body, []byte(`"retryable":true`)) {
		t.Errorf("%s: %s", r.path, r.body)
	}
	s.work <- o.csrTask()
	chain := o.issue(s.result(2))
	foreign := newOrder(t) // whose key is not here
	task := foreign.deployTask(chain, fileTarget(t, t.TempDir()))
	s.work <- task
	if r := report(t, s.result(3), task); r.Outcome != targets.OutcomeFailed || r.Retryable {
		t.Errorf("the report is %+v", r)
	}
	s.work <- agentapi.Task{ID: id.New("tsk"), Kind: "dance"} // of a newer server; its lease ends
	task = o.deployTask(chain, fileTarget(t, t.TempDir()))
	s.work <- task
	if r := report(t, s.result(4), task); r.Outcome != targets.OutcomeDeployed {
		t.Errorf("the report is %+v", r)
	}
}

// From the moment the server has work to the moment it has the answer there is
// only what the work takes: no interval, no pause.
func TestTheAnswerComesWithoutDelay(t *testing.T) {
	t.Parallel()
	const limit, tries = 20 * time.Millisecond, 20
	s := newServer(t)
	start(t, s.join())
	var all []time.Duration
	for n := 1; n <= tries; n++ {
		testkit.Eventually(t, "the agent asks for work", func() bool { return len(s.polled()) == n })
		released := time.Now()
		s.work <- newOrder(t).csrTask()
		all = append(all, s.result(n).at.Sub(released))
	}
	slices.Sort(all)
	t.Logf("fastest %s, median %s, slowest %s", all[0], all[tries/2], all[tries-1])
	// The machine may be busy with other things; a delay would be in all of them.
	if all[0] > limit {
		t.Errorf("the fastest of %d answers took %s", tries, all[0])
	}
}
