package api

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/certctl-io/certctl/internal/access"
	"github.com/certctl-io/certctl/internal/audit"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/rest"
	"github.com/certctl-io/certctl/internal/telemetry"
)

// exchange is what the layers learn about a request for the log.
type exchange struct {
	http.ResponseWriter
	status int
	route  string // pattern of the operation; empty when there is none
	caller string // id of who was authenticated
}

// WriteHeader implements http.ResponseWriter.
func (e *exchange) WriteHeader(status int) {
	if e.status == 0 {
		e.status = status
	}
	e.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (e *exchange) Write(p []byte) (int, error) {
	if e.status == 0 {
		e.status = http.StatusOK
	}
	return e.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (e *exchange) Unwrap() http.ResponseWriter { return e.ResponseWriter }

// identify gives the request an id and the answer the headers that all have.
func (a *API) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requestID := id.New("req")
		header := w.Header()
		header.Set("X-Request-Id", requestID)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Cache-Control", "no-store")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		header.Set("Strict-Transport-Security", "max-age=31536000")
		next.ServeHTTP(w, r.WithContext(telemetry.WithRequestID(r.Context(), requestID)))
	})
}

// observe logs and counts the request, and answers when something panics.
func (a *API) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		e := &exchange{ResponseWriter: w}
		defer func() {
			if p := recover(); p != nil {
				if aborted, ok := p.(error); ok && errors.Is(aborted, http.ErrAbortHandler) {
					panic(p)
				}
				a.log.ErrorContext(r.Context(), "request panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				if e.status == 0 {
					rest.NewProblem(r.Context(), problem.Internal(fmt.Errorf("panic: %v", p))).Write(e)
				}
			}
			a.record(r, e, time.Since(started))
		}()
		next.ServeHTTP(e, r)
	})
}

// record is one line of the log and one count. Reads and the polls of agents
// are many and tell little, so they are for debugging.
func (a *API) record(r *http.Request, e *exchange, took time.Duration) {
	route := e.route
	if route == "" {
		route = "none"
	}
	a.config.Metrics.ObserveRequest(r.Method, route, e.status, took)
	level := slog.LevelInfo
	if r.Method == http.MethodGet || r.Method == http.MethodHead || strings.HasPrefix(r.URL.Path, "/api/v1/agent/") {
		level = slog.LevelDebug
	}
	a.log.Log(r.Context(), level, "request", "method", r.Method, "path", r.URL.Path, "status", e.status,
		"took", took.String(), "address", address(r), "caller", e.caller)
}

// nul is a character that no name has and no database stores.
const nul = "\x00"

// dispatch finds the operation.
func (a *API) dispatch(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.URL.Path, nul) || strings.Contains(r.URL.RawQuery, "%00") {
		a.fail(w, r, problem.Invalid("", "the URL holds the character NUL").Hint("leave it out"))
		return
	}
	if query, err := url.QueryUnescape(r.URL.RawQuery); err == nil && !utf8.ValidString(r.URL.Path+query) {
		a.fail(w, r, problem.Invalid("", "the URL is not text in UTF-8").Hint("percent-encode it as UTF-8"))
		return
	}
	handler, pattern := a.mux.Handler(r)
	if pattern == "" {
		a.refuse(handler, w, r)
		return
	}
	if e, ok := w.(*exchange); ok {
		_, e.route, _ = strings.Cut(pattern, " ")
	}
	a.mux.ServeHTTP(w, r)
}

// refuse tells what is wrong with a request that no operation takes; the mux
// knows whether it is the path or the method.
func (a *API) refuse(handler http.Handler, w http.ResponseWriter, r *http.Request) {
	verdict := &headerOnly{header: http.Header{}}
	handler.ServeHTTP(verdict, r)
	if verdict.status != http.StatusMethodNotAllowed {
		a.fail(w, r, problem.NotFound("operation", r.Method+" "+r.URL.Path).Hint("see /api/v1/docs for what there is"))
		return
	}
	allowed := verdict.header.Get("Allow")
	w.Header().Set("Allow", allowed)
	p := rest.NewProblem(r.Context(), problem.Invalid("", "%s does not take %s", r.URL.Path, r.Method).Hint("it takes %s", allowed))
	p.Status = http.StatusMethodNotAllowed
	p.Write(w)
}

// headerOnly is a http.ResponseWriter that keeps status and headers.
type headerOnly struct {
	header http.Header
	status int
}

// Header implements http.ResponseWriter.
func (h *headerOnly) Header() http.Header { return h.header }

// WriteHeader implements http.ResponseWriter.
func (h *headerOnly) WriteHeader(status int) { h.status = status }

// Write implements http.ResponseWriter.
func (h *headerOnly) Write(p []byte) (int, error) { return len(p), nil }

// authenticate finds out who calls. A caller without credentials goes on as
// nobody; one with wrong credentials does not.
func (a *API) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := audit.WithActor(r.Context(), audit.Actor{
			Kind: "user", ID: "anonymous", Name: "anonymous", Address: address(r), RequestID: telemetry.RequestID(r.Context()),
		})
		header := r.Header.Get("Authorization")
		if header == "" {
			next.ServeHTTP(w, r.WithContext(ctx))
			return
		}
		scheme, credentials, _ := strings.Cut(header, " ")
		if !strings.EqualFold(scheme, "Bearer") || credentials == "" {
			a.fail(w, r, problem.Unauthenticated("the Authorization header is not understood").
				Hint("send it as: Authorization: Bearer KEY"))
			return
		}
		principal, err := a.principal(r, strings.TrimSpace(credentials))
		if err != nil {
			a.fail(w, r, err)
			return
		}
		if e, ok := w.(*exchange); ok {
			e.caller = principal.ID
		}
		actor := audit.ActorFrom(ctx)
		actor.ID, actor.Name = principal.ID, principal.Name
		if principal.Kind == access.AgentPrincipal {
			actor.Kind = "agent"
		}
		next.ServeHTTP(w, r.WithContext(audit.WithActor(access.WithPrincipal(ctx, principal), actor)))
	})
}

// principal tells whose credentials these are. A request token of an agent is
// a JWT, and an API key never looks like one.
func (a *API) principal(r *http.Request, credentials string) (access.Principal, error) {
	if strings.HasPrefix(credentials, "eyJ") && strings.Count(credentials, ".") == 2 {
		agentID, name, err := a.config.Agents.Authenticate(r.Context(), credentials, func(agentID string) error {
			return a.admit(string(access.AgentPrincipal) + "/" + agentID)
		})
		return access.Principal{Kind: access.AgentPrincipal, ID: agentID, Name: name}, err
	}
	return a.config.Keys.Authenticate(r.Context(), credentials)
}

// address is where the request came from. Headers that claim another address
// are not believed.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
