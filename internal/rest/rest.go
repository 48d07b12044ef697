// Package rest is what a feature needs to offer HTTP operations: registration
// with a permission, the form of errors, lists and entity tags. The edge
// itself (authentication, limits, logging) is package api.
package rest

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
)

// Permission is what a caller needs to have for an operation.
type Permission string

// Permissions that are not given by a role.
const (
	Public    Permission = "public"     // no credentials needed
	AgentSelf Permission = "agent.self" // any agent, for its own work
)

// Permissions that roles give.
const (
	CertificatesRead  Permission = "certificates.read"
	CertificatesWrite Permission = "certificates.write"
	OrdersRead        Permission = "orders.read"
	OrdersWrite       Permission = "orders.write"
	ProfilesRead      Permission = "profiles.read"
	ProfilesWrite     Permission = "profiles.write"
	IssuersRead       Permission = "issuers.read"
	IssuersWrite      Permission = "issuers.write"
	TargetsRead       Permission = "targets.read"
	TargetsWrite      Permission = "targets.write"
	DeploymentsRead   Permission = "deployments.read"
	DeploymentsWrite  Permission = "deployments.write"
	AgentsRead        Permission = "agents.read"
	AgentsWrite       Permission = "agents.write"
	JobsRead          Permission = "jobs.read"
	JobsWrite         Permission = "jobs.write"
	APIKeysRead       Permission = "api_keys.read"
	APIKeysWrite      Permission = "api_keys.write"
	AuditRead         Permission = "audit.read"
	MetricsRead       Permission = "metrics.read"
	InfoRead          Permission = "info.read"
)

const permissionKey = "permission"

// PermissionOf gives the permission an operation was registered with.
func PermissionOf(op *huma.Operation) Permission {
	p, _ := op.Metadata[permissionKey].(Permission)
	return p
}

// Bearer is the name of the security scheme in the OpenAPI document.
const Bearer = "bearer"

// Register adds an operation. It panics when the permission, the operation id
// or a part of the path is missing, which ends the program at start.
func Register[I, O any](api huma.API, permission Permission, op huma.Operation, handler func(context.Context, *I) (*O, error)) {
	if permission == "" || op.OperationID == "" {
		panic(fmt.Sprintf("rest: %s %s is registered without a permission or an operation id", op.Method, op.Path))
	}
	for _, part := range strings.Split(op.Path, "/") {
		name, inner := strings.CutPrefix(strings.TrimSuffix(part, "}"), "{")
		if inner && !hasPathField(reflect.TypeFor[I](), name) {
			panic(fmt.Sprintf("rest: the input of %s does not take {%s}; the framework sees no fields of embedded types that are not exported", op.OperationID, name))
		}
	}
	if op.Metadata == nil {
		op.Metadata = map[string]any{}
	}
	op.Metadata[permissionKey] = permission
	op.RejectUnknownQueryParameters = true
	// Package api bounds body size and time before an operation is reached.
	op.MaxBodyBytes = -1
	op.BodyReadTimeout = -1
	if permission != Public {
		op.Security = []map[string][]string{{Bearer: {}}}
		op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden)
	}
	if op.Method == http.MethodPost && permission != Public && permission != AgentSelf {
		op.Parameters = append(op.Parameters, idempotencyParam)
	}
	op.Extensions = map[string]any{"x-certctl-permission": string(permission)}
	nameBody[I](api, op.OperationID)
	huma.Register(api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err != nil {
			return nil, statusError(ctx, err)
		}
		return out, nil
	})
}

func hasPathField(t reflect.Type, name string) bool {
	for field := range t.Fields() {
		if field.Tag.Get("path") == name && field.IsExported() {
			return true
		}
		if field.Anonymous && field.IsExported() && field.Type.Kind() == reflect.Struct && hasPathField(field.Type, name) {
			return true
		}
	}
	return false
}

// idempotencyParam documents what package api does for calls that change
// something.
var idempotencyParam = &huma.Param{
	Name: "Idempotency-Key", In: "header", Schema: &huma.Schema{Type: huma.TypeString},
	Description: "Any text that is the same when the call is repeated and new for a new call. A repeated call within 24 hours is answered what the first one was and changes nothing.",
}

// nameBody gives a request body without a type name one in the OpenAPI
// document: that of its operation.
func nameBody[I any](api huma.API, operationID string) {
	body, ok := reflect.TypeFor[I]().FieldByName("Body")
	if !ok || body.Type.Kind() != reflect.Struct || body.Type.Name() != "" {
		return
	}
	api.OpenAPI().Components.Schemas.Schema(body.Type, true, operationID+"-request")
}

// ListInput is embedded in the input of a list operation.
type ListInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"Most items to return."`
	Cursor string `query:"cursor" doc:"next_cursor of the page before; leave it out for the first page."`
	Sort   string `query:"sort" doc:"Order of the list; a minus before the name reverses it. The default is the newest first." example:"-id"`
}

// Page gives the page that is asked for.
func (l ListInput) Page() db.Page { return db.Page{Limit: l.Limit, Cursor: l.Cursor, Sort: l.Sort} }

// ListBody is one page of a list.
type ListBody[T any] struct {
	Items      []T    `json:"items" nullable:"false"`
	NextCursor string `json:"next_cursor,omitempty" doc:"Cursor of the next page; absent on the last."`
}

// ListOutput is the response of a list operation.
type ListOutput[T any] struct {
	Body ListBody[T]
}

// NewList makes the response of a list operation.
func NewList[T any](items []T, next string) *ListOutput[T] {
	if items == nil {
		items = []T{}
	}
	return &ListOutput[T]{Body: ListBody[T]{Items: items, NextCursor: next}}
}

// Listed makes the response of a list operation of what a service answered,
// each item as its view.
func Listed[T, V any](view func(T) V) func(items []T, next string, err error) (*ListOutput[V], error) {
	return func(items []T, next string, err error) (*ListOutput[V], error) {
		if err != nil {
			return nil, err
		}
		views := make([]V, len(items))
		for i, item := range items {
			views[i] = view(item)
		}
		return NewList(views, next), nil
	}
}

// Tagged is a response with an entity tag, to be sent back as If-Match.
type Tagged[T any] struct {
	ETag string `header:"ETag" doc:"Revision of the object, for If-Match."`
	Body T
}

// WithTag makes a Tagged response.
func WithTag[T any](body T, revision int) *Tagged[T] {
	return &Tagged[T]{ETag: etag(revision), Body: body}
}

// Output is a response that has only a body.
type Output[T any] struct {
	Body T
}

// NewOutput makes a response that has only a body.
func NewOutput[T any](body T) *Output[T] { return &Output[T]{Body: body} }

// IfMatch is embedded in the input of an update.
type IfMatch struct {
	IfMatch string `header:"If-Match" doc:"ETag of the revision that the change is based on. Without it the last writer wins."`
}

// Check answers a stale problem when the caller has seen another revision.
func (m IfMatch) Check(revision int) error {
	if m.IfMatch == "" || m.IfMatch == "*" {
		return nil
	}
	for tag := range strings.SplitSeq(m.IfMatch, ",") {
		if strings.TrimSpace(tag) == etag(revision) {
			return nil
		}
	}
	return problem.Stale("it was changed since you read it: its revision is now %d", revision).
		Hint("read it again, and send the change with its new ETag")
}

func etag(revision int) string { return strconv.Quote(strconv.Itoa(revision)) }
