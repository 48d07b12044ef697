package deployment_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/deployment"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/targets"
)

const secretSettings = `{"fullchain":"/etc/tls/www.pem","key":"/etc/tls/www.key","reload":["/bin/true"],"secret_env":{"TOKEN":"hunter2"}}`

func text(s string) *string { return &s }

func TestATargetGoesThroughItsLife(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		made := f.target("a", "web-1", "www")
		f.wantJobs(assigned(f.cert))
		f.wantLine(f.cert, "target.assigned", "Target a on agent web-1 was assigned.")
		if made.AgentID != f.agent || made.Agent != "web-1" || made.CertificateID != f.cert || made.Revision != 1 {
			t.Errorf("made %+v", made)
		}
		for _, ref := range []string{made.ID, "a"} {
			if found, err := f.Target(ctx, ref); err != nil || found.ID != made.ID || found.Certificate != "www" {
				t.Errorf("%s: %+v, %v", ref, found, err)
			}
		}
		f.clock.Advance(time.Minute)
		renamed, err := f.UpdateTarget(ctx, "a", anyRevision, deployment.TargetChange{Name: text("b"), Agent: text("web-1"), Kind: text("file")})
		f.must(err)
		if renamed.Name != "b" || renamed.Revision != 2 || !renamed.UpdatedAt.After(made.UpdatedAt) || renamed.CertificateID != f.cert {
			t.Errorf("renamed %+v", renamed)
		}
		same, err := f.UpdateTarget(ctx, "b", anyRevision, deployment.TargetChange{Certificate: text("www"), Settings: json.RawMessage(plainSettings)})
		f.must(err)
		if same.Revision != 2 {
			t.Errorf("a change that changes nothing made revision %d", same.Revision)
		}
		f.wantJobs()
		moved, err := f.UpdateTarget(ctx, "b", anyRevision, deployment.TargetChange{Certificate: text("mail")})
		f.must(err)
		if moved.CertificateID != f.mail || moved.Certificate != "mail" {
			t.Errorf("moved %+v", moved)
		}
		f.wantJobs(assigned(f.cert), assigned(f.mail))
		f.wantLine(f.cert, "target.released", "Target b on agent web-1 was released.")
		f.wantLine(f.mail, "target.assigned", "Target b")
		released, err := f.UpdateTarget(ctx, "b", anyRevision, deployment.TargetChange{Certificate: text("")})
		f.must(err)
		if released.CertificateID != "" || released.Certificate != "" {
			t.Errorf("released %+v", released)
		}
		f.wantJobs(assigned(f.mail))
		f.must(f.DeleteTarget(ctx, "b", anyRevision))
		f.wantJobs()
		_, err = f.Target(ctx, made.ID)
		wantProblem(t, err, problem.KindNotFound, "")
		wantProblem(t, f.DeleteTarget(ctx, "b", anyRevision), problem.KindNotFound, "")
		if got := strings.Count(f.audited(), "target."); got != 5 {
			t.Errorf("%d changes were audited:\n%s", got, f.audited())
		}
	})
}

