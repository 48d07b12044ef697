package deployment

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certctl-io/certctl/internal/access"
	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/rest"
	"github.com/certctl-io/certctl/internal/targets"
)

// View is a deployment as the API shows it.
type View struct {
	ID          string          `json:"id"`
	Target      string          `json:"target" doc:"Name of the target."`
	Agent       string          `json:"agent" doc:"Name of the agent that carries it out."`
	Certificate string          `json:"certificate" doc:"Name of the certificate."`
	VersionID   string          `json:"version_id"`
	OrderID     string          `json:"order_id,omitempty" doc:"Order that it proves the version for; absent when it was started otherwise."`
	Reason      Reason          `json:"reason" enum:"issued,target_added,target_changed,requested" doc:"Why it was started."`
	State       State           `json:"state" enum:"pending,running,done,failed,cancelled"`
	StateReason string          `json:"state_reason,omitempty" doc:"What led to the state, one sentence."`
	Attempts    int             `json:"attempts" doc:"How often it was tried since it was started, or retried by a person."`
	Report      *targets.Report `json:"report,omitempty" doc:"What the agent said last."`
	NextTryAt   *time.Time      `json:"next_try_at,omitempty" doc:"When it is tried again by itself."`
	CreatedAt   time.Time       `json:"created_at"`
	UpdatedAt   time.Time       `json:"updated_at"`
	FinishedAt  *time.Time      `json:"finished_at,omitempty"`
}

func (d Deployment) view() View {
	return View{
		ID: d.ID, Target: d.Target, Agent: d.Agent, Certificate: d.Certificate, VersionID: d.VersionID, OrderID: d.OrderID,
		Reason: d.Reason, State: d.State, StateReason: d.StateReason, Attempts: d.Attempts, Report: d.Report, NextTryAt: d.NextTryAt,
		CreatedAt: d.CreatedAt, UpdatedAt: d.UpdatedAt, FinishedAt: d.FinishedAt,
	}
}

// brief is view without the report, as a retry does not change it.
func (d Deployment) brief() View {
	d.Report = nil
	return d.view()
}

type listInput struct {
	rest.ListInput
	Target      string `query:"target" doc:"Only deployments to this target, by id or name."`
	Certificate string `query:"certificate" doc:"Only deployments of this certificate, by id or name."`
	Order       string `query:"order" doc:"Only deployments of the order with this id."`
	Agent       string `query:"agent" doc:"Only deployments by this agent, by id or name."`
	State       State  `query:"state" doc:"Only deployments in this state: pending, running, done, failed or cancelled."`
}

type idInput struct {
	ID string `path:"id" doc:"Id of the deployment."`
}

type reportInput struct {
	ID   string `path:"id" doc:"Id of the deployment."`
	Body targets.Report
}

type keptInput struct {
	ID string `path:"id" doc:"Id of the target."`
}

// Routes registers the operations on targets and deployments.
func (s *Service) Routes(api huma.API) {
	s.targetRoutes(api)
	tags := []string{"Deployments"}
	rest.Register(api, rest.DeploymentsRead, huma.Operation{
		OperationID: "list-deployments", Method: http.MethodGet, Path: "/api/v1/deployments", Tags: tags,
		Summary: "List deployments", Description: "Sorts: id.",
	}, func(ctx context.Context, in *listInput) (*rest.ListOutput[View], error) {
		filter := Filter{Target: in.Target, Certificate: in.Certificate, Order: in.Order, Agent: in.Agent, State: in.State}
		return rest.Listed(Deployment.view)(s.Deployments(ctx, filter, in.Page()))
	})
	rest.Register(api, rest.DeploymentsRead, huma.Operation{
		OperationID: "get-deployment", Method: http.MethodGet, Path: "/api/v1/deployments/{id}", Tags: tags, Summary: "Get a deployment",
	}, func(ctx context.Context, in *idInput) (*rest.Output[View], error) {
		return output(s.Deployment(ctx, in.ID))
	})
	rest.Register(api, rest.DeploymentsWrite, huma.Operation{
		OperationID: "retry-deployment", Method: http.MethodPost, Path: "/api/v1/deployments/{id}/retry", Tags: tags,
		Summary:     "Try a deployment that failed again",
		Description: "Refused when a newer deployment of the target is open, or the version is out of date. The order of the deployment goes on when it succeeds.",
	}, func(ctx context.Context, in *idInput) (*rest.Output[View], error) {
		return output(s.Retry(ctx, in.ID))
	})
	rest.Register(api, rest.AgentSelf, huma.Operation{
		OperationID: "report-deployment", Method: http.MethodPost, Path: agentapi.BasePath + agentapi.PathDeploymentResult, Tags: []string{"Agent protocol"},
		Summary: "Report what became of a deployment", Description: "For the agent that the deployment was given to. Repeating it changes nothing.",
		DefaultStatus: http.StatusNoContent,
	}, func(ctx context.Context, in *reportInput) (*struct{}, error) {
		agentID, err := access.AgentID(ctx)
		if err != nil {
			return nil, err
		}
		return nil, s.Report(ctx, agentID, in.ID, in.Body)
	})
	rest.Register(api, rest.AgentSelf, huma.Operation{
		OperationID: "check-kept-target", Method: http.MethodPost, Path: agentapi.BasePath + agentapi.PathTargetKept, Tags: []string{"Agent protocol"},
		Summary: "Ask whether a target is still to be kept", Description: "Not found when the target was removed, is another agent's, or has no certificate any more.",
		DefaultStatus: http.StatusNoContent,
	}, func(ctx context.Context, in *keptInput) (*struct{}, error) {
		agentID, err := access.AgentID(ctx)
		if err != nil {
			return nil, err
		}
		return nil, s.Kept(ctx, agentID, in.ID)
	})
}

func output(d Deployment, err error) (*rest.Output[View], error) {
	if err != nil {
		return nil, err
	}
	return rest.NewOutput(d.view()), nil
}
