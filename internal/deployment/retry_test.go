package deployment_test

import (
	"strings"
	"testing"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/deployment"
	"github.com/certctl-io/certctl/internal/problem"
)

func TestARetriedOrderGoesOnWhereItFailed(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		f.target("a", f.agent, "www")
		f.target("b", f.agent, "www")
		v := f.issue(f.cert, f.agent)
		f.start(v)
		open := f.all(deployment.Filter{Order: v.OrderID})
		f.deliver(open[0])
		f.report(open[0], success(v))
		f.deliver(open[1])
		f.report(open[1], failure(v, false))
		f.jobs()
		var started int
		f.locked(f.cert, func(tx *db.Tx) (err error) {
			started, err = f.RetryOrder(t.Context(), tx, v.OrderID)
			return err
		})
		retried := f.expect(open[1].ID, deployment.Pending)
		if started != 1 || retried.Attempts != 0 || retried.FinishedAt != nil || len(f.tasks()) != 1 {
			t.Fatalf("%d started: %+v", started, retried)
		}
		f.deliver(retried)
		f.report(retried, success(v))
		f.wantJobs(settled(v))
		f.tx(func(tx *db.Tx) (err error) {
			started, err = f.RetryOrder(t.Context(), tx, "ord_none")
			return err
		})
		if started != 0 {
			t.Error("an order without a version was retried")
		}
	})
}

func TestOneFailedDeploymentIsRetriedByHand(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		target := f.target("a", f.agent, "www")
		v := f.issue(f.cert, f.agent)
		f.start(v)
		d := f.only(deployment.Pending)
		_, err := f.Retry(t.Context(), d.ID)
		wantProblem(t, err, problem.KindConflict, "", "the deployment is pending")
		_, err = f.Retry(t.Context(), "dep_none")
		wantProblem(t, err, problem.KindNotFound, "")
		f.deliver(d)
		f.report(d, failure(v, false))
		f.orderState(v, "failed")
		f.jobs()
		retried, err := f.Retry(t.Context(), d.ID)
		f.must(err)
		if retried.State != deployment.Pending || !strings.Contains(f.audited(), "deployment.retry ") {
			t.Errorf("retried as %+v", retried)
		}
		f.deliver(d)
		f.report(d, success(v))
		f.wantJobs(settled(v))
		f.settleOrder(v)

		// A version that was superseded, or whose order was cancelled, stays where it is.
		next := f.issue(f.cert, f.agent)
		f.start(next)
		failed := f.only(deployment.Pending)
		f.deliver(failed)
		f.report(failed, failure(next, false))
		f.orderState(next, "cancelled")
		_, err = f.Retry(t.Context(), failed.ID)
		wantProblem(t, err, problem.KindConflict, "", "out of date")
		f.orderState(next, "failed")
		newest := f.issue(f.cert, f.agent)
		_, err = f.Retry(t.Context(), failed.ID)
		wantProblem(t, err, problem.KindConflict, "", "out of date")
		f.start(newest)
		_, err = f.Retry(t.Context(), failed.ID)
		wantProblem(t, err, problem.KindConflict, "", "the newer deployment")
		f.tx(func(tx *db.Tx) error { return f.CancelOrder(t.Context(), tx, newest.OrderID, "not wanted") })
		f.revoke(f.agent)
		_, err = f.Retry(t.Context(), failed.ID)
		wantProblem(t, err, problem.KindConflict, "", "was revoked")
		released := ""
		_, err = f.UpdateTarget(t.Context(), target.ID, anyRevision, deployment.TargetChange{Certificate: &released})
		f.must(err)
		_, err = f.Retry(t.Context(), failed.ID)
		wantProblem(t, err, problem.KindConflict, "", "does not have the certificate")
	})
}
