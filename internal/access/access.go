// Package access decides who may do what. People and scripts carry an API key
// with a role; agents carry tokens of their own (package fleet). What a role
// permits is one table, and an operation declares the permission it needs
// where it is registered: whatever is not granted here is denied.
package access

import (
	"context"
	"slices"

	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/rest"
)

// Role is a named set of permissions.
type Role string

// The roles.
const (
	Admin    Role = "admin"    // everything
	Operator Role = "operator" // runs certificates, agents and targets; reads all but keys
	Viewer   Role = "viewer"   // reads certificates and what belongs to them
	Metrics  Role = "metrics"  // scrapes metrics, nothing else
)

// roles lists them, the most powerful first.
var roles = []Role{Admin, Operator, Viewer, Metrics}

var viewerPermissions = []rest.Permission{
	rest.CertificatesRead, rest.OrdersRead, rest.ProfilesRead, rest.IssuersRead, rest.TargetsRead,
	rest.DeploymentsRead, rest.AgentsRead, rest.JobsRead, rest.InfoRead,
}

var operatorPermissions = append([]rest.Permission{
	rest.CertificatesWrite, rest.OrdersWrite, rest.ProfilesWrite, rest.TargetsWrite, rest.DeploymentsWrite,
	rest.AgentsWrite, rest.JobsWrite, rest.MetricsRead, rest.AuditRead,
}, viewerPermissions...)

var adminPermissions = append([]rest.Permission{
	rest.IssuersWrite, rest.APIKeysRead, rest.APIKeysWrite,
}, operatorPermissions...)

// Can reports whether a role has a permission.
func (r Role) Can(p rest.Permission) bool {
	switch r {
	case Admin:
		return slices.Contains(adminPermissions, p)
	case Operator:
		return slices.Contains(operatorPermissions, p)
	case Viewer:
		return slices.Contains(viewerPermissions, p)
	case Metrics:
		return p == rest.MetricsRead
	default:
		return false
	}
}

// Known reports whether some role grants the permission, which every operation
// must be able to show at start.
func Known(p rest.Permission) bool {
	return p == rest.Public || p == rest.AgentSelf || slices.ContainsFunc(roles, func(r Role) bool { return r.Can(p) })
}

// PrincipalKind says what sort of caller it is.
type PrincipalKind string

// The kinds of callers.
const (
	KeyPrincipal   PrincipalKind = "key"
	AgentPrincipal PrincipalKind = "agent"
)

// Principal is an authenticated caller.
type Principal struct {
	Kind PrincipalKind
	ID   string
	Name string
	Role Role // of keys
}

// Can reports whether the caller has a permission.
func (p Principal) Can(permission rest.Permission) bool {
	if permission == rest.AgentSelf {
		return p.Kind == AgentPrincipal
	}
	return p.Kind == KeyPrincipal && p.Role.Can(permission)
}

type principalKey struct{}

// WithPrincipal returns a context of an authenticated caller.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// PrincipalFrom tells the authenticated caller, if there is one.
func PrincipalFrom(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(principalKey{}).(Principal)
	return p, ok
}

// AgentID gives the id of the agent that calls, and refuses other callers.
func AgentID(ctx context.Context) (string, error) {
	p, ok := PrincipalFrom(ctx)
	if !ok || p.Kind != AgentPrincipal {
		return "", problem.Forbidden("only an agent may do this")
	}
	return p.ID, nil
}

// Authorize checks that the caller has the permission.
func Authorize(ctx context.Context, permission rest.Permission) error {
	if permission == rest.Public {
		return nil
	}
	p, ok := PrincipalFrom(ctx)
	if !ok {
		return problem.Unauthenticated("the request carries no credentials").
			Hint("send an API key in the header Authorization: Bearer certctl_...")
	}
	if p.Can(permission) {
		return nil
	}
	if p.Kind == AgentPrincipal {
		return problem.Forbidden("agents may not do this").Hint("use an API key")
	}
	return problem.Forbidden("the key %q has the role %s, which does not include %s", p.Name, p.Role, permission).
		Hint("use a key of a role that does; an admin makes one with: certctl keys create")
}
