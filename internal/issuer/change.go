package issuer

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/certctl-io/certctl/internal/audit"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/problem"
)

// Change is what an update changes; nil leaves a field as it is.
type Change struct {
	Name     *string          `json:"name,omitempty"`
	Enabled  *bool            `json:"enabled,omitempty" doc:"Whether it issues. A disabled issuer still serves the status of what it has issued."`
	Settings *json.RawMessage `json:"settings,omitempty" doc:"All settings; a secret that is shown as [redacted] may be sent back so."`
}

// Update changes an issuer if match accepts its revision.
func (s *Service) Update(ctx context.Context, ref string, match func(revision int) error, change Change) (Issuer, error) {
	var after Issuer
	err := s.db.InTx(ctx, func(tx *db.Tx) error {
		before, err := byRef(ctx, tx, ref, tx.ForUpdate())
		if err != nil {
			return err
		}
		if err := match(before.Revision); err != nil {
			return err
		}
		if after, err = s.changed(before, change); err != nil {
			return err
		}
		if err := update(ctx, tx, after); err != nil {
			return err
		}
		return audit.Append(ctx, tx, audit.Change{
			Action: "issuer.update", ObjectKind: "issuer", ObjectID: after.ID, Before: before.view(), After: after.view(),
		})
	})
	return after, named(after.Name, err)
}

func (s *Service) changed(before Issuer, change Change) (Issuer, error) {
	after := before
	after.Revision++
	after.UpdatedAt = s.now()
	if change.Name != nil && *change.Name != before.Name {
		if before.Name == DefaultName {
			return Issuer{}, problem.Conflict("the issuer %q keeps its name, as certificates that name none have it", DefaultName)
		}
		if err := id.CheckName("iss", *change.Name); err != nil {
			return Issuer{}, err
		}
		after.Name = *change.Name
	}
	if change.Enabled != nil {
		after.Enabled = *change.Enabled
	}
	if change.Settings == nil || bytes.Equal(*change.Settings, before.Settings.V) {
		return after, nil
	}
	return after, s.resettle(&after, *change.Settings)
}

// resettle gives an issuer other settings.
func (s *Service) resettle(i *Issuer, changed json.RawMessage) error {
	driver, err := s.driver(i.Type)
	if err != nil {
		return err
	}
	if _, ok := driver.(Founder); ok {
		return problem.Invalid("settings", "those of an issuer of type %q say what was made once and do not change", i.Type).
			Hint("create another issuer with the settings that you want")
	}
	stored, err := s.settings(*i)
	if err != nil {
		return err
	}
	whole, err := keepSecrets(driver, changed, stored)
	if err != nil {
		return err
	}
	if err := driver.Check(whole); err != nil {
		return err
	}
	return s.seal(i, driver, whole)
}

// Delete removes an issuer that nothing was issued by and no certificate
// names.
func (s *Service) Delete(ctx context.Context, ref string, match func(revision int) error) error {
	err := s.db.InTx(ctx, func(tx *db.Tx) error {
		i, err := byRef(ctx, tx, ref, tx.ForUpdate())
		if err != nil {
			return err
		}
		if err := match(i.Revision); err != nil {
			return err
		}
		if i.Name == DefaultName {
			return problem.Conflict("the issuer %q stays, as certificates that name none have it", DefaultName).Hint("disable it instead")
		}
		if founder, ok := s.drivers[i.Type].(Founder); ok {
			if err := founder.Abandon(ctx, tx, i.ID); err != nil {
				return err
			}
		}
		if err := remove(ctx, tx, i.ID); err != nil {
			return err
		}
		return audit.Append(ctx, tx, audit.Change{Action: "issuer.delete", ObjectKind: "issuer", ObjectID: i.ID, Before: i.view()})
	})
	if db.IsForeignKey(err) {
		return problem.Conflict("the issuer %q is named by certificates or has issued versions", ref).Hint("disable it instead")
	}
	return err
}
