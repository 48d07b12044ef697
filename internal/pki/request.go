package pki

import (
	"context"
	"encoding/json"
	"time"
)

// LintError refuses a certificate with a finding of the level error or fatal;
// LintOff issues it without linting.
const (
	LintError = "error"
	LintOff   = "off"
)

// Request is what an issuer is asked to sign: what the order says, and the
// certificate request of the key holder.
type Request struct {
	OrderID     string
	CSR         []byte // PEM or DER
	CommonName  string // empty, or one of Names
	Names       Names
	KeyType     KeyType
	Lifetime    time.Duration
	Usages      []string
	PublicTrust bool   // follow the CA/Browser Forum's rules, too
	LintLevel   string // LintError or LintOff; empty is LintError

	// Progress is what Save stored in an earlier attempt at this order; nil in
	// the first one. Its form is the driver's own.
	Progress json.RawMessage
	// Save stores progress durably. A driver calls it before it touches
	// anything outside, so that a repeated attempt goes on where it stopped.
	Save func(ctx context.Context, progress json.RawMessage) error
}

// Issued is an issuer's answer.
type Issued struct {
	Chain        Chain         // leaf first, without the root; nil while pending
	Shard        int           // part of the issuer's CRL that this version belongs to
	PendingAfter time.Duration // when positive, the CA has not decided: ask again after this time
}
