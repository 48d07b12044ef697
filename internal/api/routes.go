package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/certctl-io/certctl/internal/access"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/rest"
)

// readyTimeout bounds the checks behind /ready, so that a probe gets an answer.
const readyTimeout = 3 * time.Second

// HealthView says that the program runs.
type HealthView struct {
	Status string `json:"status" enum:"ok"`
}

// InfoView is what a server says about itself and about the caller.
type InfoView struct {
	Version   string     `json:"version"`
	ServerID  string     `json:"server_id" doc:"Id of this installation, the same on all replicas."`
	Database  string     `json:"database" enum:"sqlite,postgres"`
	PublicURL string     `json:"public_url" doc:"URL at which people and agents reach the API."`
	StartedAt time.Time  `json:"started_at" doc:"When this replica started."`
	Caller    CallerView `json:"caller"`
}

// CallerView is who calls.
type CallerView struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Role string `json:"role"`
}

// routes registers the operations about the server itself.
func (a *API) routes() {
	tags := []string{"Server"}
	rest.Register(a.huma, rest.Public, huma.Operation{
		OperationID: "get-health", Method: http.MethodGet, Path: "/health", Tags: tags,
		Summary: "Tell whether the program runs", Description: "For liveness probes: it looks at nothing else.",
	}, func(context.Context, *struct{}) (*rest.Output[HealthView], error) {
		return rest.NewOutput(HealthView{Status: "ok"}), nil
	})
	rest.Register(a.huma, rest.Public, huma.Operation{
		OperationID: "get-ready", Method: http.MethodGet, Path: "/ready", Tags: tags,
		Summary: "Tell whether this replica can serve", Description: "For readiness probes: 503 while the database is away, and during shutdown.",
		Errors: []int{http.StatusServiceUnavailable},
	}, func(ctx context.Context, _ *struct{}) (*rest.Output[HealthView], error) {
		ctx, cancel := context.WithTimeout(ctx, readyTimeout)
		defer cancel()
		if err := a.config.Ready(ctx); err != nil {
			return nil, problem.Temporary(err, time.Second)
		}
		return rest.NewOutput(HealthView{Status: "ok"}), nil
	})
	rest.Register(a.huma, rest.InfoRead, huma.Operation{
		OperationID: "get-info", Method: http.MethodGet, Path: "/api/v1/info", Tags: tags,
		Summary: "Tell which server this is, and as whom you call it",
	}, func(ctx context.Context, _ *struct{}) (*rest.Output[InfoView], error) {
		caller, _ := access.PrincipalFrom(ctx)
		return rest.NewOutput(InfoView{
			Version: a.config.Version, ServerID: a.config.ServerID, Database: string(a.config.DB.Engine()), PublicURL: a.config.PublicURL, StartedAt: a.config.Started,
			Caller: CallerView{ID: caller.ID, Name: caller.Name, Role: string(caller.Role)},
		}), nil
	})
	rest.Register(a.huma, rest.MetricsRead, huma.Operation{
		OperationID: "get-metrics", Method: http.MethodGet, Path: "/api/v1/metrics/prometheus", Tags: tags,
		Summary: "Metrics for Prometheus",
		Responses: map[string]*huma.Response{"200": {
			Description: "Metrics in the Prometheus text format.",
			Content:     map[string]*huma.MediaType{"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}}},
		}},
	}, func(context.Context, *struct{}) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			r, w := humago.Unwrap(ctx)
			a.config.Metrics.Handler().ServeHTTP(w, r)
		}}, nil
	})
}
