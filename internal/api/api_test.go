package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certctl-io/certctl/internal/access"
	"github.com/certctl-io/certctl/internal/api"
	"github.com/certctl-io/certctl/internal/audit"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/rest"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/telemetry"
	"github.com/certctl-io/certctl/internal/testkit"
)

// edge is an API with a few operations that show what the edge does.
type edge struct {
	t      *testing.T
	server *httptest.Server
	keys   *access.Service
	log    *bytes.Buffer
	made   atomic.Int64 // things that were made
	admin  string
}

type noAgents struct{}

func (noAgents) Authenticate(context.Context, string, func(string) error) (string, string, error) {
	return "", "", problem.Unauthenticated("no agents here")
}

type thing struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type makeInput struct {
	Body struct {
		Name string `json:"name" minLength:"1"`
	}
}

func newEdge(t *testing.T, d *db.DB, change func(*api.Config)) *edge {
	t.Helper()
	box, err := secret.NewBox(bytes.Repeat([]byte{7}, secret.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	e := &edge{t: t, keys: access.NewService(d, time.Now), log: &bytes.Buffer{}}
	log := slog.New(slog.NewJSONHandler(e.log, nil))
	config := api.Config{
		DB: d, Box: box, Keys: e.keys, Agents: noAgents{}, Metrics: telemetry.NewMetrics(log), Logger: log,
		Version: "test", ServerID: "srv_test", Ready: func(context.Context) error { return nil },
		BodyLimit: 1 << 10, Routes: []func(huma.API){func(h huma.API) { e.routes(h, d) }},
	}
	if change != nil {
		change(&config)
	}
	built, err := api.New(config)
	if err != nil {
		t.Fatal(err)
	}
	e.server = httptest.NewServer(built.Handler())
	t.Cleanup(e.server.Close)
	text, _, err := e.keys.EnsureAdmin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e.admin = text.Reveal()
	return e
}

func (e *edge) routes(h huma.API, d *db.DB) {
	rest.Register(h, rest.CertificatesWrite, huma.Operation{
		OperationID: "make-thing", Method: http.MethodPost, Path: "/api/v1/things", DefaultStatus: http.StatusCreated,
	}, func(ctx context.Context, in *makeInput) (*rest.Output[thing], error) {
		made := thing{ID: id.New("thg"), Name: in.Body.Name}
		err := d.InTx(ctx, func(tx *db.Tx) error {
			return audit.Append(ctx, tx, audit.Change{Action: "thing.create", ObjectKind: "thing", ObjectID: made.ID, After: made})
		})
		e.made.Add(1)
		return rest.NewOutput(made), err
	})
	rest.Register(h, rest.CertificatesRead, huma.Operation{
		OperationID: "fail", Method: http.MethodGet, Path: "/api/v1/fail/{how}",
	}, func(_ context.Context, in *struct {
		How string `path:"how"`
	},
	) (*struct{}, error) {
		switch in.How {
		case "panic":
			panic("boom with a secret")
		case "internal":
			return nil, errors.New("the secret detail")
		case "temporary":
			return nil, problem.Temporary(errors.New("the CA is away"), 7*time.Second)
		}
		return nil, problem.Join(problem.Invalid("names[0]", "is wrong").Hint("mend it"), problem.Invalid("key_type", "is wrong, too"))
	})
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) problem(t *testing.T) rest.Problem {
	t.Helper()
	var p rest.Problem
	if err := json.Unmarshal([]byte(a.body), &p); err != nil || a.header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("not a problem: %d %s %s", a.status, a.header.Get("Content-Type"), a.body)
	}
	return p
}

func (e *edge) call(method, path, key, body string, headers ...string) answer {
	e.t.Helper()
	request, err := http.NewRequestWithContext(e.t.Context(), method, e.server.URL+path, strings.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		e.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(text)}
}

func TestErrorsTellFieldProblemAndRemedy(t *testing.T) {
	t.Parallel()
	e := newEdge(t, testkit.NewDB(t, db.SQLite), nil)
	for _, test := range []struct {
		method, path, key, body string
		status                  int
		code                    problem.Kind
		contains                []string
	}{
		{"GET", "/api/v1/fail/invalid", e.admin, "", 422, problem.KindInvalid, []string{`"names[0]"`, "mend it", `"key_type"`, "req_"}},
		{"GET", "/api/v1/fail/temporary", e.admin, "", 503, problem.KindTemporary, []string{"the CA is away"}},
		{"GET", "/api/v1/fail/internal", e.admin, "", 500, problem.KindInternal, []string{"inside certctl"}},
		{"GET", "/api/v1/fail/panic", e.admin, "", 500, problem.KindInternal, []string{"inside certctl"}},
		{"POST", "/api/v1/things", e.admin, `{"name":""}`, 422, problem.KindInvalid, []string{`"field":"name"`}},
		{"POST", "/api/v1/things", e.admin, `{"nmae":"x"}`, 422, problem.KindInvalid, []string{"nmae"}},
		{"POST", "/api/v1/things", e.admin, `{"name":`, 400, problem.KindInvalid, []string{"JSON"}},
		{"POST", "/api/v1/things", e.admin, `{"name":"` + strings.Repeat("x", 2000) + `"}`, 413, problem.KindTooLarge, []string{"1024 bytes"}},
		{"POST", "/api/v1/things", "", `{}`, 401, problem.KindUnauthenticated, nil},
		{"POST", "/api/v1/things", "certctl_wrong", `{}`, 401, problem.KindUnauthenticated, []string{"not valid"}},
		{"GET", "/api/v1/nothing", e.admin, "", 404, problem.KindNotFound, []string{"/api/v1/docs"}},
		{"DELETE", "/api/v1/things", e.admin, "", 405, problem.KindInvalid, []string{"POST"}},
		{"POST", "/api/v1/things", e.admin, `{"name":"a\u0000b"}`, 422, problem.KindInvalid, []string{"NUL"}},
		{"GET", "/api/v1/fail/a%00b", e.admin, "", 422, problem.KindInvalid, []string{"NUL"}},
		{"GET", "/api/v1/fail/a%ffb", e.admin, "", 422, problem.KindInvalid, []string{"UTF-8"}},
		{"GET", "/api/v1/info?colour=%ff", e.admin, "", 422, problem.KindInvalid, []string{"UTF-8"}},
		{"POST", "/api/v1/things", e.admin, "{\"name\":\"a\xff\"}", 422, problem.KindInvalid, []string{"UTF-8"}},
		{"GET", "/api/v1/info?colour=%00", e.admin, "", 422, problem.KindInvalid, []string{"NUL"}},
		{"GET", "/api/v1/info?colour=red", e.admin, "", 422, problem.KindInvalid, []string{"colour"}},
	} {
		got := e.call(test.method, test.path, test.key, test.body)
		p := got.problem(t)
		if got.status != test.status || p.Code != test.code || p.Status != test.status {
			t.Errorf("%s %s: %d %s", test.method, test.path, got.status, got.body)
		}
		for _, text := range test.contains {
			if !strings.Contains(got.body, text) {
				t.Errorf("%s %s: %q is missing in %s", test.method, test.path, text, got.body)
			}
		}
		if strings.Contains(got.body, "secret") {
			t.Errorf("%s %s shows an inner detail: %s", test.method, test.path, got.body)
		}
	}
	if retry := e.call("GET", "/api/v1/fail/temporary", e.admin, "").header.Get("Retry-After"); retry != "7" {
		t.Errorf("Retry-After is %q", retry)
	}
	if got := e.call("GET", "/api/v1/fail/internal", e.admin, ""); !strings.Contains(e.log.String(), "the secret detail") || got.header.Get("X-Request-Id") == "" {
		t.Error("the cause of an inner error is not in the log")
	}
}

func TestARepeatedCallIsAnsweredWhatTheFirstOneWas(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		e := newEdge(t, d, nil)
		first := e.call("POST", "/api/v1/things", e.admin, `{"name":"a"}`, "Idempotency-Key", "k1")
		again := e.call("POST", "/api/v1/things", e.admin, `{"name":"a"}`, "Idempotency-Key", "k1")
		if first.status != 201 || again.status != 201 || first.body != again.body || again.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("first %+v\nagain %+v", first, again)
		}
		if made := e.made.Load(); made != 1 {
			t.Errorf("%d things were made", made)
		}
		if other := e.call("POST", "/api/v1/things", e.admin, `{"name":"b"}`, "Idempotency-Key", "k1"); other.status != 409 {
			t.Errorf("the key for another call: %d %s", other.status, other.body)
		}
		// What was refused changed nothing, so the same key may be used again.
		e.call("POST", "/api/v1/things", e.admin, `{"name":""}`, "Idempotency-Key", "k2")
		if mended := e.call("POST", "/api/v1/things", e.admin, `{"name":"c"}`, "Idempotency-Key", "k2"); mended.status != 201 {
			t.Errorf("after a refusal: %d %s", mended.status, mended.body)
		}
		if text := e.call("POST", "/api/v1/things", e.admin, `{"name":"d"}`, "Idempotency-Key", "k\xff"); text.status != 422 {
			t.Errorf("a key that is no text: %d", text.status)
		}
		if long := e.call("POST", "/api/v1/things", e.admin, `{"name":"d"}`, "Idempotency-Key", strings.Repeat("k", 256)); long.status != 422 {
			t.Errorf("a key that is too long: %d", long.status)
		}
	})
}

