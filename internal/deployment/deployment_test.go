package deployment_test

import (
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/deployment"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/targets"
)

func TestAnOrderIsSettledWhenAllItsTargetsServeTheVersion(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		first, second := f.target("a", f.agent, "www"), f.target("b", f.agent, "www")
		f.target("elsewhere", f.other, "www")
		f.target("free", f.agent, "")
		f.jobs()
		v := f.issue(f.cert, f.agent)
		if started := f.start(v); started != 2 {
			t.Fatalf("%d deployments were started", started)
		}
		open := f.all(deployment.Filter{Order: v.OrderID, State: deployment.Pending})
		if len(open) != 2 || open[0].TargetID != first.ID || open[1].TargetID != second.ID || open[0].Reason != deployment.Issued {
			t.Fatalf("open are %+v", open)
		}
		for i, task := range f.tasks() {
			if task.AgentID != f.agent || task.SubjectID != open[i].ID || task.Lane != open[i].TargetID {
				t.Errorf("task %+v", task)
			}
		}
		f.deliver(open[0])
		f.report(open[0], success(v))
		f.wantJobs()
		if open, failed, _ := f.outcome(v.OrderID); open != 1 || failed != 0 {
			t.Errorf("%d open, %d failed", open, failed)
		}
		unchanged := success(v)
		unchanged.Outcome = targets.OutcomeUnchanged
		f.deliver(open[1])
		f.report(open[1], unchanged)
		f.wantJobs(settled(v))
		done := f.expect(open[0].ID, deployment.Done)
		if done.Attempts != 1 || done.FinishedAt == nil || done.Report == nil || done.Report.Steps[0].Name != "write" || done.StateReason != "it is served" {
			t.Errorf("done as %+v", done)
		}
		if open, failed, reason := f.outcome(v.OrderID); open+failed != 0 || reason != "" {
			t.Errorf("%d open, %d failed, %q", open, failed, reason)
		}
		if len(f.tasks()) != 0 {
			t.Errorf("tasks are left: %v", f.tasks())
		}
		f.wantLine(f.cert, "deployment.done", "Deployed to target b: it is served.", `"duration"`, `"7ms"`)
		counts, err := f.Counts(t.Context())
		f.must(err)
		if counts[deployment.Pending]+counts[deployment.Running]+counts[deployment.Failed] != 0 || len(counts) != 3 {
			t.Errorf("counted %v", counts)
		}
	})
}

func TestANewerVersionSupersedesWhatIsOpen(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		f.target("a", f.agent, "www")
		old := f.issue(f.cert, f.agent)
		f.start(old)
		running := f.only(deployment.Pending)
		f.deliver(running)
		f.orderState(old, "failed")
		f.jobs()
		v := f.issue(f.cert, f.agent)
		f.start(v)
		pending := f.only(deployment.Pending)
		superseded := f.expect(running.ID, deployment.Cancelled)
		if superseded.StateReason != "it was superseded by deployment "+pending.ID {
			t.Errorf("cancelled because %s", superseded.StateReason)
		}
		f.wantJobs(settled(old))
		if tasks := f.tasks(); len(tasks) != 1 || tasks[0].SubjectID != pending.ID {
			t.Errorf("tasks %v", tasks)
		}
		f.report(running, success(old))
		f.expect(running.ID, deployment.Cancelled)
		f.wantLine(f.cert, "deployment.ignored", "The cancelled deployment to target a ended as deployed: it is served.")
		if started := f.start(v); started != 0 {
			t.Error("the same version was started twice")
		}
		if started := f.start(old); started != 0 {
			t.Error("an older version took the place of a newer one")
		}
		f.expect(pending.ID, deployment.Pending)
	})
}

