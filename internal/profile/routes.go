package profile

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certctl-io/certctl/internal/rest"
)

// View is a profile as the API shows it.
type View struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Spec
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
	Revision  int       `json:"revision"`
}

func (p Profile) view() View {
	return View{ID: p.ID, Name: p.Name, Spec: p.Spec, CreatedAt: p.CreatedAt, UpdatedAt: p.UpdatedAt, Revision: p.Revision}
}

type refInput struct {
	Ref string `path:"ref" doc:"Id or name of the profile."`
}

type createInput struct {
	Body struct {
		Name string `json:"name" doc:"Unique name." example:"internal"`
		Spec
	}
}

type updateInput struct {
	Ref string `path:"ref" doc:"Id or name of the profile."`
	rest.IfMatch
	Body Change
}

type deleteInput struct {
	Ref string `path:"ref" doc:"Id or name of the profile."`
	rest.IfMatch
}

// Routes registers the operations on profiles.
func (s *Service) Routes(api huma.API) {
	tags := []string{"Profiles"}
	rest.Register(api, rest.ProfilesRead, huma.Operation{
		OperationID: "list-profiles", Method: http.MethodGet, Path: "/api/v1/profiles", Tags: tags,
		Summary: "List profiles", Description: "Sorts: id, name, created_at.",
	}, func(ctx context.Context, in *rest.ListInput) (*rest.ListOutput[View], error) {
		return rest.Listed(Profile.view)(s.List(ctx, in.Page()))
	})
	rest.Register(api, rest.ProfilesWrite, huma.Operation{
		OperationID: "create-profile", Method: http.MethodPost, Path: "/api/v1/profiles", Tags: tags,
		Summary: "Create a profile", DefaultStatus: http.StatusCreated,
	}, func(ctx context.Context, in *createInput) (*rest.Tagged[View], error) {
		return tagged(s.Create(ctx, in.Body.Name, in.Body.Spec))
	})
	rest.Register(api, rest.ProfilesRead, huma.Operation{
		OperationID: "get-profile", Method: http.MethodGet, Path: "/api/v1/profiles/{ref}", Tags: tags, Summary: "Get a profile",
	}, func(ctx context.Context, in *refInput) (*rest.Tagged[View], error) {
		return tagged(s.Get(ctx, in.Ref))
	})
	rest.Register(api, rest.ProfilesWrite, huma.Operation{
		OperationID: "update-profile", Method: http.MethodPatch, Path: "/api/v1/profiles/{ref}", Tags: tags, Summary: "Change a profile",
		Description: "Fields that are left out stay as they are. Certificates that use the profile follow the new rules from their next order on.",
	}, func(ctx context.Context, in *updateInput) (*rest.Tagged[View], error) {
		return tagged(s.Update(ctx, in.Ref, in.Check, in.Body))
	})
	rest.Register(api, rest.ProfilesWrite, huma.Operation{
		OperationID: "delete-profile", Method: http.MethodDelete, Path: "/api/v1/profiles/{ref}", Tags: tags,
		Summary: "Delete a profile that no certificate uses", DefaultStatus: http.StatusNoContent,
	}, func(ctx context.Context, in *deleteInput) (*struct{}, error) {
		return nil, s.Delete(ctx, in.Ref, in.Check)
	})
}

func tagged(p Profile, err error) (*rest.Tagged[View], error) {
	if err != nil {
		return nil, err
	}
	return rest.WithTag(p.view(), p.Revision), nil
}
