package inventory

import (
	"context"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/profile"
)

// Issuers knows the issuers.
type Issuers interface {
	// Issuer gives the id and name of an issuer named by either; empty is the
	// default one. One that does not exist or is disabled is refused.
	Issuer(ctx context.Context, q db.Querier, ref string) (issuerID, name string, err error)
}

// Targets gives targets to certificates.
type Targets interface {
	// Assign makes exactly these, by id or name, the targets of a certificate.
	Assign(ctx context.Context, tx *db.Tx, certificateID string, refs []string) error
	// Redeploy deploys the active versions to all targets again.
	Redeploy(ctx context.Context, tx *db.Tx, certificateID string) (deploymentIDs []string, err error)
}

// Orders gets versions issued.
type Orders interface {
	// Start begins an order for a key holder, or gives the open one.
	Start(ctx context.Context, tx *db.Tx, certificateID, agentID string, reason OrderReason) (orderID string, err error)
	// Reconcile starts and ends orders until they are what the certificate and
	// its targets ask for.
	Reconcile(ctx context.Context, tx *db.Tx, certificateID string, reason OrderReason) error
}

// Revocations publishes that versions were revoked.
type Revocations interface {
	Revoked(ctx context.Context, tx *db.Tx, issuerID, serial string, shard int) error
}

// Config are the parts of a Service. All are needed.
type Config struct {
	DB       *db.DB
	Profiles *profile.Service
	Issuers  Issuers
	Targets  Targets
	Orders   Orders
	Status   Revocations
	Now      func() time.Time
}

// Service is what can be done with certificates.
type Service struct {
	db          *db.DB
	profiles    *profile.Service
	issuers     Issuers
	targets     Targets
	orders      Orders
	revocations Revocations
	now         func() time.Time

	store Store
}

// New makes a Service. It panics when a part is missing, which ends the program
// at start.
func New(c Config) *Service {
	if c.DB == nil || c.Profiles == nil || c.Issuers == nil || c.Targets == nil || c.Orders == nil || c.Status == nil || c.Now == nil {
		panic("inventory: a part of the service is missing")
	}
	return &Service{
		db: c.DB, profiles: c.Profiles, issuers: c.Issuers, targets: c.Targets, orders: c.Orders, revocations: c.Status, now: c.Now,
	}
}

// Get finds a certificate by its id or name, archived ones included.
func (s *Service) Get(ctx context.Context, ref string) (Standing, error) {
	q := s.db.Read()
	c, err := s.store.ByRef(ctx, q, ref)
	if err != nil {
		return Standing{}, err
	}
	return s.standing(ctx, q, c)
}

func (s *Service) standing(ctx context.Context, q db.Querier, c Certificate) (Standing, error) {
	all, err := s.store.standings(ctx, q, []Certificate{c}, s.now())
	if err != nil {
		return Standing{}, err
	}
	return all[0], nil
}

// List gives a page of certificates. Archived ones are left out unless the
// filter asks for their status.
func (s *Service) List(ctx context.Context, f Filter, page db.Page) ([]Standing, string, error) {
	q, now := s.db.Read(), s.now()
	found, next, err := s.store.list(ctx, q, f, now, page)
	if err != nil {
		return nil, "", err
	}
	standings, err := s.store.standings(ctx, q, found, now)
	return standings, next, err
}

// Timeline gives a page of what happened to a certificate, newest first.
func (s *Service) Timeline(ctx context.Context, ref string, page db.Page) ([]Line, string, error) {
	q := s.db.Read()
	c, err := s.store.ByRef(ctx, q, ref)
	if err != nil {
		return nil, "", err
	}
	return s.store.Timeline(ctx, q, c.ID, page)
}

// Versions gives a page of what was issued for a certificate, without the
// chains.
func (s *Service) Versions(ctx context.Context, ref string, page db.Page) ([]NamedVersion, string, error) {
	q := s.db.Read()
	c, err := s.store.ByRef(ctx, q, ref)
	if err != nil {
		return nil, "", err
	}
	return s.store.versions(ctx, q, c.ID, page)
}

// Version reads a version with its chain.
func (s *Service) Version(ctx context.Context, versionID string) (NamedVersion, error) {
	return s.store.named(ctx, s.db.Read(), versionID)
}
