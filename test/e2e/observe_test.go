package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/test/lab"
)

func TestMetricsTellWhatWasDone(t *testing.T) {
	t.Parallel()
	s, api := startServer(t, db.SQLite)
	startAgent(t, s, "web-1")
	enrol(t, s, api, "asleep") // it never asks for work
	dir := t.TempDir()
	files(t, api, "web-1", dir, "one", "two", "three")
	files(t, api, "asleep", dir, "four")
	createAll(t, []string{"one", "two", "three", "four"}, api)
	awaitActive(t, api, 3)
	key, err := api.CreateAPIKey(t.Context(), client.APIKeySpec{Name: "prometheus", Role: "metrics"})
	if err != nil {
		t.Fatal(err)
	}
	b := browser(t, s)
	status, text := send(t, b, http.MethodGet, s.URL+"/api/v1/metrics/prometheus", key.Key.Reveal(), nil)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	samples := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		name, value, found := strings.Cut(strings.TrimSpace(line), " ")
		if !found || strings.HasPrefix(line, "#") {
			continue
		}
		if samples[name], err = strconv.ParseFloat(value, 64); err != nil {
			t.Errorf("%q: %v", line, err)
		}
	}
	for name, want := range map[string]float64{
		`certctl_orders{state="pending"}`:                                                                     1,
		`certctl_orders{state="issued"}`:                                                                      0,
		`certctl_orders_finished_total{outcome="done"}`:                                                       3,
		`certctl_deployments{state="pending"}`:                                                                0,
		`certctl_agents{status="never_seen"}`:                                                                 1,
		`certctl_agents{status="online"}`:                                                                     1,
		`certctl_http_requests_total{code="201",method="POST",route="/api/v1/certificates"}`:                  4,
		`certctl_http_requests_total{code="204",method="POST",route="/api/v1/agent/orders/{id}/csr"}`:         3,
		`certctl_http_requests_total{code="204",method="POST",route="/api/v1/agent/deployments/{id}/result"}`: 3,
	} {
		if got, found := samples[name]; !found || got != want {
			t.Errorf("%s is %v (there: %v), want %v", name, got, found, want)
		}
	}
	jobs := 0
	for name := range samples {
		if strings.HasPrefix(name, `certctl_jobs{state=`) {
			jobs++
		}
	}
	if jobs == 0 || samples["go_goroutines"] < 1 || samples["process_resident_memory_bytes"] < 1 {
		t.Errorf("%d states of jobs, %v goroutines", jobs, samples["go_goroutines"])
	}
	if t.Failed() {
		t.Logf("%s", text)
	}
}

// trail is the audit events of a server as they grow.
type trail struct {
	t    *testing.T
	api  *client.Client // of somebody else than who makes the changes
	seen map[string]bool
}

// news gives the events since the last look.
func (a *trail) news() []client.AuditEvent {
	a.t.Helper()
	var found []client.AuditEvent
	for e, err := range a.api.AuditEvents(a.t.Context(), client.AuditFilter{}) {
		if err != nil {
			a.t.Fatal(err)
		}
		if !a.seen[e.ID] {
			a.seen[e.ID] = true
			found = append(found, e)
		}
	}
	return found
}

// deed is a change that somebody makes, and what its audit event must hold.
type deed struct {
	action        string
	before, after string // a word that stands there; "" when there must be none
	do            func() error
}

func TestEachChangedObjectLeavesOneAuditEventAndNoSecret(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine db.Engine) {
		dataDir := filepath.Join(t.TempDir(), "data")
		options, env := db.Options{DataDir: dataDir}, []string{"CERTCTL_DATA_DIR=" + dataDir}
		if engine == db.Postgres {
			own := settings(t, engine)
			options.URL = strings.TrimPrefix(own[0], "CERTCTL_DATABASE_URL=")
			env = append(env, own...)
		}
		s, admin := startServer(t, engine, env...)
		startAgent(t, s, "web-1")
		enrol(t, s, admin, "asleep") // it never asks for work
		key, err := admin.CreateAPIKey(t.Context(), client.APIKeySpec{Name: "ci", Role: "admin"})
		if err != nil {
			t.Fatal(err)
		}
		acting := *s
		acting.APIKey = key.Key
		ci, err := acting.Client()
		if err != nil {
			t.Fatal(err)
		}
		secrets := []secret.String{s.APIKey, key.Key}
		audited := &trail{t: t, api: admin, seen: map[string]bool{}}
		audited.news()

		for _, d := range deeds(t, ci, &secrets) {
			if err := d.do(); err != nil {
				t.Fatalf("%s: %v", d.action, err)
			}
			checkDeed(t, d, key, audited.news())
		}
		readEverything(t, s, key.Key)
		if events := audited.news(); len(events) != 0 {
			t.Errorf("reads left %d audit events, such as %+v", len(events), events[0])
		}
		wantNoSecret(t, options, s, secrets)
	})
}

