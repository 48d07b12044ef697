package fleet

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certctl-io/certctl/internal/duration"
	"github.com/certctl-io/certctl/internal/rest"
)

// TokenView is an enrolment token as the API shows it, without the token
// itself.
type TokenView struct {
	ID          string            `json:"id"`
	Description string            `json:"description"`
	Labels      map[string]string `json:"labels" doc:"Given to each agent that joins with it."`
	MaxUses     int               `json:"max_uses" doc:"How many agents may join with it; 0 for any number."`
	Uses        int               `json:"uses" doc:"How many agents have joined with it."`
	Status      TokenState        `json:"status" enum:"active,used_up,expired,revoked"`
	ExpiresAt   *time.Time        `json:"expires_at,omitempty"`
	RevokedAt   *time.Time        `json:"revoked_at,omitempty"`
	CreatedAt   time.Time         `json:"created_at"`
}

// CreatedTokenView is a new enrolment token with its secret, which is shown
// only here.
type CreatedTokenView struct {
	TokenView
	Token string `json:"token" doc:"The token itself. It is shown only now." example:"cet_..."`
}

func tokenView(t EnrolmentToken, now time.Time) TokenView {
	return TokenView{
		ID: t.ID, Description: t.Description, Labels: orEmpty(t.Labels.V), MaxUses: t.MaxUses, Uses: t.Uses, Status: t.State(now),
		ExpiresAt: t.ExpiresAt, RevokedAt: t.RevokedAt, CreatedAt: t.CreatedAt,
	}
}

type createTokenInput struct {
	Body struct {
		Description string            `json:"description,omitempty" doc:"What the token is for." example:"web servers"`
		Labels      map[string]string `json:"labels,omitempty" doc:"Labels for each agent that joins with it; they win over its own."`
		MaxUses     int               `json:"max_uses,omitempty" doc:"How many agents may join with it; any number when left out." example:"1"`
		Lifetime    duration.Duration `json:"lifetime,omitzero" required:"false" example:"1h" doc:"How long agents may join with it; for ever when left out."`
	}
}

type tokenInput struct {
	ID string `path:"id" doc:"Id of the enrolment token."`
}

func (s *Service) tokenRoutes(api huma.API) {
	tags := []string{"Enrolment tokens"}
	rest.Register(api, rest.AgentsRead, huma.Operation{
		OperationID: "list-enrolment-tokens", Method: http.MethodGet, Path: "/api/v1/enrolment-tokens", Tags: tags,
		Summary: "List enrolment tokens", Description: "Sorts: id, created_at.",
	}, func(ctx context.Context, in *rest.ListInput) (*rest.ListOutput[TokenView], error) {
		tokens, next, err := s.Tokens(ctx, in.Page())
		if err != nil {
			return nil, err
		}
		views := make([]TokenView, len(tokens))
		for i, token := range tokens {
			views[i] = tokenView(token, s.now())
		}
		return rest.NewList(views, next), nil
	})
	rest.Register(api, rest.AgentsWrite, huma.Operation{
		OperationID: "create-enrolment-token", Method: http.MethodPost, Path: "/api/v1/enrolment-tokens", Tags: tags,
		Summary: "Create an enrolment token", DefaultStatus: http.StatusCreated,
		Description: "The answer is the only place where the token is shown.",
	}, func(ctx context.Context, in *createTokenInput) (*rest.Output[CreatedTokenView], error) {
		token, text, err := s.CreateToken(ctx, NewEnrolmentToken{
			Description: in.Body.Description, Labels: in.Body.Labels, MaxUses: in.Body.MaxUses, Lifetime: in.Body.Lifetime.Std(),
		})
		if err != nil {
			return nil, err
		}
		return rest.NewOutput(CreatedTokenView{TokenView: tokenView(token, s.now()), Token: text.Reveal()}), nil
	})
	rest.Register(api, rest.AgentsWrite, huma.Operation{
		OperationID: "revoke-enrolment-token", Method: http.MethodDelete, Path: "/api/v1/enrolment-tokens/{id}", Tags: tags,
		Summary: "Revoke an enrolment token", DefaultStatus: http.StatusNoContent,
		Description: "Nobody joins with it any more; it stays in the list. Agents that joined with it stay, too.",
	}, func(ctx context.Context, in *tokenInput) (*struct{}, error) {
		return nil, s.RevokeToken(ctx, in.ID)
	})
}
