package cli

import (
	"encoding/json"
	"fmt"

	"github.com/certctl-io/certctl/internal/client"
)

type keysCmd struct {
	List   listAPIKeys  `cmd:"" default:"withargs" help:"List API keys."`
	Create keyCreateCmd `cmd:"" help:"Make an API key and print it."`
	Revoke keyRevokeCmd `cmd:"" help:"End an API key."`
}

type keyCreateCmd struct {
	Name     string `arg:"" help:"What it is for."`
	Role     string `required:"" enum:"admin,operator,viewer,metrics" placeholder:"ROLE" help:"What it may do: admin, operator, viewer or metrics."`
	Lifetime string `placeholder:"DURATION" help:"How long it works, such as 90d; by default without an end."`
}

// Help is the long help of the command.
func (keyCreateCmd) Help() string {
	return `The key is shown only now. A viewer reads certificates and what belongs to them; an operator also works with certificates, profiles,
targets and agents; an admin also with API keys and issuers; metrics may read the metrics and nothing else.

Examples:
  certctl keys create "deploy pipeline" --role operator --lifetime 90d
  certctl keys create prometheus --role metrics -o json | jq -r .key`
}

// madeKey is a new API key as scripts get it: with the key, which its type
// otherwise hides.
type madeKey struct {
	client.APIKey
	Key string `json:"key"`
}

// Run makes the key.
func (c keyCreateCmd) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	key, err := api.CreateAPIKey(s.ctx, client.APIKeySpec{Name: c.Name, Role: c.Role, Lifetime: c.Lifetime})
	if err != nil {
		return err
	}
	if s.forPeople() {
		end := "without an end"
		if key.ExpiresAt != nil {
			end = "good until " + stampOf(key.ExpiresAt, s.now())
		}
		fmt.Fprintf(s.out, "API key %q, role %s, %s. It is shown only now:\n\n  %s\n", key.Name, key.Role, end, key.Key.Reveal())
		return nil
	}
	raw, err := json.Marshal(madeKey{key, key.Key.Reveal()})
	if err != nil {
		return fmt.Errorf("encode the key: %w", err)
	}
	return apiKeys().printOne(s, raw)
}

type keyRevokeCmd struct {
	ID string `arg:"" help:"Id of the API key."`
}

// Run ends the key.
func (c keyRevokeCmd) Run(s *session) error {
	return s.revokeByID("API key", c.ID, (*client.Client).RevokeAPIKey)
}