func checkDeed(t *testing.T, d deed, key client.APIKey, events []client.AuditEvent) {
	t.Helper()
	if assigns := d.action == "certificate.create" || d.action == "certificate.delete"; assigns {
		// Its target is another object that changes, and has an event of its own.
		along := slices.IndexFunc(events, func(e client.AuditEvent) bool { return e.Action == "target.update" })
		if along < 0 || events[along].RequestID != events[0].RequestID {
			t.Errorf("%s left no event of its target", d.action)
			return
		}
		events = slices.Delete(events, along, along+1)
	}
	if len(events) != 1 {
		t.Errorf("%s left %d audit events: %+v", d.action, len(events), events)
		return
	}
	e := events[0]
	want := client.Actor{Kind: "user", ID: key.ID, Name: key.Name, Address: "127.0.0.1"}
	if e.Action != d.action || e.Actor != want || e.ObjectID == "" || !strings.HasPrefix(e.RequestID, "req_") || time.Since(e.At) > time.Minute {
		t.Errorf("%s left %+v", d.action, e)
	}
	for _, side := range []struct {
		name, want string
		got        json.RawMessage
	}{{"before", d.before, e.Before}, {"after", d.after, e.After}} {
		none := len(side.got) == 0 || string(side.got) == "null"
		if none != (side.want == "") || !bytes.Contains(side.got, []byte(side.want)) {
			t.Errorf("%s: %s is %s, want %q in it", d.action, side.name, side.got, side.want)
		}
	}
}

// deeds is a tour of the changes that a person can make, in an order in which
// each has something to change.
func deeds(t *testing.T, api *client.Client, secrets *[]secret.String) []deed {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	var token client.EnrolmentToken
	var viewer client.APIKey
	var waiting string // an order that nobody works on
	settings := func(password string) map[string]any {
		*secrets = append(*secrets, secret.New(password))
		return map[string]any{
			"fullchain": filepath.Join(dir, "www.pem"), "key": filepath.Join(dir, "www.key"),
			"pkcs12": map[string]any{"path": filepath.Join(dir, "www.p12"), "password": password},
		}
	}
	return []deed{
		{"enrolment_token.create", "", "ci-token", func() (err error) {
			token, err = api.CreateEnrolmentToken(ctx, client.EnrolmentTokenSpec{Description: "ci-token"})
			*secrets = append(*secrets, token.Token)
			return err
		}},
		{"enrolment_token.revoke", "active", "revoked", func() error { return api.RevokeEnrolmentToken(ctx, token.ID) }},
		{"api_key.create", "", "viewer", func() (err error) {
			viewer, err = api.CreateAPIKey(ctx, client.APIKeySpec{Name: "dashboard", Role: "viewer"})
			*secrets = append(*secrets, viewer.Key)
			return err
		}},
		{"api_key.revoke", "active", "revoked", func() error { return api.RevokeAPIKey(ctx, viewer.ID) }},
		{"profile.create", "", "short", func() error {
			_, err := api.CreateProfile(ctx, client.Patch{
				"name": "short", "key_types": []string{"ecdsa-p256"}, "max_lifetime": "7d", "names": map[string]any{"dns": []string{"**.example.test"}},
			})
			return err
		}},
		{"profile.update", "short", "for tests", func() error {
			_, err := api.UpdateProfile(ctx, "short", 0, client.Patch{"description": "for tests"})
			return err
		}},
		{"profile.delete", "for tests", "", func() error { return api.DeleteProfile(ctx, "short") }},
		{"agent.update", "web-1", `"rack"`, func() error {
			_, err := api.UpdateAgent(ctx, "web-1", 0, client.Patch{"labels": map[string]string{"rack": "7"}})
			return err
		}},
		{"target.create", "", "www.p12", func() error {
			_, err := api.CreateTarget(ctx, client.TargetSpec{Name: "www", Agent: "web-1", Kind: "file", Settings: settings("first-password-of-www")})
			return err
		}},
		{"target.update", "www.p12", "www.p12", func() error {
			_, err := api.UpdateTarget(ctx, "www", 0, client.Patch{"settings": settings("second-password-of-www")})
			return err
		}},
		{"certificate.create", "", "www.example.test", func() error {
			_, err := api.CreateCertificate(ctx, client.CertificateSpec{Name: "www", Names: []string{"www.example.test"}, Targets: []string{"www"}})
			awaitActive(t, api, 1)
			return err
		}},
		{"certificate.update", "www.example.test", "platform", func() error {
			_, err := api.UpdateCertificate(ctx, "www", 0, client.Patch{"owner": "platform"})
			return err
		}},
		{"certificate.deploy", "", "dep_", func() error {
			_, err := api.Deploy(ctx, "www")
			return err
		}},
		{"certificate.renew", "", "ord_", func() error {
			orders, err := api.Renew(ctx, "www")
			if err == nil {
				awaitOrder(t, api, orders[0], "done")
			}
			return err
		}},
		{"target.create", "", "idle", func() error {
			_, err := api.CreateTarget(ctx, client.TargetSpec{Name: "idle", Agent: "asleep", Kind: "file", Settings: map[string]any{
				"fullchain": filepath.Join(dir, "idle.pem"), "key": filepath.Join(dir, "idle.key"),
			}})
			return err
		}},
		{"certificate.create", "", "idle.example.test", func() error {
			_, err := api.CreateCertificate(ctx, client.CertificateSpec{Name: "idle", Names: []string{"idle.example.test"}, Targets: []string{"idle"}})
			for o, err := range api.Orders(ctx, client.OrderFilter{Certificate: "idle"}) {
				waiting = o.ID
				return err
			}
			return err
		}},
		{"order.cancel", "pending", "cancelled", func() error {
			_, err := api.CancelOrder(ctx, waiting)
			return err
		}},
		{"certificate.revoke", "", "keyCompromise", func() error {
			_, err := api.Revoke(ctx, "www", "keyCompromise", false)
			return err
		}},
		{"certificate.delete", "idle.example.test", "", func() error { return api.ArchiveCertificate(ctx, "idle") }},
		{"target.delete", "idle", "", func() error { return api.DeleteTarget(ctx, "idle") }},
		{"agent.revoke", "asleep", "revoked", func() error {
			_, err := api.RevokeAgent(ctx, "asleep")
			return err
		}},
	}
}

