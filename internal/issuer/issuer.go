// Package issuer owns the configured issuers: which CAs there are, how each is
// reached, and whether it is well. What a CA of some type can do is the
// business of its driver; this package keeps its settings, its secrets sealed.
//
//	settings (secrets sealed) ──► Driver.Open ──► CA: issue, revoke, check
//
// Settings may change at any time and on any replica. Whoever needs a CA asks
// Resolve for it, which opens a new one when the issuer has another revision
// than the one it opened last.
package issuer

import (
	"context"
	"encoding/json"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/pki"
)

// The issuer of the first start: a CA of our own.
const (
	DefaultName = "local"
	DefaultType = "local"
)

// Issuer is a configured CA.
type Issuer struct {
	ID         string                   `db:"id"`
	Name       string                   `db:"name"`
	Type       string                   `db:"type"`
	Revision   int                      `db:"revision"`
	Settings   db.JSON[json.RawMessage] `db:"settings"`        // secrets masked
	Sealed     []byte                   `db:"sealed_settings"` // all settings, when there is a secret among them
	Enabled    bool                     `db:"enabled"`         // issues; the status of what it has issued is served all the same
	CreatedAt  time.Time                `db:"created_at"`
	UpdatedAt  time.Time                `db:"updated_at"`
	CheckedAt  *time.Time               `db:"checked_at"`
	CheckError string                   `db:"check_error"` // what was wrong at the last check; empty when nothing was
}

// Driver is one type of issuer.
type Driver interface {
	// Schema is the JSON Schema (2020-12) of the settings, for forms.
	Schema() json.RawMessage
	// Secrets names the settings that are secret.
	Secrets() []string
	// Check tells whether settings can be used; problems name the field, as in
	// "settings.organization". It connects to nothing.
	Check(settings json.RawMessage) error
	// Open makes a CA that works with the settings.
	Open(ctx context.Context, issuerID string, settings json.RawMessage) (CA, error)
}

// Founder is a Driver that makes the CA, not a connection to one: its issuers
// own keys and certificates in our database. Their settings say what was made
// and so never change, and a secret among them is not kept, as Found has put
// it where it belongs.
type Founder interface {
	Driver
	// Found makes the CA in the transaction that stores its issuer.
	Found(ctx context.Context, tx *db.Tx, issuerID string, settings json.RawMessage) error
	// Abandon deletes what Found made, of an issuer that issued nothing.
	Abandon(ctx context.Context, tx *db.Tx, issuerID string) error
}

// CA is what an issuer is good for.
type CA interface {
	// Issue signs what an order asks for; see pki.Request for how it carries on
	// with an earlier attempt.
	Issue(ctx context.Context, request pki.Request) (pki.Issued, error)
	// Check tells whether the CA could issue now.
	Check(ctx context.Context) error
}

// Chained is a CA that knows its own certificates before it issues one.
type Chained interface {
	// Chain is the signing certificate and what stands above it.
	Chain() pki.Chain
}
