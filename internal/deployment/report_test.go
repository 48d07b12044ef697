package deployment_test

import (
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/deployment"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/targets"
)

func TestTheTaskHoldsAllThatTheAgentNeeds(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		target, err := f.CreateTarget(t.Context(), deployment.TargetSpec{
			Name: "a", Agent: "web-1", Kind: "exec", Certificate: "www", Settings: []byte(secretSettings),
		})
		f.must(err)
		v := f.issue(f.cert, f.agent)
		f.start(v)
		d := f.only(deployment.Pending)
		if _, ok, err := f.Build(t.Context(), f.other, d.ID); ok || err != nil {
			t.Errorf("another agent gets the task: %v, %v", ok, err)
		}
		f.expect(d.ID, deployment.Pending)
		task := f.deliver(d)
		if task.DeploymentID != d.ID || task.TargetID != target.ID || task.TargetName != "a" || task.CertificateID != f.cert ||
			task.OrderID != v.OrderID || task.Kind != "exec" || task.Fingerprint != v.Fingerprint {
			t.Errorf("task %+v", task)
		}
		if !strings.Contains(string(task.Settings), "hunter2") || !strings.Contains(string(task.Settings), "/bin/true") {
			t.Errorf("settings are not whole: %s", task.Settings)
		}
		chain, err := pki.ParseChain([]byte(task.Chain))
		if err != nil || len(chain) != 2 || pki.Fingerprint(chain[0]) != v.Fingerprint || !task.Names.Has("www.example.com") {
			t.Errorf("chain of %d, %v, names %v", len(chain), err, task.Names)
		}
		f.deliver(d)
		if again := f.expect(d.ID, deployment.Running); again.Attempts != 1 {
			t.Errorf("a task that is delivered again counts as %d attempts", again.Attempts)
		}
		f.report(d, success(v))
		for _, gone := range []string{d.ID, "dep_none"} {
			if _, ok, err := f.Build(t.Context(), f.agent, gone); ok || err != nil {
				t.Errorf("%s is delivered: %v, %v", gone, ok, err)
			}
		}
	})
}

func TestATransientFailureIsTriedAgainAFewTimes(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		f.target("a", f.agent, "www")
		f.jobs()
		v := f.issue(f.cert, f.agent)
		f.start(v)
		d := f.only(deployment.Pending)
		for attempt, pause := range []time.Duration{33 * time.Second, 132 * time.Second, 528 * time.Second} {
			f.deliver(d)
			f.report(d, failure(v, true))
			waiting := f.expect(d.ID, deployment.Pending)
			next := f.clock.Now().Add(pause)
			if waiting.NextTryAt == nil || !waiting.NextTryAt.Equal(next) || waiting.Attempts != attempt+1 || waiting.StateReason != "nginx said no." {
				t.Fatalf("after attempt %d: %+v", attempt+1, waiting)
			}
			if waits := f.tasks(); len(waits) != 1 || !waits[0].NotBefore.Equal(next) {
				t.Fatalf("tasks %+v", waits)
			}
			f.wantLine(f.cert, "deployment.retrying", "failed and was rolled back: nginx said no. It is tried again in", "emerg: bad", `"1.5s"`)
			f.clock.Advance(pause)
		}
		f.wantJobs()
		f.deliver(d)
		if running := f.expect(d.ID, deployment.Running); running.NextTryAt != nil {
			t.Error("a running deployment still says when it is tried again")
		}
		f.report(d, failure(v, true))
		failed := f.expect(d.ID, deployment.Failed)
		if failed.FinishedAt == nil || failed.NextTryAt != nil || failed.Attempts != 4 || len(f.tasks()) != 0 {
			t.Errorf("failed as %+v with tasks %v", failed, f.tasks())
		}
		f.wantJobs(settled(v))
		if open, count, reason := f.outcome(v.OrderID); open != 0 || count != 1 || reason != "target a: nginx said no." {
			t.Errorf("%d open, %d failed, %q", open, count, reason)
		}
	})
}

func TestAPermanentFailureIsFinal(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		f.target("a", f.agent, "www")
		f.jobs()
		v := f.issue(f.cert, f.agent)
		f.start(v)
		d := f.only(deployment.Pending)
		f.deliver(d)
		f.report(d, failure(v, false))
		f.expect(d.ID, deployment.Failed)
		f.wantJobs(settled(v))
		f.wantLine(f.cert, "deployment.failed", "Deployment to target a failed and was rolled back: nginx said no.", "emerg: bad")
	})
}

