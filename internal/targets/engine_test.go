package targets_test

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/targets"
	"github.com/certctl-io/certctl/internal/targets/targetstest"
)

func TestDeployEndsWithTheCertificateServed(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	first, next := h.issue(t), h.issue(t)
	h.place(t, first)
	report := h.deploy(t, "dep_1", next)
	targetstest.WantOutcome(t, report, targets.OutcomeDeployed)
	h.wantServed(t, next)
	wantNoSecret(t, report, next)
	if got, want := stepNames(report), "prepare observe backup write validate reload verify finish"; got != want {
		t.Errorf("steps %q, want %q", got, want)
	}
	if report.Served != targetstest.Fingerprint(next) || report.Finished.Before(report.Started) {
		t.Errorf("report %+v", report)
	}
	if took := report.Finished.Sub(report.Started); took < targets.SteadyTime {
		t.Errorf("proven after %v, which is too soon to know", took)
	}
}

func TestIdenticalContentIsLeftAlone(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	b := h.issue(t)
	h.place(t, b)
	before, err := os.Stat(h.path("tls/cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"dep_1", "dep_2"} {
		targetstest.WantOutcome(t, h.deploy(t, id, b), targets.OutcomeUnchanged)
	}
	after, err := os.Stat(h.path("tls/cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) || h.times("reloads") != 0 || h.times("checks") != 0 {
		t.Error("something was done though nothing was to do")
	}
	h.wantServed(t, b)
}

func TestIdenticalContentThatIsNotServedIsReloaded(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	first, next := h.issue(t), h.issue(t)
	h.place(t, next)
	cert, key := contents(t, first)
	targetstest.WriteFile(t, h.path("run/loaded.pem"), cert+key, 0o600)
	targetstest.WantOutcome(t, h.deploy(t, "dep_1", next), targets.OutcomeDeployed)
	h.wantServed(t, next)

	targetstest.WriteFile(t, h.path("run/loaded.pem"), cert+key, 0o600)
	h.spoil(t, "no-reload")
	report := h.deploy(t, "dep_2", next)
	targetstest.WantOutcome(t, report, targets.OutcomeFailed)
	if !report.Retryable || !strings.Contains(report.Reason, "in no mood") {
		t.Errorf("report %+v", report)
	}
}

func TestWithoutProbeAFirstDeploymentReloadsEvenIdenticalContent(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	b := h.issue(t)
	h.place(t, b)
	job := h.job(t, "dep_1", b)
	job.Plan.Probe = nil
	for reloads, outcome := range []string{targets.OutcomeDeployed, targets.OutcomeUnchanged} {
		job.DeploymentID = "dep_" + outcome
		targetstest.WantOutcome(t, h.engine(t).Deploy(t.Context(), job), outcome)
		if got := h.times("reloads"); got != 1 {
			t.Errorf("deployment %d: %d reloads", reloads, got)
		}
	}
}

func TestRepeatedDeploymentIsDeployedAgain(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	first, next := h.issue(t), h.issue(t)
	h.place(t, first)
	for range 2 {
		targetstest.WantOutcome(t, h.deploy(t, "dep_1", next), targets.OutcomeDeployed)
	}
	if got := h.times("reloads"); got != 1 {
		t.Errorf("%d reloads", got)
	}
}

func TestDeploymentsOfOneTargetTakeTurns(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.place(t, h.issue(t))
	shared := h.engine(t)
	var running sync.WaitGroup
	for i, id := range []string{"dep_1", "dep_2", "dep_3", "dep_4"} {
		engine := shared
		if i%2 == 0 {
			engine = h.engine(t) // as another process would have
		}
		job := h.job(t, id, h.issue(t))
		running.Go(func() {
			if report := engine.Deploy(t.Context(), job); report.Outcome != targets.OutcomeDeployed {
				t.Errorf("%s: %s %s", id, report.Outcome, report.Reason)
			}
		})
	}
	running.Wait()
	if h.times("overlaps") != 0 || h.times("reloads") != 4 {
		t.Errorf("%d of %d reloads overlapped", h.times("overlaps"), h.times("reloads"))
	}
}

func TestTargetsThatWriteTheSameFileTakeTurns(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.place(t, h.issue(t))
	engine := h.engine(t)
	var running sync.WaitGroup
	for _, target := range []string{"tgt_1", "tgt_2", "tgt_3"} {
		job := h.job(t, "dep_"+target, h.issue(t))
		job.TargetID = target
		running.Go(func() {
			if report := engine.Deploy(t.Context(), job); report.Outcome != targets.OutcomeDeployed {
				t.Errorf("%s: %s %s", target, report.Outcome, report.Reason)
			}
		})
	}
	running.Wait()
	if h.times("overlaps") != 0 {
		t.Error("reloads overlapped")
	}
}

func TestWaitingForAnotherDeploymentEndsWithTheContext(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	first := h.issue(t)
	h.place(t, first)
	inside, leave := make(chan struct{}), make(chan struct{})
	busy := h.engine(t)
	var once sync.Once
	busy.OnReached(func(string) { once.Do(func() { close(inside); <-leave }) })
	var running sync.WaitGroup
	running.Go(func() { busy.Deploy(context.Background(), h.job(t, "dep_1", first)) })
	<-inside
	for name, engine := range map[string]*targets.Engine{"within the process": busy, "from another": h.engine(t)} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		report := engine.Deploy(ctx, h.job(t, "dep_2", h.issue(t)))
		cancel()
		if report.Outcome != targets.OutcomeFailed || !report.Retryable || !strings.Contains(report.Reason, "nothing was changed") {
			t.Errorf("%s: %+v", name, report)
		}
	}
	close(leave)
	running.Wait()
	h.wantServed(t, first)
}

func TestWhatStandsInTheWayIsFoundBeforeAnythingIsChanged(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(h *host, job *targets.Job)
		reason string
	}{
		"no file":              {func(_ *host, j *targets.Job) { j.Plan.Files = nil }, "names no file"},
		"a relative path":      {func(_ *host, j *targets.Job) { j.Plan.Files[0].Path = "cert.pem" }, "absolute path"},
		"no such directory":    {func(h *host, j *targets.Job) { j.Plan.Files[1].Path = h.path("none/key.pem") }, "does not exist"},
		"a directory":          {func(h *host, j *targets.Job) { j.Plan.Files[1].Path = h.path("run") }, "is a directory"},
		"a device":             {func(_ *host, j *targets.Job) { j.Plan.Files[1].Path = "/dev/null" }, "not a regular file"},
		"the same file twice":  {func(_ *host, j *targets.Job) { j.Plan.Files[1].Path = j.Plan.Files[0].Path }, "the same file"},
		"no such user":         {func(_ *host, j *targets.Job) { j.Plan.Files[0].Owner = "no-such-user" }, "no user"},
		"no such group":        {func(_ *host, j *targets.Job) { j.Plan.Files[0].Group = "no-such-group" }, "no group"},
		"no such program":      {func(_ *host, j *targets.Job) { j.Plan.Validate[0] = "no-such-program" }, "no program"},
		"no such path":         {func(h *host, j *targets.Job) { j.Plan.Reload[0] = h.path("none") }, "cannot be run"},
		"not executable":       {func(h *host, j *targets.Job) { j.Plan.Reload[0] = h.path("tls/cert.pem") }, "not executable"},
		"an empty command":     {func(_ *host, j *targets.Job) { j.Plan.Reload = targets.Command{} }, "is empty"},
		"a strange target":     {func(_ *host, j *targets.Job) { j.TargetID = "../tgt" }, "no ids"},
		"a strange deployment": {func(_ *host, j *targets.Job) { j.DeploymentID = "" }, "no ids"},
		"no fingerprint":       {func(_ *host, j *targets.Job) { j.Fingerprint = "AB" }, "fingerprint"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			first := h.issue(t)
			h.place(t, first)
			job := h.job(t, "dep_1", h.issue(t))
			test.change(h, &job)
			report := h.engine(t).Deploy(t.Context(), job)
			if report.Outcome != targets.OutcomeFailed || report.Retryable || !strings.Contains(report.Reason, test.reason) {
				t.Errorf("%s, %q", report.Outcome, report.Reason)
			}
			h.wantServed(t, first)
			if h.times("checks")+h.times("reloads") != 0 {
				t.Error("a command was run")
			}
		})
	}
}

