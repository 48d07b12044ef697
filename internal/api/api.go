// Package api is the HTTP edge: what happens to every request before it
// reaches the operation of a feature, and how an answer leaves.
//
//	recover → request id → log, metrics → authentication → rate limit
//	→ body limit → idempotency → permission → operation
//
// Deny is the default: an operation is reached by who has the permission that
// it was registered with. A path that is not an operation does not exist.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/certctl-io/certctl/internal/access"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/rest"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/telemetry"
)

// Agents finds out which agent sent a request from its bearer token. It asks
// admit about an agent that is certain, before it writes anything for it.
type Agents interface {
	Authenticate(ctx context.Context, bearer string, admit func(agentID string) error) (agentID, name string, err error)
}

// Config is what the edge is made of; every field is needed.
type Config struct {
	DB      *db.DB
	Box     *secret.Box
	Keys    *access.Service
	Agents  Agents
	Metrics *telemetry.Metrics
	Logger  *slog.Logger

	Version   string
	ServerID  string
	PublicURL string
	Started   time.Time
	Ready     func(ctx context.Context) error // nil answer: this replica can serve

	BodyLimit int64   // bytes
	RateRPS   float64 // requests per second of one client; 0 for any number
	RateBurst int

	Routes []func(huma.API) // of the features
}

// API is the edge as built.
type API struct {
	config  Config
	log     *slog.Logger
	mux     *http.ServeMux
	huma    huma.API
	limiter *limiter
}

// errorsOnce sets the framework's hook for errors, which it has only one of.
var errorsOnce sync.Once

// New builds the edge with all operations. It fails when an operation asks for
// a permission that nobody can have.
func New(c Config) (*API, error) {
	errorsOnce.Do(func() {
		huma.NewErrorWithContext = rest.FromFramework
		huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
			return rest.FromFramework(nil, status, message, errs...)
		}
	})
	a := &API{config: c, log: c.Logger, mux: http.NewServeMux(), limiter: newLimiter(c.RateRPS, c.RateBurst)}
	a.huma = humago.New(a.mux, huma.Config{
		OpenAPI:       document(c.Version),
		Formats:       map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{a.logCause},
	})
	a.huma.UseMiddleware(a.authorize)
	a.routes()
	for _, register := range c.Routes {
		register(a.huma)
	}
	if err := a.checkPermissions(); err != nil {
		return nil, err
	}
	return a, a.documentRoutes()
}

// OpenAPI is the document of all operations.
func (a *API) OpenAPI() *huma.OpenAPI { return a.huma.OpenAPI() }

// Handler serves the API.
func (a *API) Handler() http.Handler {
	var h http.Handler = http.HandlerFunc(a.dispatch)
	for _, wrap := range []func(http.Handler) http.Handler{
		a.replay, a.limitBody, a.limitRate, a.authenticate, a.observe, a.identify,
	} {
		h = wrap(h)
	}
	return h
}

// checkPermissions makes sure that every operation can be reached by somebody
// and by nobody else.
func (a *API) checkPermissions() error {
	var wrong []error
	for _, op := range operations(a.huma.OpenAPI()) {
		if permission := rest.PermissionOf(op); !access.Known(permission) {
			wrong = append(wrong, fmt.Errorf("operation %s asks for the permission %q, which no role gives", op.OperationID, permission))
		}
	}
	return errors.Join(wrong...)
}

// operations lists all operations of a document by path and method.
func operations(doc *huma.OpenAPI) []*huma.Operation {
	var all []*huma.Operation
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		item := doc.Paths[path]
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete, item.Head} {
			if op != nil {
				all = append(all, op)
			}
		}
	}
	return all
}

// authorize lets a caller through who has the permission of the operation.
func (a *API) authorize(ctx huma.Context, next func(huma.Context)) {
	permission := rest.PermissionOf(ctx.Operation())
	if permission != rest.Public {
		if err := access.Authorize(ctx.Context(), permission); err != nil {
			r, w := humago.Unwrap(ctx)
			a.fail(w, r, err)
			return
		}
	}
	next(ctx)
}

// fail answers a request with an error, which is logged when it is our own.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := rest.NewProblem(r.Context(), err)
	if errors.Is(err, errTooMany) {
		p.Status = http.StatusTooManyRequests
	}
	a.logProblem(r.Context(), p)
	p.Write(w)
}

// logCause logs the cause of an answer that blames the server.
func (a *API) logCause(ctx huma.Context, _ string, body any) (any, error) {
	if p, ok := body.(*rest.Problem); ok {
		a.logProblem(ctx.Context(), p)
	}
	return body, nil
}

func (a *API) logProblem(ctx context.Context, p *rest.Problem) {
	if p.Status >= http.StatusInternalServerError {
		a.log.ErrorContext(ctx, "request failed", "status", p.Status, "error", p.Cause())
	}
}
