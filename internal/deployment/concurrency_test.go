package deployment_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/deployment"
)

func TestReportsAtTheSameTimeSettleTheOrderOnce(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		const places = 8
		for i := range places {
			f.target(fmt.Sprintf("t%d", i), f.agent, "www")
		}
		f.jobs()
		v := f.issue(f.cert, f.agent)
		f.start(v)
		open := f.all(deployment.Filter{Order: v.OrderID})
		var wg sync.WaitGroup
		for _, d := range open {
			f.deliver(d)
			for range 2 { // each agent repeats itself
				wg.Go(func() {
					if err := f.Report(t.Context(), f.agent, d.ID, success(v)); err != nil {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
		for _, d := range open {
			f.expect(d.ID, deployment.Done)
		}
		f.wantJobs(settled(v))
	})
}

func TestChangesAtTheSameTimeLeaveOneOpenDeployment(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		target := f.target("a", f.agent, "www")
		f.deployed(f.cert, f.agent)
		v := f.issue(f.cert, f.agent)
		var wg sync.WaitGroup
		do := func(change func(tx *db.Tx) error) {
			wg.Go(func() {
				err := f.db.InTx(t.Context(), func(tx *db.Tx) error {
					if _, err := f.versions.Lock(t.Context(), tx, f.cert); err != nil {
						return err
					}
					return change(tx)
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		for i := range 4 {
			do(func(tx *db.Tx) error { _, err := f.Redeploy(t.Context(), tx, f.cert); return err })
			do(func(tx *db.Tx) error { _, err := f.Start(t.Context(), tx, v); return err })
			do(func(tx *db.Tx) error { return f.Assign(t.Context(), tx, f.cert, []string{"a"}) })
			wg.Go(func() {
				settings := fmt.Sprintf(`{"fullchain":"/etc/tls/%d.pem","key":"/etc/tls/www.key"}`, i)
				_, err := f.UpdateTarget(t.Context(), target.ID, anyRevision, deployment.TargetChange{Settings: []byte(settings)})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if open := f.only(deployment.Pending); open.VersionID != v.ID {
			t.Errorf("open is %+v", open)
		}
		if tasks := f.tasks(); len(tasks) != 1 {
			t.Errorf("tasks %v", tasks)
		}
	})
}
