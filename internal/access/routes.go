package access

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certctl-io/certctl/internal/duration"
	"github.com/certctl-io/certctl/internal/rest"
)

// KeyView is an API key as the API shows it.
type KeyView struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Role       Role       `json:"role" enum:"admin,operator,viewer,metrics"`
	Status     string     `json:"status" enum:"active,expired,revoked"`
	CreatedAt  time.Time  `json:"created_at"`
	ExpiresAt  *time.Time `json:"expires_at,omitempty"`
	RevokedAt  *time.Time `json:"revoked_at,omitempty"`
	LastUsedAt *time.Time `json:"last_used_at,omitempty" doc:"When it was used last, to the minute."`
}

// CreatedKeyView is a new API key with its secret, which is shown only here.
type CreatedKeyView struct {
	KeyView
	Key string `json:"key" doc:"The key itself. It is shown only now." example:"certctl_..."`
}

func newView(k Key, now time.Time) KeyView {
	return KeyView{
		ID: k.ID, Name: k.Name, Role: k.Role, Status: k.State(now), CreatedAt: k.CreatedAt,
		ExpiresAt: k.ExpiresAt, RevokedAt: k.RevokedAt, LastUsedAt: k.LastUsedAt,
	}
}

type createKeyInput struct {
	Body struct {
		Name     string            `json:"name" doc:"What the key is for." example:"deploy pipeline"`
		Role     Role              `json:"role" enum:"admin,operator,viewer,metrics"`
		Lifetime duration.Duration `json:"lifetime,omitzero" required:"false" example:"90d" doc:"How long it works; for ever when left out."`
	}
}

type keyInput struct {
	ID string `path:"id" doc:"Id of the API key."`
}

// Routes registers the operations of this package.
func (s *Service) Routes(api huma.API) {
	tags := []string{"API keys"}
	rest.Register(api, rest.APIKeysRead, huma.Operation{
		OperationID: "list-api-keys", Method: http.MethodGet, Path: "/api/v1/api-keys", Tags: tags, Summary: "List API keys",
	}, func(ctx context.Context, in *rest.ListInput) (*rest.ListOutput[KeyView], error) {
		return rest.Listed(func(k Key) KeyView { return newView(k, s.now()) })(listKeys(ctx, s.db.Read(), in.Page()))
	})
	rest.Register(api, rest.APIKeysWrite, huma.Operation{
		OperationID: "create-api-key", Method: http.MethodPost, Path: "/api/v1/api-keys", Tags: tags,
		DefaultStatus: http.StatusCreated, Summary: "Create an API key",
		Description: "The answer is the only place where the key is shown.",
	}, func(ctx context.Context, in *createKeyInput) (*rest.Output[CreatedKeyView], error) {
		var expires *time.Time
		if in.Body.Lifetime != 0 {
			at := s.now().Add(in.Body.Lifetime.Std())
			expires = &at
		}
		key, text, err := s.Create(ctx, in.Body.Name, in.Body.Role, expires)
		if err != nil {
			return nil, err
		}
		return rest.NewOutput(CreatedKeyView{KeyView: newView(key, s.now()), Key: text.Reveal()}), nil
	})
	rest.Register(api, rest.APIKeysWrite, huma.Operation{
		OperationID: "revoke-api-key", Method: http.MethodDelete, Path: "/api/v1/api-keys/{id}", Tags: tags,
		DefaultStatus: http.StatusNoContent, Summary: "Revoke an API key",
		Description: "It stops working at once and stays in the list. The last admin key cannot be revoked.",
	}, func(ctx context.Context, in *keyInput) (*struct{}, error) {
		_, err := s.Revoke(ctx, in.ID)
		return nil, err
	})
}
