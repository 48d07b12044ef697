package deployment_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/audit"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/deployment"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/profile"
	"github.com/certctl-io/certctl/internal/queue"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/targets"
	"github.com/certctl-io/certctl/internal/targets/kinds"
	"github.com/certctl-io/certctl/internal/targets/targetstest"
	"github.com/certctl-io/certctl/internal/testkit"
)

// fixture is a database with a service on it, two agents and two certificates.
type fixture struct {
	*deployment.Service
	t        *testing.T
	db       *db.DB
	box      *secret.Box
	clock    *testkit.Clock
	ca       *targetstest.CA
	agent    string // web-1
	other    string // web-2
	cert     string // www
	mail     string // mail
	profile  string
	versions inventory.Store
}

func eachEngine(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Helper()
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) { test(t, newFixture(t, d)) })
}

func newFixture(t *testing.T, d *db.DB) *fixture {
	t.Helper()
	f := &fixture{t: t, db: d, clock: testkit.NewClock(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)), ca: targetstest.NewCA(t)}
	inserter, err := queue.NewInserter(d)
	f.must(err)
	f.box, err = secret.NewBox(make([]byte, secret.KeySize))
	f.must(err)
	f.Service, err = deployment.New(deployment.Config{
		DB: d, Box: f.box, Kinds: kinds.All(), Tasks: tasks{f.clock.Now}, Queue: inserter,
		Now: f.clock.Now, Jitter: func() float64 { return 0.5 }, Logger: slog.New(slog.DiscardHandler),
	})
	f.must(err)
	profiles := profile.New(d, f.clock.Now)
	f.tx(func(tx *db.Tx) error { return profiles.EnsureDefaults(t.Context(), tx) })
	found, err := profiles.Get(t.Context(), profile.Default)
	f.must(err)
	f.profile = found.ID
	f.exec("INSERT INTO issuer (id, name, type, revision, settings, enabled, created_at, updated_at) VALUES ('iss_1', 'local', 'local', 1, '{}', TRUE, $1, $1)", f.clock.Now())
	f.agent, f.other = f.newAgent("web-1"), f.newAgent("web-2")
	f.cert, f.mail = f.newCertificate("www"), f.newCertificate("mail")
	return f
}

// tasks keeps tasks in their table, as agents' tasks are.
type tasks struct{ now func() time.Time }

func (k tasks) Deploy(ctx context.Context, tx *db.Tx, agentID, deploymentID, targetID string, notBefore time.Time) error {
	if notBefore.IsZero() {
		notBefore = k.now()
	}
	_, err := db.Exec(ctx, tx, `INSERT INTO task (id, agent_id, kind, subject_id, lane, deliveries, not_before, created_at)
		VALUES ($1, $2, 'deploy', $3, $4, 0, $5, $6) ON CONFLICT DO NOTHING`, id.New("tsk"), agentID, deploymentID, targetID, notBefore, k.now())
	return err
}

func (tasks) FinishDeploy(ctx context.Context, tx *db.Tx, deploymentID string) error {
	_, err := db.Exec(ctx, tx, "DELETE FROM task WHERE subject_id = $1", deploymentID)
	return err
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) tx(do func(tx *db.Tx) error) {
	f.t.Helper()
	f.must(f.db.InTx(f.t.Context(), do))
}

func (f *fixture) exec(statement string, args ...any) {
	f.t.Helper()
	f.tx(func(tx *db.Tx) error {
		_, err := db.Exec(f.t.Context(), tx, statement, args...)
		return err
	})
}

func (f *fixture) newAgent(name string) string {
	f.t.Helper()
	agentID := id.New("agt")
	f.exec(`INSERT INTO agent (id, name, revision, public_key, labels, version, os, token_id, created_at, updated_at)
		VALUES ($1, $2, 1, $3, '{}', '', '', '', $4, $4)`, agentID, name, []byte(name), f.clock.Now())
	return agentID
}

func (f *fixture) revoke(agentID string) {
	f.t.Helper()
	f.exec("UPDATE agent SET revoked_at = $1 WHERE id = $2", f.clock.Now(), agentID)
}

func (f *fixture) newCertificate(name string) string {
	f.t.Helper()
	certificateID := id.New("crt")
	f.exec(`INSERT INTO certificate (id, name, revision, common_name, names, key_type, lifetime_seconds, profile_id, issuer_id, owner, tags,
			renewal, created_at, updated_at)
		VALUES ($1, $2, 1, '', '{}', 'ecdsa-p256', 3600, $3, 'iss_1', '', '{}', '{}', $4, $4)`, certificateID, name, f.profile, f.clock.Now())
	return certificateID
}

