package profile

import (
	"context"
	"time"

	"github.com/certctl-io/certctl/internal/audit"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/duration"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
)

// Service is what can be done with profiles.
type Service struct {
	db    *db.DB
	store Store
	now   func() time.Time
}

// New makes a Service.
func New(d *db.DB, now func() time.Time) *Service { return &Service{db: d, now: now} }

// EnsureDefaults makes the default profile when it does not exist.
func (s *Service) EnsureDefaults(ctx context.Context, tx *db.Tx) error {
	_, err := s.store.ByRef(ctx, tx, Default)
	if problem.KindOf(err) != problem.KindNotFound {
		return err
	}
	return s.add(ctx, tx, s.fresh(Default, defaultSpec()))
}

func (s *Service) fresh(name string, spec Spec) Profile {
	now := s.now()
	return Profile{ID: id.New("prf"), Name: name, Revision: 1, Spec: spec, CreatedAt: now, UpdatedAt: now}
}

func (s *Service) add(ctx context.Context, tx *db.Tx, p Profile) error {
	if err := s.store.insert(ctx, tx, p); err != nil {
		return err
	}
	return audit.Append(ctx, tx, audit.Change{Action: "profile.create", ObjectKind: "profile", ObjectID: p.ID, After: p.view()})
}

// Create makes a profile. What the spec leaves out gets a default.
func (s *Service) Create(ctx context.Context, name string, spec Spec) (Profile, error) {
	if err := id.CheckName("prf", name); err != nil {
		return Profile{}, err
	}
	spec, err := spec.withDefaults().canonical()
	if err != nil {
		return Profile{}, err
	}
	p := s.fresh(name, spec)
	return p, named(name, s.db.InTx(ctx, func(tx *db.Tx) error { return s.add(ctx, tx, p) }))
}

// Get finds a profile by its id or name.
func (s *Service) Get(ctx context.Context, ref string) (Profile, error) {
	return s.ByRef(ctx, s.db.Read(), ref)
}

// ByRef is Get in a transaction of somebody else.
func (s *Service) ByRef(ctx context.Context, q db.Querier, ref string) (Profile, error) {
	return s.store.ByRef(ctx, q, ref)
}

// List gives a page of profiles.
func (s *Service) List(ctx context.Context, page db.Page) ([]Profile, string, error) {
	return s.store.list(ctx, s.db.Read(), page)
}

// Change is what an update changes; nil leaves a field as it is.
type Change struct {
	Name            *string            `json:"name,omitempty"`
	Description     *string            `json:"description,omitempty" maxLength:"500"`
	KeyTypes        *[]pki.KeyType     `json:"key_types,omitempty"`
	DefaultKeyType  *pki.KeyType       `json:"default_key_type,omitempty"`
	MaxLifetime     *duration.Duration `json:"max_lifetime,omitempty"`
	DefaultLifetime *duration.Duration `json:"default_lifetime,omitempty"`
	Names           *Patterns          `json:"names,omitempty" doc:"All patterns of all types; they replace the ones before."`
	AllowCommonName *bool              `json:"allow_common_name,omitempty"`
	Usages          *[]string          `json:"usages,omitempty"`
	PublicTrust     *bool              `json:"public_trust,omitempty"`
	Lint            *string            `json:"lint,omitempty" enum:"error,off"`
}

func (c Change) apply(p Profile) Profile {
	set(&p.Name, c.Name)
	set(&p.Spec.Description, c.Description)
	set(&p.Spec.KeyTypes, c.KeyTypes)
	set(&p.Spec.DefaultKeyType, c.DefaultKeyType)
	set(&p.Spec.MaxLifetime, c.MaxLifetime)
	set(&p.Spec.DefaultLifetime, c.DefaultLifetime)
	set(&p.Spec.Names, c.Names)
	set(&p.Spec.AllowCommonName, c.AllowCommonName)
	set(&p.Spec.Usages, c.Usages)
	set(&p.Spec.PublicTrust, c.PublicTrust)
	set(&p.Spec.Lint, c.Lint)
	return p
}

func set[T any](field, change *T) {
	if change != nil {
		*field = *change
	}
}

// Update changes a profile if match accepts its revision. Certificates that
// use it follow the new rules from their next order on.
func (s *Service) Update(ctx context.Context, ref string, match func(revision int) error, change Change) (Profile, error) {
	var updated Profile
	err := s.db.InTx(ctx, func(tx *db.Tx) error {
		before, err := s.store.lock(ctx, tx, ref)
		if err != nil {
			return err
		}
		if err := match(before.Revision); err != nil {
			return err
		}
		if updated, err = s.changed(before, change); err != nil {
			return err
		}
		if err := s.store.update(ctx, tx, updated); err != nil {
			return err
		}
		return audit.Append(ctx, tx, audit.Change{
			Action: "profile.update", ObjectKind: "profile", ObjectID: updated.ID, Before: before.view(), After: updated.view(),
		})
	})
	return updated, named(updated.Name, err)
}

func (s *Service) changed(before Profile, change Change) (Profile, error) {
	after := change.apply(before)
	if after.Name != before.Name {
		if before.Name == Default {
			return Profile{}, problem.Conflict("the profile %q keeps its name, as certificates that name none have it", Default)
		}
		if err := id.CheckName("prf", after.Name); err != nil {
			return Profile{}, err
		}
	}
	spec, err := after.Spec.canonical()
	if err != nil {
		return Profile{}, err
	}
	after.Spec = spec
	after.Revision++
	after.UpdatedAt = s.now()
	return after, nil
}

// Delete removes a profile that no certificate uses.
func (s *Service) Delete(ctx context.Context, ref string, match func(revision int) error) error {
	err := s.db.InTx(ctx, func(tx *db.Tx) error {
		p, err := s.store.lock(ctx, tx, ref)
		if err != nil {
			return err
		}
		if err := match(p.Revision); err != nil {
			return err
		}
		if p.Name == Default {
			return problem.Conflict("the profile %q stays, as certificates that name none have it", Default)
		}
		if err := s.store.delete(ctx, tx, p.ID); err != nil {
			return err
		}
		return audit.Append(ctx, tx, audit.Change{Action: "profile.delete", ObjectKind: "profile", ObjectID: p.ID, Before: p.view()})
	})
	if db.IsForeignKey(err) {
		return problem.Conflict("the profile %q is used by certificates, archived ones included", ref).
			Hint("give those certificates another profile first")
	}
	return err
}

// named explains the refusal of a name that is taken.
func named(name string, err error) error {
	if db.IsUnique(err, "profile", "name") {
		return problem.Conflict("there is a profile %q already", name).Hint("choose another name, or change that profile")
	}
	return err
}
