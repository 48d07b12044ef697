package fleet

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certctl-io/certctl/internal/access"
	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/rest"
)

// AgentView is an agent as the API shows it.
type AgentView struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Labels     map[string]string `json:"labels"`
	Status     Status            `json:"status" enum:"never_seen,online,offline,revoked"`
	Version    string            `json:"version" doc:"Version of its program, as of its last poll."`
	OS         string            `json:"os" doc:"Operating system and architecture." example:"linux/amd64"`
	CreatedAt  time.Time         `json:"created_at"`
	UpdatedAt  time.Time         `json:"updated_at"`
	LastSeenAt *time.Time        `json:"last_seen_at,omitempty" doc:"When it was last heard of, to about half a minute."`
	RevokedAt  *time.Time        `json:"revoked_at,omitempty"`
	Revision   int               `json:"revision"`

	KubernetesIdentity string `json:"kubernetes_identity,omitempty" doc:"For an agent that joined from a pod: namespace, ServiceAccount, what the name was (that of its node, of its pod, or any of the account), and the name. Whoever proves to be that may join again as this agent." example:"certctl/certctl/node/worker-1"`
}

func agentView(a Agent, now time.Time) AgentView {
	kubernetes := ""
	if a.KubernetesIdentity != nil {
		kubernetes = *a.KubernetesIdentity
	}
	return AgentView{
		ID: a.ID, Name: a.Name, Labels: orEmpty(a.Labels.V), Status: a.Status(now), Version: a.Version, OS: a.OS, CreatedAt: a.CreatedAt,
		UpdatedAt: a.UpdatedAt, LastSeenAt: a.LastSeenAt, RevokedAt: a.RevokedAt, Revision: a.Revision,
		KubernetesIdentity: kubernetes,
	}
}

type listAgentsInput struct {
	rest.ListInput
	Status Status   `query:"status" enum:"never_seen,online,offline,revoked" doc:"Only agents with this status."`
	Name   string   `query:"name" doc:"Only agents with this in their name."`
	Label  []string `query:"label,explode" maxItems:"16" doc:"Only agents that have this label with this value, as key=value; all that are given must hold." example:"[\"env=prod\"]"`
}

// filter reads the filters of the list.
func (in *listAgentsInput) filter() (AgentFilter, error) {
	f := AgentFilter{Status: in.Status, Name: in.Name}
	for _, text := range in.Label {
		key, value, found := strings.Cut(text, "=")
		if !found || key == "" {
			return AgentFilter{}, problem.Invalid("label", "%q does not say which value the label has", text).Hint("write it as key=value")
		}
		if !labelPattern.MatchString(key) { // SQLite would take it for a path
			return AgentFilter{}, problem.Invalid("label", "%q is not the key of a label", key)
		}
		f.Labels = append(f.Labels, Label{Key: key, Value: value})
	}
	return f, nil
}

type agentInput struct {
	Ref string `path:"ref" doc:"Id or name of the agent."`
}

type updateAgentInput struct {
	Ref string `path:"ref" doc:"Id or name of the agent."`
	rest.IfMatch
	Body struct {
		Name   *string            `json:"name,omitempty"`
		Labels *map[string]string `json:"labels,omitempty" doc:"All labels; they replace the ones before."`
	}
}

var agentTags = []string{"Agents"}

// Routes registers the operations of this package.
func (s *Service) Routes(api huma.API) {
	s.agentRoutes(api)
	s.tokenRoutes(api)
	s.selfRoutes(api)
}