// issue makes an order in the state issued and its version.
func (f *fixture) issue(certificateID, agentID string) inventory.Version {
	f.t.Helper()
	now := f.clock.Now()
	orderID := id.New("ord")
	f.exec(`INSERT INTO cert_order (id, certificate_id, agent_id, reason, state, state_reason, attempts, spec, created_at, updated_at)
		VALUES ($1, $2, $3, 'requested', 'issued', '', 1, '{}', $4, $4)`, orderID, certificateID, agentID, now)
	bundle := f.ca.Issue(f.t, pki.ECDSAP256, "www.example.com")
	fingerprint := targetstest.Fingerprint(bundle)
	v := inventory.Version{
		ID: id.New("ver"), CertificateID: certificateID, OrderID: orderID, AgentID: agentID, IssuerID: "iss_1", Serial: fingerprint,
		Fingerprint: fingerprint, KeyType: pki.ECDSAP256, KeyHash: fingerprint, Chain: bundle.Chain,
		NotBefore: now, NotAfter: now.Add(time.Hour), RenewAt: now.Add(time.Hour), ExpiringAt: now.Add(time.Hour), CreatedAt: now,
	}
	f.tx(func(tx *db.Tx) error { return f.versions.InsertVersion(f.t.Context(), tx, v) })
	return v
}

// settleOrder does what issuance does when an order has ended well.
func (f *fixture) settleOrder(v inventory.Version) {
	f.t.Helper()
	f.tx(func(tx *db.Tx) error { return f.versions.Activate(f.t.Context(), tx, v, f.clock.Now(), nil) })
	f.orderState(v, "done")
}

func (f *fixture) orderState(v inventory.Version, state string) {
	f.t.Helper()
	f.exec("UPDATE cert_order SET state = $1 WHERE id = $2", state, v.OrderID)
}

// start deploys the version of an order, as issuance does.
func (f *fixture) start(v inventory.Version) int {
	f.t.Helper()
	var started int
	f.locked(v.CertificateID, func(tx *db.Tx) (err error) {
		started, err = f.Start(f.t.Context(), tx, v)
		return err
	})
	return started
}

func (f *fixture) locked(certificateID string, do func(tx *db.Tx) error) {
	f.t.Helper()
	f.tx(func(tx *db.Tx) error {
		if _, err := f.versions.Lock(f.t.Context(), tx, certificateID); err != nil {
			return err
		}
		return do(tx)
	})
}

const plainSettings = `{"fullchain":"/etc/tls/www.pem","key":"/etc/tls/www.key"}`

// target makes a target of the kind file.
func (f *fixture) target(name, agentID, certificate string) deployment.Target {
	f.t.Helper()
	made, err := f.CreateTarget(f.t.Context(), deployment.TargetSpec{
		Name: name, Agent: agentID, Kind: "file", Settings: json.RawMessage(plainSettings), Certificate: certificate,
	})
	f.must(err)
	return made
}

// deployed makes the active version of a holder, deployed to all its targets.
func (f *fixture) deployed(certificateID, agentID string) inventory.Version {
	f.t.Helper()
	v := f.issue(certificateID, agentID)
	f.start(v)
	for _, d := range f.all(deployment.Filter{Order: v.OrderID}) {
		f.deliver(d)
		f.report(d, success(v))
	}
	f.settleOrder(v)
	return v
}

func (f *fixture) all(filter deployment.Filter) []deployment.Deployment {
	f.t.Helper()
	found, _, err := f.Deployments(f.t.Context(), filter, db.Page{Sort: "id"})
	f.must(err)
	return found
}

// only gives the one deployment there is in a state.
func (f *fixture) only(state deployment.State) deployment.Deployment {
	f.t.Helper()
	found := f.all(deployment.Filter{State: state})
	if len(found) != 1 {
		f.t.Fatalf("%d deployments are %s: %+v", len(found), state, f.all(deployment.Filter{}))
	}
	return found[0]
}

// deliver builds the task of a deployment as its agent gets it.
func (f *fixture) deliver(d deployment.Deployment) *agentapi.DeployTask {
	f.t.Helper()
	payload, ok, err := f.Build(f.t.Context(), d.AgentID, d.ID)
	f.must(err)
	if !ok {
		f.t.Fatalf("deployment %s is not delivered", d.ID)
	}
	return payload.(*agentapi.DeployTask)
}

func (f *fixture) report(d deployment.Deployment, r targets.Report) {
	f.t.Helper()
	f.clock.Advance(time.Second)
	r.Started, r.Finished = f.clock.Now(), f.clock.Now()
	f.must(f.Report(f.t.Context(), d.AgentID, d.ID, r))
}

