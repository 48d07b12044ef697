package issuance

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certctl-io/certctl/internal/access"
	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/rest"
)

// View is an order as the API shows it.
type View struct {
	ID          string                `json:"id"`
	Certificate string                `json:"certificate" doc:"Name of the certificate."`
	Agent       string                `json:"agent" doc:"Name of the key holder."`
	Reason      inventory.OrderReason `json:"reason" enum:"requested,renewal,forced,rekey,target_added,key_lost"`
	State       State                 `json:"state" enum:"pending,signing,issued,done,failed,cancelled"`
	StateReason string                `json:"state_reason,omitempty" doc:"Why it failed or was cancelled, or is tried again later."`
	Attempts    int                   `json:"attempts" doc:"Tries of the current step."`
	VersionID   string                `json:"version_id,omitempty"`
	NextTryAt   *time.Time            `json:"next_try_at,omitempty"`
	CreatedAt   time.Time             `json:"created_at"`
	UpdatedAt   time.Time             `json:"updated_at"`
	FinishedAt  *time.Time            `json:"finished_at,omitempty"`
	Events      []inventory.Line      `json:"events,omitempty" doc:"Its timeline, oldest first; only when it is read by itself."`
}

func (o Named) view() View {
	return View{
		ID: o.ID, Certificate: o.Certificate, Agent: o.Agent, Reason: o.Reason, State: o.State, StateReason: o.StateReason,
		Attempts: o.Attempts, VersionID: o.VersionID, NextTryAt: o.NextTryAt,
		CreatedAt: o.CreatedAt, UpdatedAt: o.UpdatedAt, FinishedAt: o.FinishedAt,
	}
}

type listInput struct {
	rest.ListInput
	Certificate string `query:"certificate" doc:"Only of this certificate, by id or name."`
	Agent       string `query:"agent" doc:"Only of this agent, by id or name."`
	State       State  `query:"state" enum:"pending,signing,issued,done,failed,cancelled" doc:"Only in this state."`
}

type idInput struct {
	ID string `path:"id" doc:"Id of the order."`
}

// Routes registers the operations on orders.
func (s *Service) Routes(api huma.API) {
	tags := []string{"Orders"}
	rest.Register(api, rest.OrdersRead, huma.Operation{
		OperationID: "list-orders", Method: http.MethodGet, Path: "/api/v1/orders", Tags: tags,
		Summary: "List orders", Description: "Sorts: id, created_at.",
	}, func(ctx context.Context, in *listInput) (*rest.ListOutput[View], error) {
		return rest.Listed(Named.view)(s.List(ctx, in.Certificate, in.Agent, in.State, in.Page()))
	})
	rest.Register(api, rest.OrdersRead, huma.Operation{
		OperationID: "get-order", Method: http.MethodGet, Path: "/api/v1/orders/{id}", Tags: tags, Summary: "Get an order with its timeline",
	}, func(ctx context.Context, in *idInput) (*rest.Output[View], error) {
		o, timeline, err := s.Get(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		view := o.view()
		view.Events = timeline
		return rest.NewOutput(view), nil
	})
	rest.Register(api, rest.OrdersWrite, huma.Operation{
		OperationID: "retry-order", Method: http.MethodPost, Path: "/api/v1/orders/{id}/retry", Tags: tags, Summary: "Retry a failed order",
		Description: "The order goes on from where it failed, with what the certificate and its profile say now.",
	}, func(ctx context.Context, in *idInput) (*rest.Output[View], error) { return shown(s.Retry(ctx, in.ID)) })
	rest.Register(api, rest.OrdersWrite, huma.Operation{
		OperationID: "cancel-order", Method: http.MethodPost, Path: "/api/v1/orders/{id}/cancel", Tags: tags,
		Summary: "Cancel an order that is not finished",
	}, func(ctx context.Context, in *idInput) (*rest.Output[View], error) { return shown(s.Cancel(ctx, in.ID)) })
	s.agentRoutes(api)
}

func shown(o Named, err error) (*rest.Output[View], error) {
	if err != nil {
		return nil, err
	}
	return rest.NewOutput(o.view()), nil
}

type csrInput struct {
	ID   string `path:"id" doc:"Id of the order."`
	Body agentapi.CSRSubmission
}

type failureInput struct {
	ID   string `path:"id" doc:"Id of the order."`
	Body agentapi.TaskFailure
}

// agentRoutes registers what agents call for their own orders.
func (s *Service) agentRoutes(api huma.API) {
	tags := []string{"Agent protocol"}
	rest.Register(api, rest.AgentSelf, huma.Operation{
		OperationID: "submit-csr", Method: http.MethodPost, Path: agentapi.BasePath + agentapi.PathOrderCSR, Tags: tags,
		Summary: "Send the certificate request for an order", DefaultStatus: http.StatusNoContent,
	}, func(ctx context.Context, in *csrInput) (*struct{}, error) {
		agentID, err := access.AgentID(ctx)
		if err != nil {
			return nil, err
		}
		return nil, s.SubmitCSR(ctx, agentID, in.ID, []byte(in.Body.CSR))
	})
	rest.Register(api, rest.AgentSelf, huma.Operation{
		OperationID: "report-csr-failure", Method: http.MethodPost, Path: agentapi.BasePath + agentapi.PathOrderFailure, Tags: tags,
		Summary: "Say that a certificate request cannot be made", DefaultStatus: http.StatusNoContent,
	}, func(ctx context.Context, in *failureInput) (*struct{}, error) {
		agentID, err := access.AgentID(ctx)
		if err != nil {
			return nil, err
		}
		return nil, s.CSRFailed(ctx, agentID, in.ID, in.Body)
	})
}
