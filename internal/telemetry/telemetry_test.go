package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/telemetry"
)

func TestLinesAboutARequestCarryItsID(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := telemetry.NewLogger(&out, telemetry.JSON, slog.LevelInfo).With("part", "api")
	log.InfoContext(telemetry.WithRequestID(t.Context(), "req_1"), "served")
	log.Info("started")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines, want 2:\n%s", len(lines), out.String())
	}
	for i, want := range []any{"req_1", nil} {
		var line map[string]any
		if err := json.Unmarshal([]byte(lines[i]), &line); err != nil {
			t.Fatalf("line %q is not JSON: %v", lines[i], err)
		}
		if line["request_id"] != want || line["part"] != "api" {
			t.Errorf("line %v, want request_id %v and part api", line, want)
		}
	}
}

func TestTextLogLeavesOutWhatIsLessSevere(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := telemetry.NewLogger(&out, telemetry.Text, slog.LevelWarn)
	log.Info("not this")
	log.Warn("but this", "count", 2)
	if got := out.String(); strings.Contains(got, "not this") || !strings.Contains(got, `level=WARN msg="but this" count=2`) {
		t.Errorf("log is %q", got)
	}
}

// scrape gives what Prometheus would read.
func scrape(t *testing.T, m *telemetry.Metrics) string {
	t.Helper()
	answer := httptest.NewRecorder()
	m.Handler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody))
	if answer.Code != http.StatusOK {
		t.Fatalf("scrape answers %d: %s", answer.Code, answer.Body)
	}
	return answer.Body.String()
}

func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("the scrape has no line %q", line)
		}
	}
}

func TestScrapeShowsRequestsAndOrders(t *testing.T) {
	t.Parallel()
	m := telemetry.NewMetrics(slog.New(slog.DiscardHandler))
	m.ObserveRequest(http.MethodGet, "/api/v1/certificates/{ref}", http.StatusOK, 3*time.Millisecond)
	m.ObserveRequest(http.MethodGet, "/api/v1/certificates/{ref}", http.StatusNotFound, time.Millisecond)
	m.OrderFinished("done")
	m.OrderFinished("done")
	wantLines(t, scrape(t, m),
		`certctl_http_requests_total{code="200",method="GET",route="/api/v1/certificates/{ref}"} 1`,
		`certctl_http_requests_total{code="404",method="GET",route="/api/v1/certificates/{ref}"} 1`,
		`certctl_http_request_duration_seconds_count{method="GET",route="/api/v1/certificates/{ref}"} 2`,
		`certctl_http_request_duration_seconds_bucket{method="GET",route="/api/v1/certificates/{ref}",le="0.0025"} 1`,
		`certctl_orders_finished_total{outcome="done"} 2`,
		`# TYPE go_goroutines gauge`,
		`# TYPE process_open_fds gauge`,
	)
}

func TestGaugesAreReadWhenPrometheusAsks(t *testing.T) {
	t.Parallel()
	m := telemetry.NewMetrics(slog.New(slog.DiscardHandler))
	open := 1.0
	m.Gauges("certctl_orders", "Orders by state.", []string{"state"}, func(ctx context.Context) ([]telemetry.Sample, error) {
		if _, bounded := ctx.Deadline(); !bounded {
			return nil, errors.New("a scrape that nothing bounds")
		}
		return []telemetry.Sample{{Labels: []string{"pending"}, Value: open}, {Labels: []string{"failed"}, Value: 7}}, nil
	})
	wantLines(t, scrape(t, m), `certctl_orders{state="pending"} 1`, `certctl_orders{state="failed"} 7`)
	open = 2
	wantLines(t, scrape(t, m), `certctl_orders{state="pending"} 2`)
}

func TestAGaugeThatCannotBeReadIsMissingAloneAndLogged(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	m := telemetry.NewMetrics(telemetry.NewLogger(&out, telemetry.JSON, slog.LevelInfo))
	m.Gauges("certctl_broken", "Cannot be read.", nil, func(context.Context) ([]telemetry.Sample, error) {
		return nil, errors.New("the database is away")
	})
	m.Gauges("certctl_mislabelled", "Has a label too many.", nil, func(context.Context) ([]telemetry.Sample, error) {
		return []telemetry.Sample{{Labels: []string{"stray"}, Value: 1}}, nil
	})
	m.Gauges("certctl_fine", "Can be read.", nil, func(context.Context) ([]telemetry.Sample, error) {
		return []telemetry.Sample{{Value: 1}}, nil
	})
	text := scrape(t, m)
	wantLines(t, text, "certctl_fine 1")
	for _, missing := range []string{"certctl_broken", "certctl_mislabelled"} {
		if strings.Contains(text, missing) {
			t.Errorf("the scrape has %s", missing)
		}
		if !strings.Contains(out.String(), `"metric":"`+missing+`"`) {
			t.Errorf("the log does not say that %s cannot be read: %s", missing, out.String())
		}
	}
}
