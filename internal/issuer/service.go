package issuer

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/certctl-io/certctl/internal/audit"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
)

// checkTimeout bounds the time in which a CA must answer a check.
const checkTimeout = 20 * time.Second

// Config is what a Service is made of; every field is needed.
type Config struct {
	DB      *db.DB
	Box     *secret.Box
	Drivers map[string]Driver // by issuer type
	Now     func() time.Time
	Logger  *slog.Logger
}

// Service is what can be done with issuers.
type Service struct {
	db      *db.DB
	box     *secret.Box
	drivers map[string]Driver
	now     func() time.Time
	log     *slog.Logger

	mu   sync.Mutex
	open map[string]opened // by issuer id
}

// opened is a CA, as of a revision of its issuer.
type opened struct {
	revision int
	ca       CA
}

// New makes a Service.
func New(c Config) *Service {
	return &Service{db: c.DB, box: c.Box, drivers: c.Drivers, now: c.Now, log: c.Logger, open: map[string]opened{}}
}

// Types lists the types of issuers that this program knows.
func (s *Service) Types() []string { return slices.Sorted(maps.Keys(s.drivers)) }

// EnsureDefaults makes the built-in CA of the first start, with these settings,
// when there is no issuer at all.
func (s *Service) EnsureDefaults(ctx context.Context, tx *db.Tx, settings json.RawMessage) error {
	count, err := countIssuers(ctx, tx)
	if err != nil || count > 0 {
		return err
	}
	_, err = s.add(ctx, tx, DefaultName, DefaultType, settings)
	return err
}

// Create makes an issuer. Its settings are checked, but its CA need not be
// there yet.
func (s *Service) Create(ctx context.Context, name, kind string, settings json.RawMessage) (Issuer, error) {
	if err := id.CheckName("iss", name); err != nil {
		return Issuer{}, err
	}
	driver, err := s.driver(kind)
	if err != nil {
		return Issuer{}, err
	}
	if err := driver.Check(settings); err != nil {
		return Issuer{}, err
	}
	var created Issuer
	err = s.db.InTx(ctx, func(tx *db.Tx) error {
		created, err = s.add(ctx, tx, name, kind, settings)
		return err
	})
	return created, named(name, err)
}

func (s *Service) driver(kind string) (Driver, error) {
	driver, known := s.drivers[kind]
	if !known {
		return nil, problem.Invalid("type", "there is no issuer type %q", kind).Hint("use one of %s", strings.Join(s.Types(), ", "))
	}
	return driver, nil
}

func (s *Service) add(ctx context.Context, tx *db.Tx, name, kind string, settings json.RawMessage) (Issuer, error) {
	now := s.now()
	i := Issuer{ID: id.New("iss"), Name: name, Type: kind, Revision: 1, Enabled: true, CreatedAt: now, UpdatedAt: now}
	driver := s.drivers[kind]
	founder, founds := driver.(Founder)
	kept := settings
	if founds {
		var err error
		if kept, err = withoutSecrets(driver, settings); err != nil {
			return Issuer{}, err
		}
	}
	if err := s.seal(&i, driver, kept); err != nil {
		return Issuer{}, err
	}
	if err := insert(ctx, tx, i); err != nil {
		return Issuer{}, err
	}
	if founds {
		if err := founder.Found(ctx, tx, i.ID, settings); err != nil {
			return Issuer{}, err
		}
	}
	return i, s.created(ctx, tx, i)
}

func (s *Service) created(ctx context.Context, tx *db.Tx, i Issuer) error {
	return audit.Append(ctx, tx, audit.Change{Action: "issuer.create", ObjectKind: "issuer", ObjectID: i.ID, After: i.view()})
}

func purpose(issuerID string) string { return "issuer/" + issuerID }

// seal puts settings into an issuer: as they may be shown, and whole and
// encrypted when there is a secret among them.
func (s *Service) seal(i *Issuer, driver Driver, settings json.RawMessage) error {
	shown, secrets, err := maskSecrets(driver, settings)
	if err != nil {
		return err
	}
	i.Settings = db.AsJSON(shown)
	i.Sealed = nil
	if !secrets {
		return nil
	}
	if i.Sealed, err = s.box.Seal(purpose(i.ID), settings); err != nil {
		return fmt.Errorf("seal settings of issuer %s: %w", i.Name, err)
	}
	return nil
}

