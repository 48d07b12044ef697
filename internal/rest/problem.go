package rest

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/validation"

	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/telemetry"
)

// Problem is the body of every error (RFC 9457).
type Problem struct {
	Type      string       `json:"type" doc:"Kind of the problem as a URN." example:"urn:certctl:problem:invalid"`
	Title     string       `json:"title" doc:"Kind of the problem in words." example:"Invalid input"`
	Status    int          `json:"status" doc:"HTTP status." example:"422"`
	Detail    string       `json:"detail" doc:"What is wrong, one sentence."`
	Code      problem.Kind `json:"code" doc:"Kind of the problem, for programs." example:"invalid"`
	Field     string       `json:"field,omitempty" doc:"Input field that is at fault." example:"names[2]"`
	Remedy    string       `json:"remedy,omitempty" doc:"What to do about it."`
	Errors    []FieldError `json:"errors,omitempty" doc:"All that is wrong with the input, when it is more than one thing."`
	RequestID string       `json:"request_id,omitempty" doc:"Id of the request, as in the server's log."`

	retryAfter int // seconds, 0 for none
	cause      error
}

// FieldError is one thing that is wrong with the input.
type FieldError struct {
	Field   string `json:"field,omitempty"`
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"`
}

// Error implements error.
func (p *Problem) Error() string { return p.Detail }

// Cause gives the error behind the problem, for the log.
func (p *Problem) Cause() error { return p.cause }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders implements huma.HeadersError.
func (p *Problem) GetHeaders() http.Header {
	header := http.Header{}
	if p.retryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	if p.Status == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", `Bearer realm="certctl"`)
	}
	return header
}

type kindFacts struct {
	status int
	title  string
}

func facts(kind problem.Kind) kindFacts {
	switch kind {
	case problem.KindInvalid:
		return kindFacts{http.StatusUnprocessableEntity, "Invalid input"}
	case problem.KindNotFound:
		return kindFacts{http.StatusNotFound, "Not found"}
	case problem.KindConflict:
		return kindFacts{http.StatusConflict, "Conflict"}
	case problem.KindStale:
		return kindFacts{http.StatusPreconditionFailed, "Changed meanwhile"}
	case problem.KindForbidden:
		return kindFacts{http.StatusForbidden, "Forbidden"}
	case problem.KindUnauthenticated:
		return kindFacts{http.StatusUnauthorized, "Not authenticated"}
	case problem.KindTooLarge:
		return kindFacts{http.StatusRequestEntityTooLarge, "Too large"}
	case problem.KindTemporary:
		return kindFacts{http.StatusServiceUnavailable, "Temporarily unavailable"}
	default:
		return kindFacts{http.StatusInternalServerError, "Internal error"}
	}
}

// NewProblem gives the body for an error.
func NewProblem(ctx context.Context, err error) *Problem {
	found, ok := problem.As(err)
	if !ok {
		found = problem.Internal(err)
	}
	kind := facts(found.Kind)
	p := &Problem{
		Type: "urn:certctl:problem:" + string(found.Kind), Title: kind.title, Status: kind.status, Code: found.Kind,
		Detail: found.Message, Field: found.Field, Remedy: found.Remedy, RequestID: telemetry.RequestID(ctx), cause: err,
	}
	if found.After > 0 {
		p.retryAfter = int(math.Ceil(found.After.Seconds()))
	}
	if len(found.More) > 0 {
		for _, e := range append([]*problem.Error{found}, found.More...) {
			p.Errors = append(p.Errors, FieldError{Field: e.Field, Message: e.Message, Remedy: e.Remedy})
		}
	}
	return p
}

// statusError is where an error of a feature ends.
func statusError(ctx context.Context, err error) error {
	var ready huma.StatusError
	if errors.As(err, &ready) {
		return err
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return NewProblem(ctx, problem.Temporary(errors.New("the request was cancelled"), 0))
	}
	return NewProblem(ctx, err)
}

// WriteProblem answers a request outside of the API framework with a Problem.
func WriteProblem(w http.ResponseWriter, r *http.Request, err error) {
	NewProblem(r.Context(), err).Write(w)
}

// Write answers a request with the problem.
func (p *Problem) Write(w http.ResponseWriter) {
	for name, values := range p.GetHeaders() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client may be gone
}

// FromFramework makes the Problem for an error that the API framework found:
// mostly input that does not fit the schema.
func FromFramework(ctx huma.Context, status int, message string, errs ...error) huma.StatusError {
	found := &problem.Error{Kind: kindOf(status), Message: message}
	var fields []*problem.Error
	for _, err := range errs {
		var detail huma.ErrorDetailer
		if errors.As(err, &detail) {
			fields = append(fields, fieldProblem(detail.ErrorDetail()))
		} else if err != nil {
			fields = append(fields, &problem.Error{Kind: found.Kind, Message: err.Error()})
		}
	}
	if len(fields) > 0 && found.Kind != problem.KindInternal {
		found = fields[0]
		found.More = fields[1:]
	}
	requestCtx := context.Background()
	if ctx != nil {
		requestCtx = ctx.Context()
	}
	p := NewProblem(requestCtx, found)
	p.Status = status
	return p
}

func kindOf(status int) problem.Kind {
	switch {
	case status == http.StatusNotFound:
		return problem.KindNotFound
	case status == http.StatusConflict:
		return problem.KindConflict
	case status == http.StatusRequestEntityTooLarge:
		return problem.KindTooLarge
	case status == http.StatusRequestTimeout:
		return problem.KindTemporary
	case status < http.StatusInternalServerError:
		return problem.KindInvalid
	default:
		return problem.KindInternal
	}
}

const requiredPrefix, requiredSuffix = "expected required property ", " to be present"

// fieldProblem says in our words what the framework found in a field.
func fieldProblem(d *huma.ErrorDetail) *problem.Error {
	field := fieldName(d.Location)
	if name, found := strings.CutPrefix(d.Message, requiredPrefix); found {
		name = strings.TrimSuffix(name, requiredSuffix)
		if field != "" && field != "body" {
			name = field + "." + name
		}
		return problem.Invalid(name, "it is missing")
	}
	if d.Message == validation.MsgUnexpectedProperty {
		return problem.Invalid(field, "there is no field of this name").Hint("see /api/v1/docs for the fields that there are")
	}
	return problem.Invalid(field, "%s", d.Message)
}

// fieldName takes the framework's prefix off: a caller knows what is in the
// body and what in the query.
func fieldName(location string) string {
	for _, prefix := range []string{"body.", "query.", "path.", "header."} {
		if rest, found := strings.CutPrefix(location, prefix); found {
			return rest
		}
	}
	return location
}
