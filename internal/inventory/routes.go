package inventory

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certctl-io/certctl/internal/duration"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/rest"
)

// Spec is what a caller says about a new certificate. What is left out takes
// its default.
type Spec struct {
	Name       string            `json:"name,omitempty" doc:"Unique name; left out, the first of names." example:"www.example.com"`
	CommonName string            `json:"common_name,omitempty" doc:"One of the names; left out, the certificate has none."`
	Names      []string          `json:"names" nullable:"false" doc:"DNS names, IP addresses, URIs and e-mail addresses." example:"[\"www.example.com\"]"`
	KeyType    pki.KeyType       `json:"key_type,omitempty" doc:"Left out, the default of the profile."`
	Lifetime   duration.Duration `json:"lifetime,omitempty" doc:"Left out, the default of the profile."`
	Profile    string            `json:"profile,omitempty" doc:"Id or name of the profile; left out, the one called default."`
	Issuer     string            `json:"issuer,omitempty" doc:"Id or name of the issuer; left out, the built-in CA."`
	Owner      string            `json:"owner,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	Targets    []string          `json:"targets,omitempty" doc:"Ids or names of the targets that shall serve it; their agents hold its keys."`
	Renewal    RenewalSpec       `json:"renewal,omitzero" required:"false"`
}

func (s Spec) change() Change {
	return Change{
		Name: &s.Name, CommonName: &s.CommonName, Names: &s.Names, KeyType: &s.KeyType, Lifetime: &s.Lifetime,
		Profile: &s.Profile, Issuer: &s.Issuer, Owner: &s.Owner, Tags: &s.Tags, Targets: &s.Targets, Renewal: &s.Renewal,
	}
}

type refInput struct {
	Ref string `path:"ref" doc:"Id or name of the certificate."`
}

type listInput struct {
	rest.ListInput
	Status        Status    `query:"status" enum:"unassigned,pending,active,expiring,expired,revoked,failing,archived" doc:"Only with this status."`
	Name          string    `query:"name" doc:"Only with this text in what the certificate is called or in one of its names."`
	Issuer        string    `query:"issuer" doc:"Only of this issuer, by id or name."`
	Profile       string    `query:"profile" doc:"Only with this profile, by id or name."`
	Owner         string    `query:"owner" doc:"Only of this owner."`
	Tag           []string  `query:"tag,explode" doc:"Only with this tag, as key:value; repeated, all must hold." example:"[\"team:web\"]"`
	ExpiresBefore time.Time `query:"expires_before" doc:"Only with an active version that ends before this time."`
}

func (in listInput) filter() Filter {
	return Filter{
		Status: in.Status, Name: in.Name, Issuer: in.Issuer, Profile: in.Profile, Owner: in.Owner, Tags: in.Tag, ExpiresBefore: in.ExpiresBefore,
	}
}

type createInput struct{ Body Spec }

type updateInput struct {
	Ref string `path:"ref" doc:"Id or name of the certificate."`
	rest.IfMatch
	Body Change
}

type deleteInput struct {
	Ref string `path:"ref" doc:"Id or name of the certificate."`
	rest.IfMatch
}

type pageInput struct {
	Ref string `path:"ref" doc:"Id or name of the certificate."`
	rest.ListInput
}

var tags = []string{"Certificates"}

// Routes registers the operations on certificates and versions.
func (s *Service) Routes(api huma.API) {
	rest.Register(api, rest.CertificatesRead, huma.Operation{
		OperationID: "list-certificates", Method: http.MethodGet, Path: "/api/v1/certificates", Tags: tags, Summary: "List certificates",
		Description: "Archived certificates are left out unless the status is asked for. Sorts: id, name, created_at, " +
			"and not_after, which gives the certificates with an active version by the end of the one that ends first.",
	}, func(ctx context.Context, in *listInput) (*rest.ListOutput[View], error) {
		return rest.Listed(Standing.view)(s.List(ctx, in.filter(), in.Page()))
	})
	rest.Register(api, rest.CertificatesWrite, huma.Operation{
		OperationID: "create-certificate", Method: http.MethodPost, Path: "/api/v1/certificates", Tags: tags,
		Summary: "Create a certificate", DefaultStatus: http.StatusCreated,
		Description: "Orders start at once for the agents of its targets. A certificate without targets waits until it has some.",
	}, func(ctx context.Context, in *createInput) (*rest.Tagged[View], error) {
		return tagged(s.Create(ctx, in.Body.change()))
	})
	rest.Register(api, rest.CertificatesRead, huma.Operation{
		OperationID: "get-certificate", Method: http.MethodGet, Path: "/api/v1/certificates/{ref}", Tags: tags, Summary: "Get a certificate",
	}, func(ctx context.Context, in *refInput) (*rest.Tagged[View], error) { return tagged(s.Get(ctx, in.Ref)) })
	rest.Register(api, rest.CertificatesWrite, huma.Operation{
		OperationID: "update-certificate", Method: http.MethodPatch, Path: "/api/v1/certificates/{ref}", Tags: tags, Summary: "Change a certificate",
		Description: "Fields that are left out stay as they are. Where what it asks for changes, orders for new versions start at once.",
	}, func(ctx context.Context, in *updateInput) (*rest.Tagged[View], error) {
		return tagged(s.Update(ctx, in.Ref, in.Check, in.Body))
	})
	rest.Register(api, rest.CertificatesWrite, huma.Operation{
		OperationID: "archive-certificate", Method: http.MethodDelete, Path: "/api/v1/certificates/{ref}", Tags: tags,
		Summary: "Archive a certificate", DefaultStatus: http.StatusNoContent,
		Description: "Its targets are released and it is not renewed any more. What is deployed stays until it expires; to make it invalid, revoke it.",
	}, func(ctx context.Context, in *deleteInput) (*struct{}, error) {
		return nil, s.Archive(ctx, in.Ref, in.Check)
	})
	rest.Register(api, rest.CertificatesRead, huma.Operation{
		OperationID: "list-certificate-events", Method: http.MethodGet, Path: "/api/v1/certificates/{ref}/events", Tags: tags,
		Summary: "List the timeline of a certificate", Description: "Sorts: id.",
	}, func(ctx context.Context, in *pageInput) (*rest.ListOutput[Line], error) {
		lines, next, err := s.Timeline(ctx, in.Ref, in.Page())
		if err != nil {
			return nil, err
		}
		return rest.NewList(lines, next), nil
	})
	s.workRoutes(api)
	s.versionRoutes(api)
}

func tagged(c Standing, err error) (*rest.Tagged[View], error) {
	if err != nil {
		return nil, err
	}
	return rest.WithTag(c.view(), c.Revision), nil
}