func TestMemoryIsClosedToOthers(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.place(t, h.issue(t))
	engine, checked := h.engine(t), false
	engine.OnReached(func(point string) {
		if point != "journal open" {
			return
		}
		checked = true
		for path, mode := range map[string]os.FileMode{
			"state/targets": 0o700, "state/targets/tgt_1": 0o700, "state/targets/tgt_1/journal.json": 0o600,
			"state/targets/tgt_1/previous-1": 0o700, "state/targets/tgt_1/previous-1/1": 0o600,
		} {
			at, err := os.Stat(h.path(path))
			if err != nil {
				t.Error(err)
			} else if at.Mode().Perm() != mode {
				t.Errorf("%s has mode %v", path, at.Mode())
			}
		}
	})
	engine.Deploy(t.Context(), h.job(t, "dep_1", h.issue(t)))
	if !checked {
		t.Error("no journal was opened")
	}
}

func TestDamagedMemoryIsReportedAndNothingIsTouched(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	first := h.issue(t)
	h.place(t, first)
	targetstest.WantOutcome(t, h.deploy(t, "dep_1", first), targets.OutcomeUnchanged)
	targetstest.WriteFile(t, h.path("state/targets/tgt_1/journal.json"), "{", 0o600)
	report := h.deploy(t, "dep_2", h.issue(t))
	if report.Outcome != targets.OutcomeFailed || !strings.Contains(report.Reason, h.path("state/targets/tgt_1")) {
		t.Errorf("%+v", report)
	}
	h.wantServed(t, first)
}

func TestReadersNeverSeeHalfAFile(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	first, second := h.issue(t), h.issue(t)
	whole := map[string]bool{string(first.FullChainPEM()): true, string(second.FullChainPEM()): true}
	h.place(t, first)
	ctx, stop := context.WithCancel(t.Context())
	var reader sync.WaitGroup
	reads := 0
	reader.Go(func() {
		for ctx.Err() == nil {
			content, err := os.ReadFile(h.path("tls/cert.pem"))
			if err != nil || !whole[string(content)] {
				t.Errorf("read %d bytes, %v", len(content), err)
				return
			}
			reads++
		}
	})
	targetstest.WantOutcome(t, h.deploy(t, "dep_1", second), targets.OutcomeDeployed)
	targetstest.WantOutcome(t, h.deploy(t, "dep_2", first), targets.OutcomeDeployed)
	stop()
	reader.Wait()
	if reads == 0 {
		t.Error("nothing was read")
	}
	h.wantServed(t, first)
}