func TestRedeployPutsTheActiveVersionsOnAllTargetsAgain(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		f.target("a", f.agent, "www")
		f.target("b", f.other, "www")
		redeploy := func() (ids []string) {
			f.locked(f.cert, func(tx *db.Tx) (err error) {
				ids, err = f.Redeploy(t.Context(), tx, f.cert)
				return err
			})
			return ids
		}
		if ids := redeploy(); len(ids) != 0 {
			t.Fatalf("without an active version %v were started", ids)
		}
		v := f.deployed(f.cert, f.agent)
		f.deployed(f.cert, f.other)
		f.jobs()
		ids := redeploy()
		if len(ids) != 2 {
			t.Fatalf("%d were started", len(ids))
		}
		if again := redeploy(); strings.Join(again, " ") != strings.Join(ids, " ") {
			t.Errorf("again %v instead of %v", again, ids)
		}
		d := f.expect(ids[0], deployment.Pending)
		if d.OrderID != "" || d.Reason != deployment.Requested || d.VersionID != v.ID {
			t.Errorf("started %+v", d)
		}
		f.deliver(d)
		f.report(d, success(v))
		f.wantJobs() // no order waits for it
	})
}

func TestMissingTargetsGetTheVersionThatTheOthersHave(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		f.target("a", f.agent, "www")
		v := f.deployed(f.cert, f.agent)
		missing := func() (started int) {
			f.locked(f.cert, func(tx *db.Tx) error {
				active, _, err := f.versions.Active(t.Context(), tx, f.cert, f.agent)
				if err != nil {
					return err
				}
				started, err = f.StartMissing(t.Context(), tx, active)
				return err
			})
			return started
		}
		if started := missing(); started != 0 {
			t.Fatalf("%d were started though nothing is missing", started)
		}
		added := f.target("b", f.agent, "www")
		if started := missing(); started != 1 {
			t.Fatalf("%d were started for one target", started)
		}
		d := f.only(deployment.Pending)
		if d.TargetID != added.ID || d.Reason != deployment.TargetAdded || d.OrderID != "" {
			t.Errorf("started %+v", d)
		}
		if started := missing(); started != 0 {
			t.Error("what is open was started again")
		}
		f.deliver(d)
		f.report(d, failure(v, false))
		if started := missing(); started != 1 || f.only(deployment.Pending).ID != d.ID {
			t.Error("what failed was not taken up again")
		}
		f.deliver(d)
		f.report(d, success(v))

		// A target that comes back with other settings gets the version again.
		for _, change := range []deployment.TargetChange{
			{Certificate: text("")}, {Settings: []byte(`{"fullchain":"/etc/ssl/b.pem","key":"/etc/ssl/b.key"}`)}, {Certificate: text("www")},
		} {
			f.clock.Advance(time.Second)
			_, err := f.UpdateTarget(t.Context(), "b", anyRevision, change)
			f.must(err)
		}
		if started := missing(); started != 1 || f.only(deployment.Pending).TargetID != added.ID {
			t.Errorf("%d were started for a target that came back", started)
		}
	})
}

func TestATargetThatIsAheadOfTheOthersStaysAhead(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		f.target("a", f.agent, "www")
		f.target("b", f.agent, "www")
		active := f.deployed(f.cert, f.agent)
		v := f.issue(f.cert, f.agent)
		f.start(v)
		open := f.all(deployment.Filter{Order: v.OrderID})
		f.deliver(open[0])
		f.report(open[0], success(v))
		f.clock.Advance(time.Second)
		f.locked(f.cert, func(tx *db.Tx) error {
			started, err := f.StartMissing(t.Context(), tx, active)
			if started != 0 {
				t.Errorf("%d targets went back to the version before", started)
			}
			return err
		})
		change := deployment.TargetChange{Settings: []byte(`{"fullchain":"/etc/ssl/a.pem","key":"/etc/ssl/a.key"}`)}
		_, err := f.UpdateTarget(t.Context(), "a", anyRevision, change)
		f.must(err)
		var ids []string
		f.locked(f.cert, func(tx *db.Tx) (err error) {
			ids, err = f.Redeploy(t.Context(), tx, f.cert)
			return err
		})
		if len(ids) != 2 || ids[1] != open[1].ID {
			t.Errorf("open are %v", ids)
		}
		for _, d := range f.all(deployment.Filter{State: deployment.Pending}) {
			if d.VersionID != v.ID || d.OrderID != v.OrderID {
				t.Errorf("open is %+v", d)
			}
		}
	})
}