func TestOnlyTheAgentOfADeploymentReportsIt(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		f.target("a", f.agent, "www")
		v := f.issue(f.cert, f.agent)
		f.start(v)
		d := f.only(deployment.Pending)
		f.deliver(d)
		wantProblem(t, f.Report(t.Context(), f.other, d.ID, success(v)), problem.KindNotFound, "")
		wantProblem(t, f.Report(t.Context(), f.agent, "dep_none", success(v)), problem.KindNotFound, "")
		f.expect(d.ID, deployment.Running)
	})
}

func TestAReportMustBeAboutTheVersion(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		f.target("a", f.agent, "www")
		v := f.issue(f.cert, f.agent)
		f.start(v)
		d := f.only(deployment.Pending)
		f.deliver(d)
		for field, spoil := range map[string]func(*targets.Report){
			"fingerprint": func(r *targets.Report) { r.Fingerprint = "abc" },
			"served":      func(r *targets.Report) { r.Served = "abc" },
			"outcome":     func(r *targets.Report) { r.Outcome = "splendid" },
		} {
			r := success(v)
			spoil(&r)
			wantProblem(t, f.Report(t.Context(), f.agent, d.ID, r), problem.KindInvalid, field)
		}
		f.expect(d.ID, deployment.Running)
	})
}

func TestARepeatedReportChangesNothing(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		f.target("a", f.agent, "www")
		f.jobs()
		v := f.issue(f.cert, f.agent)
		f.start(v)
		d := f.only(deployment.Pending)
		again := func(r targets.Report, state deployment.State) {
			t.Helper()
			before, lines := f.expect(d.ID, state), len(f.timeline(f.cert))
			f.must(f.Report(t.Context(), f.agent, d.ID, r))
			after := f.expect(d.ID, state)
			if !after.UpdatedAt.Equal(before.UpdatedAt) || after.Attempts != before.Attempts || len(f.timeline(f.cert)) != lines {
				t.Errorf("a repeated report made %+v of %+v", after, before)
			}
		}
		f.deliver(d)
		failed := failure(v, true)
		failed.Started, failed.Finished = f.clock.Now(), f.clock.Now().Add(time.Nanosecond)
		f.must(f.Report(t.Context(), f.agent, d.ID, failed))
		again(failed, deployment.Pending)
		f.deliver(d)
		again(failed, deployment.Running) // the answer to the first attempt, late
		f.report(d, success(v))
		again(success(v), deployment.Done)
		again(failure(v, true), deployment.Done)
		f.wantJobs(settled(v))
	})
}

func TestADeploymentThatCannotBeBuiltFails(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		f.target("a", f.agent, "www")
		v := f.issue(f.cert, f.agent)
		f.start(v)
		d := f.only(deployment.Pending)
		f.exec("UPDATE target SET sealed_settings = $1", []byte("damaged"))
		f.jobs()
		if _, ok, err := f.Build(t.Context(), f.agent, d.ID); ok || err != nil {
			t.Fatalf("%v, %v", ok, err)
		}
		if failed := f.expect(d.ID, deployment.Failed); !strings.Contains(failed.StateReason, "open settings of target a") {
			t.Errorf("failed because %s", failed.StateReason)
		}
		f.wantJobs(settled(v))
	})
}

func TestAnAgentHasOneLastWordOnACancelledDeployment(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		f.target("a", f.agent, "www")
		old := f.issue(f.cert, f.agent)
		f.start(old)
		cancelled := f.only(deployment.Pending)
		f.deliver(cancelled)
		f.orderState(old, "failed")
		f.start(f.issue(f.cert, f.agent))
		f.expect(cancelled.ID, deployment.Cancelled)
		lines := len(f.timeline(f.cert))
		for range 3 {
			f.clock.Advance(time.Second)
			r := failure(old, false)
			r.Started = f.clock.Now()
			f.must(f.Report(t.Context(), f.agent, cancelled.ID, r))
		}
		if more := len(f.timeline(f.cert)) - lines; more != 1 {
			t.Errorf("the agent wrote %d lines", more)
		}
	})
}

func TestWhatAnAgentReportsCannotPlayWithATerminal(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		f.target("a", f.agent, "www")
		v := f.issue(f.cert, f.agent)
		f.start(v)
		d := f.only(deployment.Pending)
		f.deliver(d)
		r := failure(v, false)
		r.Reason = "bad\x1b[2J\n2026-01-01 issued\u202e.\u009b1m"
		r.Steps[1].Output = "one\r\ntwo\u2066\x07"
		f.report(d, r)
		failed := f.expect(d.ID, deployment.Failed)
		if want := "bad[2J 2026-01-01 issued.1m"; failed.StateReason != want {
			t.Errorf("the reason is %q, want %q", failed.StateReason, want)
		}
		if got := failed.Report.Steps[1].Output; got != "one\ntwo" {
			t.Errorf("the output is %q", got)
		}
	})
}
