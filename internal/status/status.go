// Package status tells the world which certificates of a CA are revoked: CRLs
// (RFC 5280), partitioned into shards, and OCSP (RFC 6960, in the lightweight
// profile of RFC 5019). It serves them over plain HTTP, since both are signed
// and a client that checks a certificate cannot yet trust one.
//
// Everything served is signed ahead of its use and kept in the database, where
// all replicas find it; each replica holds some of it in memory too. A document
// has three moments:
//
//	this_update -------- refresh -------- next_update
//	   signed       replaced from here on   not served from here on
//
// A revocation throws away the answers for its serial, makes the CRL of its
// shard due, and empties the memory of all replicas, in the transaction that
// marks the version: whoever asks after the commit learns of it.
//
// Two facts that a reader may look for:
//
//   - A nonce in an OCSP request is ignored, as RFC 9654 allows a responder that
//     signs ahead: an answer is bound to its time by this_update and next_update.
//   - A serial that the CA never issued is "unknown" (RFC 6960, 2.2). Such an
//     answer is signed when it is asked for, lives a minute, and is not stored,
//     so asking for many serials fills nothing.
package status

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"time"

	"github.com/certctl-io/certctl/internal/pki"
)

// Authority is what this package needs of a CA: the key that signs
// certificates signs its CRLs and appoints its OCSP responder.
type Authority interface {
	// Chain is the signing certificate and what stands above it.
	Chain() pki.Chain
	// Shards is how many parts the CRL has by now.
	Shards(ctx context.Context) (int, error)
	// SignCRL signs the CRL of one shard.
	SignCRL(shard int, number int64, revoked []x509.RevocationListEntry, thisUpdate, nextUpdate time.Time) ([]byte, error)
	// NewOCSPResponder makes a delegated responder (RFC 6960, 4.2.2.2).
	NewOCSPResponder() (certificate []byte, key crypto.Signer, err error)
}

// Authorities finds the CA behind an issuer. It answers a not-found problem
// for an issuer that does not exist or whose status is served elsewhere.
type Authorities interface {
	Authority(ctx context.Context, issuerID string) (Authority, error)
}

const (
	// documentLife is the time from this_update to next_update of CRLs and OCSP
	// responses. The Baseline Requirements, 4.9.7 and 4.9.10, ask for less than
	// ten days; a day bounds how long a cache can hide a revocation.
	documentLife = 24 * time.Hour

	// refreshAfter is the age at which a document is replaced. It leaves the
	// other half of its life to mend a server that is down.
	refreshAfter = documentLife / 2

	// unknownLife is the life of an answer for a serial that is not known.
	unknownLife = time.Minute
)

// document is something signed, as it is served.
type document struct {
	body       []byte
	thisUpdate time.Time
	nextUpdate time.Time
	refreshAt  time.Time
	stored     bool // it stands in the database, and so may be kept in memory
}

func newDocument(body []byte, thisUpdate time.Time) document {
	return document{
		body: body, thisUpdate: thisUpdate, nextUpdate: thisUpdate.Add(documentLife),
		refreshAt: thisUpdate.Add(refreshAfter), stored: true,
	}
}

// servable reports whether a client would still accept the document.
func (d document) servable(now time.Time) bool {
	return len(d.body) > 0 && now.Before(d.nextUpdate)
}

// etag is the strong validator of the document (RFC 9110, 8.8.3).
func (d document) etag() string {
	sum := sha256.Sum256(d.body)
	return `"` + hex.EncodeToString(sum[:16]) + `"`
}

// keptOnCRL gives the moment from which on an expired certificate must still
// be listed: an entry stays until it stood on a CRL that was issued after its
// certificate expired (RFC 5280, 3.3). A full life of a CRL is added, so that
// one of those was a scheduled one.
func keptOnCRL(previous, now time.Time) time.Time {
	kept := now.Add(-documentLife)
	if !previous.IsZero() && previous.Before(kept) {
		return previous
	}
	return kept
}