func TestWhatANewTargetSaysIsCheckedAllAtOnce(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		f.target("taken", f.agent, "")
		f.revoke(f.other)
		f.exec("UPDATE certificate SET archived_at = $1 WHERE name = 'mail'", f.clock.Now())
		good := deployment.TargetSpec{Name: "a", Agent: "web-1", Kind: "file", Settings: json.RawMessage(plainSettings)}
		for name, test := range map[string]struct {
			spoil func(*deployment.TargetSpec)
			kind  problem.Kind
			field string
			parts []string
		}{
			"name":          {func(s *deployment.TargetSpec) { s.Name = "A B" }, problem.KindInvalid, "name", nil},
			"taken name":    {func(s *deployment.TargetSpec) { s.Name = "taken" }, problem.KindConflict, "", []string{"there is a target"}},
			"agent":         {func(s *deployment.TargetSpec) { s.Agent = "web-9" }, problem.KindInvalid, "agent", []string{"web-9"}},
			"revoked agent": {func(s *deployment.TargetSpec) { s.Agent = "web-2" }, problem.KindInvalid, "agent", []string{"revoked"}},
			"kind":          {func(s *deployment.TargetSpec) { s.Kind = "iis" }, problem.KindInvalid, "kind", []string{"exec, file, haproxy, kubernetes, nginx"}},
			"settings":      {func(s *deployment.TargetSpec) { s.Settings = json.RawMessage(`{"key":"relative"}`) }, problem.KindInvalid, "settings.key", nil},
			"no settings":   {func(s *deployment.TargetSpec) { s.Settings = nil }, problem.KindInvalid, "settings.key", nil},
			"certificate":   {func(s *deployment.TargetSpec) { s.Certificate = "none" }, problem.KindInvalid, "certificate", nil},
			"archived":      {func(s *deployment.TargetSpec) { s.Certificate = "mail" }, problem.KindInvalid, "certificate", []string{"archived"}},
			"three": {
				func(s *deployment.TargetSpec) { s.Name, s.Agent, s.Settings = "", "", json.RawMessage(`{"x":1}`) },
				problem.KindInvalid, "name",
				[]string{"agent:", "settings.x:"},
			},
		} {
			spec := good
			test.spoil(&spec)
			_, err := f.CreateTarget(t.Context(), spec)
			t.Run(name, func(t *testing.T) { wantProblem(t, err, test.kind, test.field, test.parts...) })
		}
		if _, err := f.CreateTarget(t.Context(), good); err != nil {
			t.Error(err)
		}
	})
}

func TestWhatCannotChangeOfATargetIsRefused(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		f.target("a", f.agent, "www")
		f.target("b", f.agent, "")
		for field, change := range map[string]deployment.TargetChange{
			"agent":       {Agent: text("web-2")},
			"kind":        {Kind: text("nginx")},
			"name":        {Name: text("")},
			"certificate": {Certificate: text("none")},
			"settings":    {Settings: json.RawMessage(`[]`)},
		} {
			_, err := f.UpdateTarget(t.Context(), "a", anyRevision, change)
			wantProblem(t, err, problem.KindInvalid, field)
		}
		_, err := f.UpdateTarget(t.Context(), "a", anyRevision, deployment.TargetChange{Name: text("b")})
		wantProblem(t, err, problem.KindConflict, "")
		stale := func(int) error { return problem.Stale("changed") }
		_, err = f.UpdateTarget(t.Context(), "a", stale, deployment.TargetChange{Name: text("c")})
		wantProblem(t, err, problem.KindStale, "")
		wantProblem(t, f.DeleteTarget(t.Context(), "a", stale), problem.KindStale, "")
		f.revoke(f.agent)
		_, err = f.UpdateTarget(t.Context(), "b", anyRevision, deployment.TargetChange{Certificate: text("www")})
		wantProblem(t, err, problem.KindConflict, "", "revoked")
		_, err = f.UpdateTarget(t.Context(), "a", anyRevision, deployment.TargetChange{Certificate: text("")})
		f.must(err) // it may still be released
	})
}

