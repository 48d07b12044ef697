package deployment

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certctl-io/certctl/internal/rest"
)

type targetRefInput struct {
	Ref string `path:"ref" doc:"Id or name of the target."`
}

type listTargetsInput struct {
	rest.ListInput
	Agent       string `query:"agent" doc:"Only targets on this agent, by id or name."`
	Kind        string `query:"kind" doc:"Only targets of this kind."`
	Certificate string `query:"certificate" doc:"Only targets of this certificate, by id or name."`
}

type createTargetInput struct {
	Body TargetSpec
}

type updateTargetInput struct {
	Ref string `path:"ref" doc:"Id or name of the target."`
	rest.IfMatch
	Body TargetChange
}

type deleteTargetInput struct {
	Ref string `path:"ref" doc:"Id or name of the target."`
	rest.IfMatch
}

func (s *Service) targetRoutes(api huma.API) {
	tags := []string{"Targets"}
	rest.Register(api, rest.TargetsRead, huma.Operation{
		OperationID: "list-target-kinds", Method: http.MethodGet, Path: "/api/v1/target-kinds", Tags: tags,
		Summary: "List the kinds of target", Description: "Each with the JSON Schema of its settings, by name. They are few: there is one page whatever is asked for.",
	}, func(context.Context, *rest.ListInput) (*rest.ListOutput[KindView], error) {
		return rest.NewList(s.Kinds(), ""), nil
	})
	rest.Register(api, rest.TargetsRead, huma.Operation{
		OperationID: "list-targets", Method: http.MethodGet, Path: "/api/v1/targets", Tags: tags,
		Summary: "List targets", Description: "Sorts: id, name.",
	}, func(ctx context.Context, in *listTargetsInput) (*rest.ListOutput[TargetView], error) {
		found, next, err := s.Targets(ctx, TargetFilter{Agent: in.Agent, Kind: in.Kind, Certificate: in.Certificate}, in.Page())
		if err != nil {
			return nil, err
		}
		views := make([]TargetView, len(found))
		for i, t := range found {
			if views[i], err = s.view(t); err != nil {
				return nil, err
			}
		}
		return rest.NewList(views, next), nil
	})
	rest.Register(api, rest.TargetsWrite, huma.Operation{
		OperationID: "create-target", Method: http.MethodPost, Path: "/api/v1/targets", Tags: tags,
		Summary: "Create a target", DefaultStatus: http.StatusCreated,
	}, func(ctx context.Context, in *createTargetInput) (*rest.Tagged[TargetView], error) {
		return s.tagged(s.CreateTarget(ctx, in.Body))
	})
	rest.Register(api, rest.TargetsRead, huma.Operation{
		OperationID: "get-target", Method: http.MethodGet, Path: "/api/v1/targets/{ref}", Tags: tags, Summary: "Get a target",
	}, func(ctx context.Context, in *targetRefInput) (*rest.Tagged[TargetView], error) {
		return s.tagged(s.Target(ctx, in.Ref))
	})
	rest.Register(api, rest.TargetsWrite, huma.Operation{
		OperationID: "update-target", Method: http.MethodPatch, Path: "/api/v1/targets/{ref}", Tags: tags, Summary: "Change a target",
		Description: "Fields that are left out stay as they are. Other settings have what is deployed there deployed again.",
	}, func(ctx context.Context, in *updateTargetInput) (*rest.Tagged[TargetView], error) {
		return s.tagged(s.UpdateTarget(ctx, in.Ref, in.Check, in.Body))
	})
	rest.Register(api, rest.TargetsWrite, huma.Operation{
		OperationID: "delete-target", Method: http.MethodDelete, Path: "/api/v1/targets/{ref}", Tags: tags, DefaultStatus: http.StatusNoContent,
		Summary: "Delete a target", Description: "Its deployments are forgotten, the one that is open is cancelled. What is deployed there stays.",
	}, func(ctx context.Context, in *deleteTargetInput) (*struct{}, error) {
		return nil, s.DeleteTarget(ctx, in.Ref, in.Check)
	})
}

func (s *Service) tagged(t Target, err error) (*rest.Tagged[TargetView], error) {
	if err != nil {
		return nil, err
	}
	view, err := s.view(t)
	if err != nil {
		return nil, err
	}
	return rest.WithTag(view, t.Revision), nil
}