func TestATargetAddedMeanwhileCountsForTheOrder(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		f.target("a", f.agent, "www")
		v := f.issue(f.cert, f.agent)
		f.start(v)
		f.target("b", f.agent, "www")
		f.locked(f.cert, func(tx *db.Tx) error {
			_, err := f.StartMissing(t.Context(), tx, v)
			return err
		})
		if open := f.all(deployment.Filter{Order: v.OrderID, State: deployment.Pending}); len(open) != 2 {
			t.Errorf("the order waits for %+v", open)
		}
	})
}

func TestACancelledOrderCancelsWhatIsOpen(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		f.target("a", f.agent, "www")
		f.target("b", f.agent, "www")
		v := f.issue(f.cert, f.agent)
		f.start(v)
		open := f.all(deployment.Filter{Order: v.OrderID})
		f.deliver(open[0])
		f.jobs()
		f.locked(f.cert, func(tx *db.Tx) error { return f.CancelOrder(t.Context(), tx, v.OrderID, "the order was cancelled") })
		for _, d := range open {
			if cancelled := f.expect(d.ID, deployment.Cancelled); cancelled.StateReason != "the order was cancelled" {
				t.Errorf("cancelled because %s", cancelled.StateReason)
			}
		}
		if len(f.tasks()) != 0 {
			t.Error("tasks are left")
		}
		f.wantJobs()
	})
}

func TestARevokedAgentFailsItsDeployments(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		f.target("a", f.agent, "www")
		f.target("b", f.agent, "mail")
		f.target("c", f.other, "www")
		v, mail, other := f.issue(f.cert, f.agent), f.issue(f.mail, f.agent), f.issue(f.cert, f.other)
		f.start(v)
		f.start(mail)
		f.start(other)
		f.jobs()
		f.tx(func(tx *db.Tx) error { return f.LeaveAgent(t.Context(), tx, f.agent) })
		for _, d := range f.all(deployment.Filter{Agent: "web-1"}) {
			if failed := f.expect(d.ID, deployment.Failed); failed.StateReason != "the agent web-1 was revoked" {
				t.Errorf("failed because %s", failed.StateReason)
			}
		}
		f.only(deployment.Pending)
		f.wantJobs(settled(v), settled(mail))
		f.revoke(f.agent)
		f.orderState(mail, "failed")
		late := f.issue(f.mail, f.agent)
		if started := f.start(late); started != 1 {
			t.Errorf("%d started", started)
		}
		if failed := f.all(deployment.Filter{Order: late.OrderID})[0]; failed.State != deployment.Failed || len(f.tasks()) != 1 {
			t.Errorf("what starts for a revoked agent is %s with tasks %v", failed.State, f.tasks())
		}
		f.wantJobs(settled(late))
	})
}

func TestDeploymentsAreFiltered(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		a := f.target("a", f.agent, "www")
		f.target("b", f.other, "mail")
		www := f.deployed(f.cert, f.agent)
		mail := f.issue(f.mail, f.other)
		f.start(mail)
		for _, filter := range []deployment.Filter{
			{Target: "a"},
			{Target: a.ID},
			{Certificate: "www"},
			{Certificate: f.cert},
			{Agent: "web-1"},
			{Agent: f.agent},
			{Order: www.OrderID},
			{State: deployment.Done},
			{Target: "a", Certificate: "www", State: deployment.Done},
		} {
			if found := f.all(filter); len(found) != 1 || found[0].Target != "a" || found[0].Agent != "web-1" || found[0].Certificate != "www" {
				t.Errorf("%+v: %+v", filter, found)
			}
		}
		for _, filter := range []deployment.Filter{{Target: "none"}, {Certificate: "www", Agent: "web-2"}} {
			if found := f.all(filter); len(found) != 0 {
				t.Errorf("%+v: %+v", filter, found)
			}
		}
		_, _, err := f.Deployments(t.Context(), deployment.Filter{State: "splendid"}, db.Page{})
		wantProblem(t, err, problem.KindInvalid, "state")
		page, next, err := f.Deployments(t.Context(), deployment.Filter{}, db.Page{Limit: 1})
		if err != nil || len(page) != 1 || page[0].Target != "b" || next == "" {
			t.Errorf("first page %+v, %q, %v", page, next, err)
		}
	})
}
