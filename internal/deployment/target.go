package deployment

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/targets"
)

// Target is a place a certificate goes. Its settings are kept in two parts, as
// what is secret of them is sealed.
type Target struct {
	ID            string          `db:"id"`
	Name          string          `db:"name"`
	Revision      int             `db:"revision"`
	AgentID       string          `db:"agent_id"`
	Agent         string          `db:"agent"` // the agent's name
	Kind          string          `db:"kind"`
	Settings      json.RawMessage `db:"-"` // without the secret ones
	Sealed        []byte          `db:"sealed_settings"`
	CertificateID string          `db:"certificate_id"` // empty when it has none
	Certificate   string          `db:"certificate"`    // the certificate's name
	CreatedAt     time.Time       `db:"created_at"`
	UpdatedAt     time.Time       `db:"updated_at"`
}

// TargetView is a target as the API and the audit log show it.
type TargetView struct {
	ID          string          `json:"id"`
	Name        string          `json:"name"`
	Agent       string          `json:"agent" doc:"Name of the agent that deploys there."`
	Kind        string          `json:"kind"`
	Settings    json.RawMessage `json:"settings" doc:"Settings of the kind, secrets masked."`
	Certificate string          `json:"certificate,omitempty" doc:"Name of the certificate that goes there."`
	CreatedAt   time.Time       `json:"created_at"`
	UpdatedAt   time.Time       `json:"updated_at"`
	Revision    int             `json:"revision"`
}

// KindView is a kind of target as the API shows it.
type KindView struct {
	Name   string          `json:"name" example:"nginx"`
	Schema json.RawMessage `json:"schema" doc:"JSON Schema (2020-12) of the settings."`
}

// Kinds lists the kinds of target by their names.
func (s *Service) Kinds() []KindView {
	views := make([]KindView, 0, len(s.kinds))
	for _, name := range slices.Sorted(maps.Keys(s.kinds)) {
		views = append(views, KindView{Name: name, Schema: s.kinds[name].Schema()})
	}
	return views
}

func (s *Service) kind(name string) (targets.Kind, error) {
	if kind, known := s.kinds[name]; known {
		return kind, nil
	}
	return nil, problem.Invalid("kind", "%q is not a kind of target", name).
		Hint("use one of %s", strings.Join(slices.Sorted(maps.Keys(s.kinds)), ", "))
}

// purpose binds sealed settings to their target.
func purpose(targetID string) string { return "target/" + targetID }

// setSettings checks settings and puts them into a target, the secret ones
// sealed.
func (s *Service) setSettings(t *Target, settings json.RawMessage) error {
	kind, err := s.kind(t.Kind)
	if err != nil {
		return err
	}
	if err := kind.Check(settings); err != nil {
		return err
	}
	plain, secrets, err := targets.SplitSecrets(kind, settings)
	if err != nil {
		return err
	}
	t.Settings, t.Sealed = plain, nil
	if string(secrets) == "{}" {
		return nil
	}
	if t.Sealed, err = s.box.Seal(purpose(t.ID), secrets); err != nil {
		return fmt.Errorf("seal settings of target %s: %w", t.Name, err)
	}
	return nil
}

// settings gives the settings whole, members in alphabetical order.
func (s *Service) settings(t Target) (json.RawMessage, error) {
	var secrets []byte
	if t.Sealed != nil {
		var err error
		if secrets, err = s.box.Open(purpose(t.ID), t.Sealed); err != nil {
			return nil, fmt.Errorf("open settings of target %s: %w", t.Name, err)
		}
	}
	return targets.JoinSecrets(t.Settings, secrets)
}

func (s *Service) view(t Target) (TargetView, error) {
	whole, err := s.settings(t)
	if err != nil {
		return TargetView{}, err
	}
	// Of a kind that an older release does not know, nothing is known to be
	// safe to show but what was never sealed.
	shown := t.Settings
	if kind, known := s.kinds[t.Kind]; known {
		if shown, err = targets.MaskSecrets(kind, whole); err != nil {
			return TargetView{}, err
		}
	}
	return TargetView{
		ID: t.ID, Name: t.Name, Agent: t.Agent, Kind: t.Kind, Settings: shown, Certificate: t.Certificate,
		CreatedAt: t.CreatedAt, UpdatedAt: t.UpdatedAt, Revision: t.Revision,
	}, nil
}