func (s *Service) agentRoutes(api huma.API) {
	rest.Register(api, rest.AgentsRead, huma.Operation{
		OperationID: "list-agents", Method: http.MethodGet, Path: "/api/v1/agents", Tags: agentTags,
		Summary: "List agents", Description: "Sorts: id, name, created_at.",
	}, func(ctx context.Context, in *listAgentsInput) (*rest.ListOutput[AgentView], error) {
		filter, err := in.filter()
		if err != nil {
			return nil, err
		}
		found, next, err := s.Agents(ctx, filter, in.Page())
		if err != nil {
			return nil, err
		}
		views := make([]AgentView, len(found))
		for i, a := range found {
			views[i] = agentView(a, s.now())
		}
		return rest.NewList(views, next), nil
	})
	rest.Register(api, rest.AgentsRead, huma.Operation{
		OperationID: "get-agent", Method: http.MethodGet, Path: "/api/v1/agents/{ref}", Tags: agentTags, Summary: "Get an agent",
	}, func(ctx context.Context, in *agentInput) (*rest.Tagged[AgentView], error) {
		return s.tagged(s.Agent(ctx, in.Ref))
	})
	rest.Register(api, rest.AgentsWrite, huma.Operation{
		OperationID: "update-agent", Method: http.MethodPatch, Path: "/api/v1/agents/{ref}", Tags: agentTags,
		Summary: "Change the name or the labels of an agent", Description: "Fields that are left out stay as they are.",
	}, func(ctx context.Context, in *updateAgentInput) (*rest.Tagged[AgentView], error) {
		return s.tagged(s.Update(ctx, in.Ref, AgentChange{Name: in.Body.Name, Labels: in.Body.Labels},
			func(a Agent) error { return in.Check(a.Revision) }))
	})
	rest.Register(api, rest.AgentsWrite, huma.Operation{
		OperationID: "revoke-agent", Method: http.MethodPost, Path: "/api/v1/agents/{ref}/revoke", Tags: agentTags,
		Summary:     "Revoke an agent",
		Description: "It is refused at once and for good, and what it had to do is given up. Its certificates are not revoked by this.",
	}, func(ctx context.Context, in *agentInput) (*rest.Tagged[AgentView], error) {
		return s.tagged(s.Revoke(ctx, in.Ref))
	})
}

func (s *Service) tagged(a Agent, err error) (*rest.Tagged[AgentView], error) {
	if err != nil {
		return nil, err
	}
	return rest.WithTag(agentView(a, s.now()), a.Revision), nil
}

type enrollInput struct {
	Body agentapi.EnrollRequest
}

type pollInput struct {
	Body agentapi.PollRequest
}

// selfRoutes registers what agents call.
func (s *Service) selfRoutes(api huma.API) {
	tags := []string{"Agent protocol"}
	rest.Register(api, rest.Public, huma.Operation{
		OperationID: "enroll-agent", Method: http.MethodPost, Path: agentapi.BasePath + agentapi.PathEnroll, Tags: tags,
		Summary: "Join as an agent", Errors: []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict, http.StatusServiceUnavailable},
		Description: "The enrolment token in the body is the credential. Asking again with the same key and token is answered the same. " +
			"An agent that joined with a Kubernetes token, too, may come in again with another key by showing one of the same ServiceAccount and name; its old key ends with that.",
	}, func(ctx context.Context, in *enrollInput) (*rest.Output[agentapi.EnrollResponse], error) {
		answer, err := s.Enrol(ctx, in.Body)
		if err != nil {
			return nil, err
		}
		return rest.NewOutput(answer), nil
	})
	rest.Register(api, rest.AgentSelf, huma.Operation{
		OperationID: "poll-agent", Method: http.MethodPost, Path: agentapi.BasePath + agentapi.PathPoll, Tags: tags,
		Summary: "Fetch work", Description: "The answer waits until there is work, up to wait_seconds.",
	}, func(ctx context.Context, in *pollInput) (*rest.Output[agentapi.PollResponse], error) {
		agentID, err := access.AgentID(ctx)
		if err != nil {
			return nil, err
		}
		answer, err := s.Poll(ctx, agentID, in.Body)
		if err != nil {
			return nil, err
		}
		return rest.NewOutput(answer), nil
	})
}