func TestCallsAtTheSameTimeWithOneKeyMakeOneThing(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		e := newEdge(t, d, nil)
		answers := make(chan answer, 8)
		for range cap(answers) {
			go func() { answers <- e.call("POST", "/api/v1/things", e.admin, `{"name":"a"}`, "Idempotency-Key", "k") }()
		}
		for range cap(answers) {
			if a := <-answers; a.status != 201 && a.status != 409 {
				t.Errorf("%d %s", a.status, a.body)
			}
		}
		count, err := db.One[int](t.Context(), d.Read(), "SELECT COUNT(*) FROM audit_event WHERE action = 'thing.create'")
		if err != nil || count != 1 {
			t.Errorf("%d things are recorded, %v", count, err)
		}
	})
}

func TestAClientThatAsksTooOftenHasToWait(t *testing.T) {
	t.Parallel()
	e := newEdge(t, testkit.NewDB(t, db.SQLite), func(c *api.Config) { c.RateRPS, c.RateBurst = 0.01, 2 })
	for range 2 {
		if got := e.call("GET", "/api/v1/info", e.admin, ""); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	got := e.call("GET", "/api/v1/info", e.admin, "")
	if got.status != 429 || got.header.Get("Retry-After") == "" || !strings.Contains(got.problem(t).Remedy, "Retry-After") {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
	if other := e.call("GET", "/health", "", ""); other.status != 200 {
		t.Errorf("another client: %d", other.status)
	}
}

// anyAgent takes every token for that of one agent.
type anyAgent struct{}

func (anyAgent) Authenticate(_ context.Context, _ string, admit func(string) error) (string, string, error) {
	return "agt_1", "web-1", admit("agt_1")
}

func TestAnAgentIsCountedOnceForEachRequest(t *testing.T) {
	t.Parallel()
	e := newEdge(t, testkit.NewDB(t, db.SQLite), func(c *api.Config) { c.RateRPS, c.RateBurst, c.Agents = 0.01, 2, anyAgent{} })
	for range 2 {
		if got := e.call("GET", "/api/v1/info", "eyJ.eyJ.x", ""); got.status != 403 {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	if got := e.call("GET", "/api/v1/info", "eyJ.eyJ.x", ""); got.status != 429 || got.header.Get("Retry-After") == "" {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
}

func TestReadyFollowsTheReplica(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	e := newEdge(t, testkit.NewDB(t, db.SQLite), func(c *api.Config) {
		c.Ready = func(context.Context) error {
			if down.Load() {
				return errors.New("the server is stopping")
			}
			return nil
		}
	})
	if got := e.call("GET", "/ready", "", ""); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	down.Store(true)
	if got := e.call("GET", "/ready", "", ""); got.status != 503 || !strings.Contains(got.body, "stopping") {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := e.call("GET", "/health", "", ""); got.status != 200 {
		t.Errorf("health: %d", got.status)
	}
}

func TestAnOperationThatNobodyMayCallStopsTheStart(t *testing.T) {
	t.Parallel()
	d := testkit.NewDB(t, db.SQLite)
	log := slog.New(slog.DiscardHandler)
	_, err := api.New(api.Config{
		DB: d, Keys: access.NewService(d, time.Now), Agents: noAgents{}, Metrics: telemetry.NewMetrics(log), Logger: log,
		Routes: []func(huma.API){func(h huma.API) {
			rest.Register(h, "things.frobnicate", huma.Operation{OperationID: "frobnicate", Method: http.MethodGet, Path: "/x"},
				func(context.Context, *struct{}) (*struct{}, error) { return nil, nil })
		}},
	})
	if err == nil || !strings.Contains(err.Error(), "frobnicate") {
		t.Errorf("%v", err)
	}
}

func TestMetricsAndDocument(t *testing.T) {
	t.Parallel()
	e := newEdge(t, testkit.NewDB(t, db.SQLite), nil)
	e.call("POST", "/api/v1/things", e.admin, `{"name":"a"}`)
	metrics := e.call("GET", "/api/v1/metrics/prometheus", e.admin, "")
	for _, line := range []string{`certctl_http_requests_total{code="201",method="POST",route="/api/v1/things"} 1`, "go_goroutines"} {
		if !strings.Contains(metrics.body, line) {
			t.Errorf("%q is missing in the metrics", line)
		}
	}
	e.call("FROBNICATE", "/api/v1/things", "", "")
	if invented := e.call("GET", "/api/v1/metrics/prometheus", e.admin, ""); strings.Contains(invented.body, "FROBNICATE") || !strings.Contains(invented.body, `method="other"`) {
		t.Error("whoever invents a method makes a metric")
	}
	document := e.call("GET", "/api/v1/openapi.json", "", "")
	if document.status != 200 || !strings.Contains(document.body, `"x-certctl-permission": "certificates.write"`) || !strings.Contains(document.body, "MakeThingRequest") {
		t.Errorf("%d %s", document.status, document.body)
	}
	page := e.call("GET", "/api/v1/docs", "", "")
	if page.status != 200 || !strings.Contains(page.body, "make-thing") || !strings.Contains(page.header.Get("Content-Security-Policy"), "style-src 'sha256-") {
		t.Errorf("%d %v", page.status, page.header)
	}
}
