// Package profile owns the rules of what may be issued: which keys, for how
// long, for which names, with which usages, and how strictly a certificate is
// linted before it is signed. A profile also holds the defaults for what a
// certificate leaves open.
//
// A profile is checked when a certificate is written and again each time an
// order starts, so a profile that became stricter also holds for renewals.
package profile

import (
	"time"

	"github.com/certctl-io/certctl/internal/duration"
	"github.com/certctl-io/certctl/internal/pki"
)

// Default is the name of the profile that exists from the first start on and
// that certificates have which name none.
const Default = "default"

// Profile is a named set of rules.
type Profile struct {
	ID        string    `db:"id"`
	Name      string    `db:"name"`
	Revision  int       `db:"revision"`
	Spec      Spec      `db:"-"`
	CreatedAt time.Time `db:"created_at"`
	UpdatedAt time.Time `db:"updated_at"`
}

// Spec is what a profile says.
type Spec struct {
	Description     string            `json:"description,omitempty" maxLength:"500" doc:"What the profile is for."`
	KeyTypes        []pki.KeyType     `json:"key_types" nullable:"false" doc:"Key types that a certificate may have: ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072, rsa-4096, ed25519."`
	DefaultKeyType  pki.KeyType       `json:"default_key_type" required:"false" doc:"Key type of certificates that name none; left out, the first of key_types."`
	MaxLifetime     duration.Duration `json:"max_lifetime" example:"398d" doc:"Longest lifetime that a certificate may ask for."`
	DefaultLifetime duration.Duration `json:"default_lifetime" required:"false" example:"90d" doc:"Lifetime of certificates that name none; left out, 90d or max_lifetime when that is less."`
	Names           Patterns          `json:"names" doc:"Names that a certificate may have; a type without a pattern is not allowed."`
	AllowCommonName bool              `json:"allow_common_name" required:"false" doc:"Whether a certificate may repeat one of its names as common name."`
	Usages          []string          `json:"usages" required:"false" nullable:"false" doc:"Extended key usages that certificates get: server_auth, client_auth, code_signing, email_protection; left out, server_auth."`
	PublicTrust     bool              `json:"public_trust" required:"false" doc:"Whether certificates must follow the CA/Browser Forum's rules, too."`
	Lint            string            `json:"lint" required:"false" enum:"error,off" doc:"What a lint finding of the level error does: error refuses the certificate, off issues it without linting."`
}

// Patterns are the names that a profile allows, by type. Their language is
// that of package pki: "**" allows every name of a type, and DNS wildcards only
// where a pattern starts with "wildcard:".
type Patterns struct {
	DNS   []string `json:"dns,omitempty" doc:"example.com, *.example.com (one label), **.example.com (any depth), wildcard:*.example.com (that wildcard), ** (any but wildcards), wildcard:**."`
	IP    []string `json:"ip,omitempty" doc:"Addresses and prefixes, such as 10.0.0.0/8, or **."`
	URI   []string `json:"uri,omitempty" doc:"Beginnings of URIs up to a whole path segment, such as spiffe://example.org/ns/prod, or **."`
	Email []string `json:"email,omitempty" doc:"Addresses or DNS patterns for their domain, or **."`
}

// Wish is what a certificate asks for, as far as profiles rule over it.
type Wish struct {
	CommonName string
	Names      pki.Names
	KeyType    pki.KeyType
	Lifetime   time.Duration
}

// defaultSpec is the profile of the first start: whatever an internal CA may
// sensibly be asked for, with short lifetimes as everything is renewed by
// itself. 398 days is the longest that operating systems accept.
func defaultSpec() Spec {
	return Spec{
		Description:     "For internal servers and services: any name, wildcards included.",
		KeyTypes:        pki.KeyTypes,
		DefaultKeyType:  pki.ECDSAP256,
		MaxLifetime:     duration.Duration(398 * duration.Day),
		DefaultLifetime: duration.Duration(90 * duration.Day),
		Names: Patterns{
			DNS:   []string{pki.MatchAll, "wildcard:" + pki.MatchAll},
			IP:    []string{pki.MatchAll},
			URI:   []string{pki.MatchAll},
			Email: []string{pki.MatchAll},
		},
		AllowCommonName: true,
		Usages:          []string{pki.ServerAuth, pki.ClientAuth},
		Lint:            pki.LintError,
	}
}

// withDefaults fills what a new profile leaves out.
func (s Spec) withDefaults() Spec {
	if s.DefaultKeyType == "" && len(s.KeyTypes) > 0 {
		s.DefaultKeyType = s.KeyTypes[0]
	}
	if s.DefaultLifetime == 0 {
		s.DefaultLifetime = min(s.MaxLifetime, defaultSpec().DefaultLifetime)
	}
	if len(s.Usages) == 0 {
		s.Usages = []string{pki.ServerAuth}
	}
	if s.Lint == "" {
		s.Lint = pki.LintError
	}
	return s
}
