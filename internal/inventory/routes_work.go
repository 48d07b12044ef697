package inventory

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certctl-io/certctl/internal/rest"
)

type renewInput struct {
	Ref  string `path:"ref" doc:"Id or name of the certificate."`
	Body struct {
		Agents []string `json:"agents,omitempty" doc:"Ids or names of the key holders that get a new version; left out, all."`
	}
}

type revokeInput struct {
	Ref  string `path:"ref" doc:"Id or name of the certificate."`
	Body struct {
		Reason  string `json:"reason,omitempty" doc:"Reason by RFC 5280; left out, unspecified." example:"keyCompromise"`
		Reissue bool   `json:"reissue,omitempty" doc:"Whether orders for new versions with new keys start at once."`
	}
}

type revokeVersionInput struct {
	ID   string `path:"id" doc:"Id of the version."`
	Body struct {
		Reason string `json:"reason,omitempty" doc:"Reason by RFC 5280; left out, unspecified." example:"superseded"`
	}
}

// deployInput takes an empty object, so that options can be added to it.
type deployInput struct {
	Ref  string    `path:"ref" doc:"Id or name of the certificate."`
	Body *struct{} `required:"false"`
}

type versionInput struct {
	ID string `path:"id" doc:"Id of the version."`
}

// RenewView names the orders of a renewal.
type RenewView struct {
	Orders []string `json:"orders" nullable:"false" doc:"Ids of the orders, one for each key holder."`
}

// DeployView names the deployments of a certificate.
type DeployView struct {
	Deployments []string `json:"deployments" nullable:"false" doc:"Ids of the deployments, one for each target."`
}

func (s *Service) workRoutes(api huma.API) {
	rest.Register(api, rest.CertificatesWrite, huma.Operation{
		OperationID: "renew-certificate", Method: http.MethodPost, Path: "/api/v1/certificates/{ref}/renew", Tags: tags,
		Summary: "Renew a certificate now", DefaultStatus: http.StatusAccepted,
		Description: "Each key holder makes a new key and gets a new version. Orders that are open already are answered as they are.",
	}, func(ctx context.Context, in *renewInput) (*rest.Output[RenewView], error) {
		orders, err := s.Renew(ctx, in.Ref, in.Body.Agents)
		if err != nil {
			return nil, err
		}
		return rest.NewOutput(RenewView{Orders: orders}), nil
	})
	rest.Register(api, rest.CertificatesWrite, huma.Operation{
		OperationID: "deploy-certificate", Method: http.MethodPost, Path: "/api/v1/certificates/{ref}/deploy", Tags: tags,
		Summary: "Deploy the active versions again", DefaultStatus: http.StatusAccepted,
	}, func(ctx context.Context, in *deployInput) (*rest.Output[DeployView], error) {
		deployments, err := s.Deploy(ctx, in.Ref)
		if err != nil {
			return nil, err
		}
		return rest.NewOutput(DeployView{Deployments: deployments}), nil
	})
	rest.Register(api, rest.CertificatesWrite, huma.Operation{
		OperationID: "revoke-certificate", Method: http.MethodPost, Path: "/api/v1/certificates/{ref}/revoke", Tags: tags,
		Summary:     "Revoke a certificate",
		Description: "Revokes all its versions that are still valid, those that were replaced included. It cannot be undone.",
	}, func(ctx context.Context, in *revokeInput) (*rest.Tagged[View], error) {
		reason, err := ParseRevocationReason(in.Body.Reason)
		if err != nil {
			return nil, err
		}
		return tagged(s.Revoke(ctx, in.Ref, reason, in.Body.Reissue))
	})
}

func (s *Service) versionRoutes(api huma.API) {
	rest.Register(api, rest.CertificatesRead, huma.Operation{
		OperationID: "list-certificate-versions", Method: http.MethodGet, Path: "/api/v1/certificates/{ref}/versions", Tags: tags,
		Summary: "List what was issued for a certificate", Description: "Sorts: id, created_at.",
	}, func(ctx context.Context, in *pageInput) (*rest.ListOutput[VersionView], error) {
		return rest.Listed(func(v NamedVersion) VersionView { return v.view(s.now()) })(s.Versions(ctx, in.Ref, in.Page()))
	})
	rest.Register(api, rest.CertificatesRead, huma.Operation{
		OperationID: "get-version", Method: http.MethodGet, Path: "/api/v1/versions/{id}", Tags: tags, Summary: "Get a version with its chain",
	}, func(ctx context.Context, in *versionInput) (*rest.Output[VersionView], error) {
		return s.shown(s.Version(ctx, in.ID))
	})
	rest.Register(api, rest.CertificatesWrite, huma.Operation{
		OperationID: "revoke-version", Method: http.MethodPost, Path: "/api/v1/versions/{id}/revoke", Tags: tags, Summary: "Revoke one version",
		Description: "It cannot be undone. Revoking it again for the same reason changes nothing.",
	}, func(ctx context.Context, in *revokeVersionInput) (*rest.Output[VersionView], error) {
		reason, err := ParseRevocationReason(in.Body.Reason)
		if err != nil {
			return nil, err
		}
		return s.shown(s.RevokeVersion(ctx, in.ID, reason))
	})
}

func (s *Service) shown(v NamedVersion, err error) (*rest.Output[VersionView], error) {
	if err != nil {
		return nil, err
	}
	return rest.NewOutput(v.view(s.now())), nil
}
