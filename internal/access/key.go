package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"github.com/certctl-io/certctl/internal/audit"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
)

// KeyPrefix begins every API key. Secret scanners find keys by it.
const KeyPrefix = "certctl_"

const (
	secretSize = 32 // bytes of randomness in a key

	// usedEvery is how fresh last_used_at is kept: not every call writes.
	usedEvery = time.Minute

	maxNameLength = 100
)

// Key is an API key as it is stored: without its secret.
type Key struct {
	ID         string     `db:"id"`
	Name       string     `db:"name"`
	Role       Role       `db:"role"`
	Hash       []byte     `db:"hash"`
	CreatedAt  time.Time  `db:"created_at"`
	ExpiresAt  *time.Time `db:"expires_at"`
	RevokedAt  *time.Time `db:"revoked_at"`
	LastUsedAt *time.Time `db:"last_used_at"`
}

// State tells whether the key works: active, expired or revoked.
func (k Key) State(now time.Time) string {
	switch {
	case k.RevokedAt != nil:
		return "revoked"
	case k.ExpiresAt != nil && !now.Before(*k.ExpiresAt):
		return "expired"
	default:
		return "active"
	}
}

// Service makes, checks and revokes API keys.
type Service struct {
	db  *db.DB
	now func() time.Time
}

// NewService makes a Service.
func NewService(d *db.DB, now func() time.Time) *Service { return &Service{db: d, now: now} }

// Create makes a key and gives its secret text, which is not stored and cannot
// be shown again.
func (s *Service) Create(ctx context.Context, name string, role Role, expires *time.Time) (Key, secret.String, error) {
	if err := s.checkNew(name, role, expires); err != nil {
		return Key{}, secret.String{}, err
	}
	random := make([]byte, secretSize)
	rand.Read(random)
	text := secret.New(KeyPrefix + base64.RawURLEncoding.EncodeToString(random))
	key, err := s.store(ctx, name, role, expires, text)
	return key, text, err
}

func (s *Service) checkNew(name string, role Role, expires *time.Time) error {
	var wrongName, wrongRole, wrongExpiry *problem.Error
	if name == "" || len(name) > maxNameLength {
		wrongName = problem.Invalid("name", "it has %d characters", len(name)).Hint("use 1 to %d", maxNameLength)
	}
	if !slices.Contains(roles, role) {
		wrongRole = problem.Invalid("role", "there is no role %q", role).Hint("use admin, operator, viewer or metrics")
	}
	if expires != nil && !expires.After(s.now()) {
		wrongExpiry = problem.Invalid("expires_at", "%s is in the past", expires.UTC().Format(time.RFC3339)).
			Hint("use a later time, or leave it out for a key that does not expire")
	}
	return problem.Join(wrongName, wrongRole, wrongExpiry)
}

func (s *Service) store(ctx context.Context, name string, role Role, expires *time.Time, text secret.String) (Key, error) {
	key := Key{ID: id.New("key"), Name: name, Role: role, CreatedAt: s.now(), ExpiresAt: expires, Hash: hash(text.Reveal())}
	err := s.db.InTx(ctx, func(tx *db.Tx) error {
		if err := insertKey(ctx, tx, key); err != nil {
			return err
		}
		return audit.Append(ctx, tx, audit.Change{Action: "api_key.create", ObjectKind: "api_key", ObjectID: key.ID, After: newView(key, s.now())})
	})
	return key, err
}

// EnsureAdmin makes the first admin key and gives its text. It gives none when
// there is a key already.
func (s *Service) EnsureAdmin(ctx context.Context) (text secret.String, made bool, err error) {
	count, err := db.One[int](ctx, s.db.Read(), "SELECT COUNT(*) FROM api_key")
	if err != nil {
		return secret.String{}, false, fmt.Errorf("count API keys: %w", err)
	}
	if count > 0 {
		return secret.String{}, false, nil
	}
	_, text, err = s.Create(ctx, "first admin", Admin, nil)
	return text, err == nil, err
}

// EnsureGiven makes an admin key of a text that the operator chose, if there is
// none of it yet. A key that was revoked stays so.
func (s *Service) EnsureGiven(ctx context.Context, text secret.String) error {
	_, err := findByHash(ctx, s.db.Read(), hash(text.Reveal()))
	if !db.IsNoRows(err) {
		return err
	}
	_, err = s.store(ctx, "given at start", Admin, nil, text)
	if db.IsUnique(err, "api_key", "hash") {
		return nil // another replica was first
	}
	return err
}

// Authenticate finds the key that a caller presents. It is looked up by its
// hash, so the time of the answer tells nothing about keys that exist.
func (s *Service) Authenticate(ctx context.Context, presented string) (Principal, error) {
	key, err := findByHash(ctx, s.db.Read(), hash(presented))
	if db.IsNoRows(err) {
		return Principal{}, problem.Unauthenticated("the API key is not valid").
			Hint("check that it is complete; keys are made with: certctl keys create")
	}
	if err != nil {
		return Principal{}, fmt.Errorf("find API key: %w", err)
	}
	now := s.now()
	switch key.State(now) {
	case "revoked":
		return Principal{}, problem.Unauthenticated("the API key %q is revoked", key.Name).Hint("make a new one: certctl keys create")
	case "expired":
		return Principal{}, problem.Unauthenticated("the API key %q expired at %s", key.Name, key.ExpiresAt.Format(time.RFC3339)).
			Hint("make a new one: certctl keys create")
	}
	if key.LastUsedAt == nil || now.Sub(*key.LastUsedAt) > usedEvery {
		if err := s.db.InTx(ctx, func(tx *db.Tx) error { return touchKey(ctx, tx, key.ID, now) }); err != nil {
			return Principal{}, fmt.Errorf("note use of API key: %w", err)
		}
	}
	return Principal{Kind: KeyPrincipal, ID: key.ID, Name: key.Name, Role: key.Role}, nil
}

// Revoke ends a key at once. Revoking twice is harmless; the last active admin
// key stays, as nobody could make another.
func (s *Service) Revoke(ctx context.Context, keyID string) (Key, error) {
	var key Key
	err := s.db.InTx(ctx, func(tx *db.Tx) (err error) {
		key, err = findKey(ctx, tx, keyID)
		if db.IsNoRows(err) {
			return problem.NotFound("API key", keyID)
		}
		if err != nil || key.RevokedAt != nil {
			return err
		}
		now := s.now()
		if err := s.keepLastAdmin(ctx, tx, key, now); err != nil {
			return err
		}
		before := newView(key, now)
		key.RevokedAt = &now
		if err := revokeKey(ctx, tx, key.ID, now); err != nil {
			return err
		}
		return audit.Append(ctx, tx, audit.Change{
			Action: "api_key.revoke", ObjectKind: "api_key", ObjectID: key.ID, Before: before, After: newView(key, now),
		})
	})
	return key, err
}

func (s *Service) keepLastAdmin(ctx context.Context, tx *db.Tx, key Key, now time.Time) error {
	if key.Role != Admin || key.State(now) != "active" {
		return nil
	}
	// Two revocations at once must not each leave the other's key as the last.
	if err := tx.Lock(ctx, "last-admin"); err != nil {
		return err
	}
	others, err := countActive(ctx, tx, Admin, key.ID, now)
	if err != nil {
		return fmt.Errorf("count admin keys: %w", err)
	}
	if others == 0 {
		return problem.Conflict("this is the last admin key").Hint("make another admin key first: certctl keys create")
	}
	return nil
}

// hash of a key. A key that is made here has 256 random bits, and one that an
// operator chooses is to have as many, so a plain hash is as good as a slow one.
func hash(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}