func awaitOrder(t *testing.T, api *client.Client, id, want string) {
	t.Helper()
	await(t, "order "+id+" to be "+want, func(ctx context.Context) error {
		o, err := api.Order(ctx, id)
		if err == nil && o.State != want {
			return fmt.Errorf("it is %s", o.State)
		}
		return err
	})
}

// readEverything calls every operation that only reads, with objects that are
// there where the path takes one by name.
func readEverything(t *testing.T, s *lab.Server, key secret.String) {
	t.Helper()
	b := browser(t, s)
	read := 0
	for _, op := range operations(t, b, s) {
		if op.method != http.MethodGet {
			continue
		}
		name := "www"
		switch {
		case strings.Contains(op.path, "/agents/"):
			name = "web-1"
		case strings.Contains(op.path, "/profiles/"):
			name = "default"
		case strings.Contains(op.path, "/issuers/"):
			name = "local"
		}
		status, text := send(t, b, http.MethodGet, s.URL+parameters.ReplaceAllString(op.path, name), key.Reveal(), nil)
		if status >= http.StatusInternalServerError {
			t.Errorf("%s: %d %s", op.ID, status, text)
		}
		if status == http.StatusOK {
			read++
		}
	}
	if read < 20 {
		t.Errorf("only %d reads succeeded", read)
	}
}

var parameters = regexp.MustCompile(`\{[^}]+\}`)

// wantNoSecret searches the audit events as they are stored, and the log.
func wantNoSecret(t *testing.T, options db.Options, s *lab.Server, secrets []secret.String) {
	t.Helper()
	d, err := db.Open(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	rows, err := db.All[string](t.Context(), d.Read(), `
		SELECT action || ' ' || actor_name || ' ' || COALESCE(CAST(before AS text), '') || COALESCE(CAST(after AS text), '') FROM audit_event`)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(s.Log)
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) < 20 || len(secrets) < 6 || len(log) == 0 {
		t.Fatalf("%d events, %d secrets and %d bytes of log prove nothing", len(rows), len(secrets), len(log))
	}
	for i, each := range secrets {
		for _, row := range rows {
			if strings.Contains(row, each.Reveal()) {
				t.Errorf("secret %d stands in the event %s", i, strings.ReplaceAll(row, each.Reveal(), "[the secret]"))
			}
		}
		if bytes.Contains(log, []byte(each.Reveal())) {
			t.Errorf("secret %d stands in the log", i)
		}
	}
}