func TestSecretSettingsAreSealedAndNeverShown(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		made, err := f.CreateTarget(ctx, deployment.TargetSpec{
			Name: "a", Agent: "web-1", Kind: "exec", Settings: json.RawMessage(secretSettings), Certificate: "www",
		})
		f.must(err)
		type stored struct {
			Settings string `db:"settings"`
			Sealed   []byte `db:"sealed_settings"`
		}
		row, err := db.One[stored](ctx, f.db.Read(), "SELECT settings, sealed_settings FROM target WHERE id = $1", made.ID)
		f.must(err)
		if strings.Contains(row.Settings+string(row.Sealed), "hunter2") || len(row.Sealed) == 0 || !strings.Contains(row.Settings, "/etc/tls/www.pem") {
			t.Errorf("stored %s and %q", row.Settings, row.Sealed)
		}
		if _, err := f.box.Open("target/"+made.ID, row.Sealed); err != nil {
			t.Errorf("the sealed part does not open: %v", err)
		}
		if _, err := f.box.Open("target/tgt_other", row.Sealed); err == nil {
			t.Error("the sealed part opens for another target")
		}
		changed := strings.Replace(strings.Replace(secretSettings, "hunter2", targets.Masked, 1), "/bin/true", "/bin/false", 1)
		_, err = f.UpdateTarget(ctx, "a", anyRevision, deployment.TargetChange{Settings: json.RawMessage(changed)})
		f.must(err)
		v := f.issue(f.cert, f.agent)
		f.start(v)
		if task := f.deliver(f.only(deployment.Pending)); !strings.Contains(string(task.Settings), "hunter2") || !strings.Contains(string(task.Settings), "/bin/false") {
			t.Errorf("the agent gets %s", task.Settings)
		}
		f.must(f.DeleteTarget(ctx, "a", anyRevision))
		if log := f.audited(); strings.Contains(log, "hunter2") || strings.Count(log, targets.Masked) != 4 {
			t.Errorf("audited:\n%s", log)
		}
		_, err = f.CreateTarget(ctx, deployment.TargetSpec{Name: "b", Agent: "web-1", Kind: "exec", Settings: json.RawMessage(changed)})
		wantProblem(t, err, problem.KindInvalid, "settings.secret_env")
	})
}

func TestOtherSettingsAreDeployed(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		f.target("a", f.agent, "www")
		n := 0
		change := func() {
			n++
			settings := strings.ReplaceAll(plainSettings, "/etc/tls", "/etc/tls"+strings.Repeat("x", n))
			_, err := f.UpdateTarget(t.Context(), "a", anyRevision, deployment.TargetChange{Settings: json.RawMessage(settings)})
			f.must(err)
		}
		change()
		if all := f.all(deployment.Filter{}); len(all) != 0 {
			t.Fatalf("without a version %+v were started", all)
		}
		v := f.deployed(f.cert, f.agent)
		f.jobs()
		change()
		d := f.only(deployment.Pending)
		if d.Reason != deployment.TargetChanged || d.VersionID != v.ID || d.OrderID != "" {
			t.Errorf("started %+v", d)
		}
		change()
		if same := f.only(deployment.Pending); same.ID != d.ID {
			t.Error("what only waits was started anew")
		}
		f.deliver(d)
		change()
		fresh := f.only(deployment.Pending)
		f.expect(d.ID, deployment.Cancelled)
		f.deliver(fresh)
		f.report(fresh, failure(v, true))
		if waiting := f.expect(fresh.ID, deployment.Pending); waiting.NextTryAt == nil {
			t.Fatal("it does not wait")
		}
		change()
		if hastened := f.expect(fresh.ID, deployment.Pending); hastened.NextTryAt != nil || !f.tasks()[0].NotBefore.Equal(f.clock.Now()) {
			t.Errorf("after a change of the settings it still waits: %+v", hastened)
		}
		f.wantJobs()
	})
}

func TestOtherSettingsRestartTheDeploymentOfAnOrder(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		f.target("a", f.agent, "www")
		v := f.issue(f.cert, f.agent)
		f.start(v)
		running := f.only(deployment.Pending)
		f.deliver(running)
		f.jobs()
		settings := strings.ReplaceAll(plainSettings, "/etc/tls", "/etc/ssl")
		_, err := f.UpdateTarget(t.Context(), "a", anyRevision, deployment.TargetChange{Settings: json.RawMessage(settings)})
		f.must(err)
		fresh := f.only(deployment.Pending)
		if fresh.OrderID != v.OrderID {
			t.Errorf("the new deployment is %+v", fresh)
		}
		f.wantJobs()
		f.deliver(fresh)
		f.report(fresh, success(v))
		f.wantJobs(settled(v))
		if open, failed, reason := f.outcome(v.OrderID); open+failed != 0 {
			t.Errorf("%d open, %d failed, %s", open, failed, reason)
		}
	})
}