func success(v inventory.Version) targets.Report {
	return targets.Report{
		Outcome: targets.OutcomeDeployed, Reason: "it is served", Fingerprint: v.Fingerprint, Served: v.Fingerprint,
		Steps: []targets.Step{{Name: "write", OK: true, DurationMS: 7}},
	}
}

func failure(v inventory.Version, retryable bool) targets.Report {
	return targets.Report{
		Outcome: targets.OutcomeRolledBack, Reason: "nginx said no.", Retryable: retryable, Fingerprint: v.Fingerprint,
		Steps: []targets.Step{{Name: "write", OK: true, DurationMS: 7}, {Name: "validate", DurationMS: 1500, Output: "emerg: bad"}},
	}
}

// expect checks the state of a deployment.
func (f *fixture) expect(deploymentID string, want deployment.State) deployment.Deployment {
	f.t.Helper()
	d, err := f.Deployment(f.t.Context(), deploymentID)
	f.must(err)
	if d.State != want {
		f.t.Fatalf("deployment is %s (%s), not %s", d.State, d.StateReason, want)
	}
	return d
}

type taskRow struct {
	AgentID   string    `db:"agent_id"`
	SubjectID string    `db:"subject_id"`
	Lane      string    `db:"lane"`
	NotBefore time.Time `db:"not_before"`
}

func (f *fixture) tasks() []taskRow {
	f.t.Helper()
	found, err := db.All[taskRow](f.t.Context(), f.db.Read(), "SELECT agent_id, subject_id, lane, not_before FROM task ORDER BY id")
	f.must(err)
	return found
}

// jobs takes the jobs that were enqueued since it was called last: their kinds
// and whom they are about.
func (f *fixture) jobs() []string {
	f.t.Helper()
	args := "args::text"
	if f.db.Engine() == db.SQLite {
		args = "json(args)"
	}
	type job struct {
		Kind  string `db:"kind"`
		Queue string `db:"queue"`
		Args  string `db:"args"`
	}
	found, err := db.All[job](f.t.Context(), f.db.Read(), "SELECT kind, queue, "+args+" AS args FROM river_job ORDER BY id")
	f.must(err)
	f.exec("DELETE FROM river_job")
	var jobs []string
	for _, j := range found {
		var about map[string]string
		f.must(json.Unmarshal([]byte(j.Args), &about))
		if j.Queue != queue.Issuance {
			f.t.Errorf("%s is in the queue %s", j.Kind, j.Queue)
		}
		jobs = append(jobs, fmt.Sprint(j.Kind, " ", about["order_id"], about["certificate_id"]))
	}
	return jobs
}

func settled(v inventory.Version) string { return "deployment_settled " + v.OrderID }

func assigned(certificateID string) string { return "deployment_assigned " + certificateID }

func (f *fixture) wantJobs(want ...string) {
	f.t.Helper()
	if got := f.jobs(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		f.t.Errorf("jobs:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// timeline gives the lines about a certificate, oldest first.
func (f *fixture) timeline(certificateID string) []inventory.Line {
	f.t.Helper()
	lines, _, err := f.versions.Timeline(f.t.Context(), f.db.Read(), certificateID, db.Page{Sort: "id"})
	f.must(err)
	return lines
}

// wantLine checks the newest line of a timeline.
func (f *fixture) wantLine(certificateID, kind string, parts ...string) inventory.Line {
	f.t.Helper()
	lines := f.timeline(certificateID)
	last := lines[len(lines)-1]
	for _, part := range parts {
		if last.Kind != kind || !strings.Contains(last.Message+string(last.Detail), part) {
			f.t.Errorf("the timeline ends with %s %q %s; want %s with %q", last.Kind, last.Message, last.Detail, kind, part)
		}
	}
	return last
}

func (f *fixture) outcome(orderID string) (open, failed int, reason string) {
	f.t.Helper()
	f.tx(func(tx *db.Tx) (err error) {
		open, failed, reason, err = f.Outcome(f.t.Context(), tx, orderID)
		return err
	})
	return open, failed, reason
}

func anyRevision(int) error { return nil }

func wantProblem(t *testing.T, err error, kind problem.Kind, field string, parts ...string) {
	t.Helper()
	found, ok := problem.As(err)
	if !ok || found.Kind != kind || found.Field != field {
		t.Fatalf("want a %s problem of %q, got %v", kind, field, err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

// audited gives the text of all audit events.
func (f *fixture) audited() string {
	f.t.Helper()
	events, err := db.All[audit.Event](f.t.Context(), f.db.Read(), "SELECT action, before, after FROM audit_event ORDER BY id")
	f.must(err)
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "%s %s %s\n", e.Action, e.Before.V, e.After.V)
	}
	return b.String()
}