// settings gives the settings of an issuer with their secrets.
func (s *Service) settings(i Issuer) (json.RawMessage, error) {
	if i.Sealed == nil {
		return i.Settings.V, nil
	}
	whole, err := s.box.Open(purpose(i.ID), i.Sealed)
	if err != nil {
		return nil, fmt.Errorf("open settings of issuer %s: %w", i.Name, err)
	}
	return whole, nil
}

// Get finds an issuer by its id or name.
func (s *Service) Get(ctx context.Context, ref string) (Issuer, error) {
	return byRef(ctx, s.db.Read(), ref, "")
}

// List gives a page of issuers.
func (s *Service) List(ctx context.Context, page db.Page) ([]Issuer, string, error) {
	return listIssuers(ctx, s.db.Read(), page)
}

// Issuer tells the id and name of the issuer that a certificate names by
// either; empty is the one of the first start. One that is disabled is
// refused.
func (s *Service) Issuer(ctx context.Context, q db.Querier, ref string) (issuerID, name string, err error) {
	if ref == "" {
		ref = DefaultName
	}
	i, err := byRef(ctx, q, ref, "")
	if problem.KindOf(err) == problem.KindNotFound {
		return "", "", problem.Invalid("issuer", "there is no issuer %q", ref).Hint("see certctl list issuers")
	}
	if err != nil {
		return "", "", err
	}
	if !i.Enabled {
		return "", "", problem.Invalid("issuer", "%q is disabled", i.Name).Hint("enable it, or name another issuer")
	}
	return i.ID, i.Name, nil
}

// Resolve gives the CA of an issuer, opened with its settings of now. A
// disabled issuer is a conflict.
func (s *Service) Resolve(ctx context.Context, issuerID string) (CA, error) {
	i, err := s.Get(ctx, issuerID)
	if err != nil {
		return nil, err
	}
	if !i.Enabled {
		return nil, problem.Conflict("issuer %q is disabled", i.Name).Hint("enable it, then retry the order")
	}
	return s.openCA(ctx, i)
}

func (s *Service) openCA(ctx context.Context, i Issuer) (CA, error) {
	s.mu.Lock()
	known, found := s.open[i.ID]
	s.mu.Unlock()
	if found && known.revision == i.Revision {
		return known.ca, nil
	}
	driver, err := s.driver(i.Type)
	if err != nil {
		return nil, err
	}
	settings, err := s.settings(i)
	if err != nil {
		return nil, err
	}
	ca, err := driver.Open(ctx, i.ID, settings)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[i.ID] = opened{revision: i.Revision, ca: ca}
	return ca, nil
}

// Chain gives the certificates of an issuer, the signing one first.
func (s *Service) Chain(ctx context.Context, ref string) (pki.Chain, error) {
	i, err := s.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	ca, err := s.openCA(ctx, i)
	if err != nil {
		return nil, err
	}
	chained, ok := ca.(Chained)
	if !ok {
		return nil, problem.Conflict("issuer %q does not tell its certificates before it has issued one", i.Name)
	}
	return chained.Chain(), nil
}

// CheckNow asks the CA of an issuer whether it could issue, and stores what it
// said. That the CA is not well is part of the result and no error.
func (s *Service) CheckNow(ctx context.Context, ref string) (Issuer, error) {
	i, err := s.Get(ctx, ref)
	if err != nil {
		return Issuer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	i.CheckError = ""
	ca, err := s.openCA(ctx, i)
	if err == nil {
		err = ca.Check(ctx)
	}
	if err != nil {
		i.CheckError = shown(err)
	}
	at := s.now()
	i.CheckedAt = &at
	return i, s.db.InTx(ctx, func(tx *db.Tx) error { return setChecked(ctx, tx, i.ID, at, i.CheckError) })
}

// shown gives an error as people may read it: a problem is meant for them.
func shown(err error) string {
	if found, ok := problem.As(err); ok && found.Message != "" {
		return found.Error()
	}
	return err.Error()
}

// named explains the refusal of a name that is taken.
func named(name string, err error) error {
	if db.IsUnique(err, "issuer", "name") {
		return problem.Conflict("there is an issuer %q already", name).Hint("choose another name")
	}
	return err
}