func TestAssignMakesExactlyTheseTheTargets(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		a, b := f.target("a", f.agent, "www"), f.target("b", f.agent, "")
		f.target("c", f.other, "www")
		f.target("taken", f.agent, "mail")
		v := f.deployed(f.cert, f.agent)
		f.locked(f.cert, func(tx *db.Tx) error {
			_, err := f.Redeploy(t.Context(), tx, f.cert)
			return err
		})
		f.jobs()
		assign := func(refs ...string) error {
			return f.db.InTx(t.Context(), func(tx *db.Tx) error { return f.Assign(t.Context(), tx, f.cert, refs) })
		}
		wantProblem(t, assign("a", "none"), problem.KindInvalid, "targets[1]")
		wantProblem(t, assign("b", "a", "taken"), problem.KindConflict, "targets[2]", `has the certificate "mail"`)
		f.must(assign("b", "c", b.ID))
		found, _, err := f.Targets(t.Context(), deployment.TargetFilter{Certificate: "www"}, db.Page{Sort: "name"})
		if err != nil || len(found) != 2 || found[0].Name != "b" || found[1].Name != "c" || found[1].Revision != 1 {
			t.Errorf("%+v, %v", found, err)
		}
		if left := f.all(deployment.Filter{Target: a.ID}); left[len(left)-1].State != deployment.Cancelled || left[len(left)-1].VersionID != v.ID {
			t.Errorf("what was open for a target that left is %+v", left)
		}
		f.wantJobs() // the caller reconciles
		f.must(assign())
		if found, _, _ = f.Targets(t.Context(), deployment.TargetFilter{Certificate: f.cert}, db.Page{}); len(found) != 0 {
			t.Errorf("%+v are left", found)
		}
		f.revoke(f.agent)
		wantProblem(t, assign("a"), problem.KindConflict, "targets[0]", "revoked")
	})
}

func TestATargetThatLeavesDoesNotHoldUpTheOrder(t *testing.T) {
	for what, leave := range map[string]func(f *fixture) error{
		"released": func(f *fixture) error {
			_, err := f.UpdateTarget(f.t.Context(), "b", anyRevision, deployment.TargetChange{Certificate: text("")})
			return err
		},
		"deleted": func(f *fixture) error { return f.DeleteTarget(f.t.Context(), "b", anyRevision) },
	} {
		t.Run(what, func(t *testing.T) {
			eachEngine(t, func(t *testing.T, f *fixture) {
				f.target("a", f.agent, "www")
				f.target("b", f.agent, "www")
				v := f.issue(f.cert, f.agent)
				f.start(v)
				open := f.all(deployment.Filter{Order: v.OrderID})
				f.deliver(open[1])
				f.deliver(open[0])
				f.report(open[0], success(v))
				f.jobs()
				f.must(leave(f))
				f.wantJobs(settled(v), assigned(f.cert))
				if open, failed, _ := f.outcome(v.OrderID); open+failed != 0 {
					t.Errorf("%d open, %d failed", open, failed)
				}
				if len(f.tasks()) != 0 {
					t.Error("tasks are left")
				}
				f.wantLine(f.cert, "target.released", "Target b")
			})
		})
	}
}

func TestTargetsAreFiltered(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		f.target("a", f.agent, "www")
		f.target("b", f.other, "")
		for _, filter := range []deployment.TargetFilter{{Agent: "web-1"}, {Agent: f.agent}, {Certificate: "www"}, {Certificate: f.cert, Kind: "file"}} {
			if found, _, err := f.Targets(t.Context(), filter, db.Page{}); err != nil || len(found) != 1 || found[0].Name != "a" {
				t.Errorf("%+v: %+v, %v", filter, found, err)
			}
		}
		if found, _, err := f.Targets(t.Context(), deployment.TargetFilter{Kind: "nginx"}, db.Page{}); err != nil || len(found) != 0 {
			t.Errorf("%+v, %v", found, err)
		}
	})
}
