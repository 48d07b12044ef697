package issuer

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certctl-io/certctl/internal/rest"
)

// View is an issuer as the API shows it.
type View struct {
	ID         string          `json:"id"`
	Name       string          `json:"name"`
	Type       string          `json:"type" example:"local"`
	Enabled    bool            `json:"enabled"`
	Settings   json.RawMessage `json:"settings" doc:"Settings of its type, secrets masked."`
	CheckedAt  *time.Time      `json:"checked_at,omitempty" doc:"When its CA was last asked whether it could issue."`
	CheckError string          `json:"check_error,omitempty" doc:"Why it could not; absent when it could."`
	CreatedAt  time.Time       `json:"created_at"`
	UpdatedAt  time.Time       `json:"updated_at"`
	Revision   int             `json:"revision"`
}

func (i Issuer) view() View {
	return View{
		ID: i.ID, Name: i.Name, Type: i.Type, Enabled: i.Enabled, Settings: i.Settings.V, CheckedAt: i.CheckedAt,
		CheckError: i.CheckError, CreatedAt: i.CreatedAt, UpdatedAt: i.UpdatedAt, Revision: i.Revision,
	}
}

// TypeView is a type of issuer as the API shows it.
type TypeView struct {
	Type   string          `json:"type"`
	Schema json.RawMessage `json:"schema" doc:"JSON Schema (2020-12) of the settings."`
}

// ChainView is the chain of an issuer as the API shows it.
type ChainView struct {
	PEM string `json:"pem" doc:"CA certificates in PEM, the signing one first."`
}

type refInput struct {
	Ref string `path:"ref" doc:"Id or name of the issuer."`
}

type createInput struct {
	Body struct {
		Name     string          `json:"name" doc:"Unique name." example:"internal"`
		Type     string          `json:"type" doc:"One of the issuer types." example:"local"`
		Settings json.RawMessage `json:"settings,omitempty" doc:"Settings of the type; see the issuer types for their schema."`
	}
}

type updateInput struct {
	Ref string `path:"ref" doc:"Id or name of the issuer."`
	rest.IfMatch
	Body Change
}

type deleteInput struct {
	Ref string `path:"ref" doc:"Id or name of the issuer."`
	rest.IfMatch
}

var tags = []string{"Issuers"}

// Routes registers the operations on issuers.
func (s *Service) Routes(api huma.API) {
	s.readRoutes(api)
	rest.Register(api, rest.IssuersWrite, huma.Operation{
		OperationID: "create-issuer", Method: http.MethodPost, Path: "/api/v1/issuers", Tags: tags,
		Summary: "Create an issuer", DefaultStatus: http.StatusCreated,
		Description: "An issuer of the type local is a CA of its own, made at once.",
	}, func(ctx context.Context, in *createInput) (*rest.Tagged[View], error) {
		return tagged(s.Create(ctx, in.Body.Name, in.Body.Type, in.Body.Settings))
	})
	rest.Register(api, rest.IssuersWrite, huma.Operation{
		OperationID: "update-issuer", Method: http.MethodPatch, Path: "/api/v1/issuers/{ref}", Tags: tags, Summary: "Change an issuer",
		Description: "Fields that are left out stay as they are.",
	}, func(ctx context.Context, in *updateInput) (*rest.Tagged[View], error) {
		return tagged(s.Update(ctx, in.Ref, in.Check, in.Body))
	})
	rest.Register(api, rest.IssuersWrite, huma.Operation{
		OperationID: "delete-issuer", Method: http.MethodDelete, Path: "/api/v1/issuers/{ref}", Tags: tags,
		Summary: "Delete an issuer that nothing uses", DefaultStatus: http.StatusNoContent,
	}, func(ctx context.Context, in *deleteInput) (*struct{}, error) {
		return nil, s.Delete(ctx, in.Ref, in.Check)
	})
	rest.Register(api, rest.IssuersWrite, huma.Operation{
		OperationID: "check-issuer", Method: http.MethodPost, Path: "/api/v1/issuers/{ref}/check", Tags: tags,
		Summary: "Ask an issuer whether it could issue now",
	}, func(ctx context.Context, in *refInput) (*rest.Output[View], error) {
		checked, err := s.CheckNow(ctx, in.Ref)
		if err != nil {
			return nil, err
		}
		return rest.NewOutput(checked.view()), nil
	})
}

func (s *Service) readRoutes(api huma.API) {
	rest.Register(api, rest.IssuersRead, huma.Operation{
		OperationID: "list-issuers", Method: http.MethodGet, Path: "/api/v1/issuers", Tags: tags,
		Summary: "List issuers", Description: "Sorts: id, name, created_at.",
	}, func(ctx context.Context, in *rest.ListInput) (*rest.ListOutput[View], error) {
		return rest.Listed(Issuer.view)(s.List(ctx, in.Page()))
	})
	rest.Register(api, rest.IssuersRead, huma.Operation{
		OperationID: "list-issuer-types", Method: http.MethodGet, Path: "/api/v1/issuer-types", Tags: tags,
		Summary: "List the types of issuers with the schemas of their settings",
	}, func(context.Context, *rest.ListInput) (*rest.ListOutput[TypeView], error) {
		var views []TypeView
		for _, kind := range s.Types() {
			views = append(views, TypeView{Type: kind, Schema: s.drivers[kind].Schema()})
		}
		return rest.NewList(views, ""), nil
	})
	rest.Register(api, rest.IssuersRead, huma.Operation{
		OperationID: "get-issuer", Method: http.MethodGet, Path: "/api/v1/issuers/{ref}", Tags: tags, Summary: "Get an issuer",
	}, func(ctx context.Context, in *refInput) (*rest.Tagged[View], error) {
		return tagged(s.Get(ctx, in.Ref))
	})
	rest.Register(api, rest.IssuersRead, huma.Operation{
		OperationID: "get-issuer-chain", Method: http.MethodGet, Path: "/api/v1/issuers/{ref}/chain", Tags: tags,
		Summary: "Get the CA certificates of an issuer", Description: "What clients of its certificates must trust is the last one.",
	}, func(ctx context.Context, in *refInput) (*rest.Output[ChainView], error) {
		chain, err := s.Chain(ctx, in.Ref)
		if err != nil {
			return nil, err
		}
		return rest.NewOutput(ChainView{PEM: string(chain.PEM())}), nil
	})
}

func tagged(i Issuer, err error) (*rest.Tagged[View], error) {
	if err != nil {
		return nil, err
	}
	return rest.WithTag(i.view(), i.Revision), nil
}
