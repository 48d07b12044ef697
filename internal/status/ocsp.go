package status

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" //nolint:gosec // CertIDs of RFC 5019; it names, it does not protect
	_ "crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/certctl-io/certctl/internal/pki"
)

// errMalformed reports a request that is not one OCSP request for one
// certificate.
var errMalformed = errors.New("malformed OCSP request")

// errUnauthorized reports a request about a CA that this responder does not
// answer for (RFC 5019, 2.2.3).
var errUnauthorized = errors.New("not a certificate of this CA")

// query is an OCSP request that was understood.
type query struct {
	hash       crypto.Hash
	nameHash   []byte
	keyHash    []byte
	serial     *big.Int
	hashSymbol string // how the hash is named in the database
}

// hashSymbols are the hashes that a CertID may use.
var hashSymbols = map[crypto.Hash]string{crypto.SHA1: "sha1", crypto.SHA256: "sha256"}

// parseQuery reads a request in DER. It must ask for exactly one certificate
// (RFC 5019, 2.1.1); extensions are ignored, as none changes the answer.
func parseQuery(der []byte) (query, error) {
	request, err := ocsp.ParseRequest(der)
	if err != nil {
		return query{}, fmt.Errorf("%w: %w", errMalformed, err)
	}
	if n, err := countRequests(der); err != nil || n != 1 {
		return query{}, fmt.Errorf("%w: it asks for %d certificates", errMalformed, n)
	}
	symbol, known := hashSymbols[request.HashAlgorithm]
	if !known {
		return query{}, fmt.Errorf("%w: its hash is not SHA-1 or SHA-256", errUnauthorized)
	}
	return query{
		hash: request.HashAlgorithm, nameHash: request.IssuerNameHash, keyHash: request.IssuerKeyHash,
		serial: request.SerialNumber, hashSymbol: symbol,
	}, nil
}

// countRequests counts what ocsp.ParseRequest skips after the first request.
func countRequests(der []byte) (int, error) {
	var request struct {
		TBS struct {
			Version   int           `asn1:"explicit,tag:0,default:0,optional"`
			Requestor asn1.RawValue `asn1:"explicit,tag:1,optional"`
			List      []asn1.RawValue
		}
	}
	if _, err := asn1.Unmarshal(der, &request); err != nil {
		return 0, err
	}
	return len(request.TBS.List), nil
}

// maxSerial is the length of the longest serial that a CA may give (RFC 5280,
// 4.1.2.2), in bytes.
const maxSerial = 20

// storedSerial gives the serial as versions carry it, and false when no
// version can have it.
func (q query) storedSerial() (string, bool) {
	if q.serial.Sign() <= 0 || len(q.serial.Bytes()) > maxSerial {
		return "", false
	}
	return pki.SerialHex(q.serial), true
}

// decodePath reads the request out of the path of a GET (RFC 6960, A.1):
// percent-encoded base64. Clients that leave out the padding or encode a plus
// sign as a space are understood.
func decodePath(escaped string) ([]byte, error) {
	text, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	text = strings.TrimRight(strings.ReplaceAll(text, " ", "+"), "=")
	der, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return der, nil
}

// signer answers for one CA.
type signer struct {
	issuer    *x509.Certificate
	responder *x509.Certificate
	key       crypto.Signer
	renewAt   time.Time
}

// answersFor checks that the request names this CA by its name and its key.
func (s *signer) answersFor(q query) error {
	var info struct {
		Algorithm asn1.RawValue
		PublicKey asn1.BitString
	}
	if _, err := asn1.Unmarshal(s.issuer.RawSubjectPublicKeyInfo, &info); err != nil {
		return fmt.Errorf("read public key of the CA: %w", err)
	}
	if !bytes.Equal(q.nameHash, digest(q.hash, s.issuer.RawSubject)) ||
		!bytes.Equal(q.keyHash, digest(q.hash, info.PublicKey.RightAlign())) {
		return errUnauthorized
	}
	return nil
}

func digest(hash crypto.Hash, data []byte) []byte {
	h := hash.New()
	h.Write(data)
	return h.Sum(nil)
}

// fact is what is known about one serial.
type fact struct {
	Serial    string     `db:"serial"`
	RevokedAt *time.Time `db:"revoked_at"`
	Reason    *int       `db:"revocation_reason"`
}

// sign states the fact in an OCSP response.
func (s *signer) sign(hash crypto.Hash, serial *big.Int, f fact, now time.Time) (document, error) {
	d := newDocument(nil, now.UTC().Truncate(time.Second))
	template := ocsp.Response{
		Status: ocsp.Good, SerialNumber: serial, IssuerHash: hash, Certificate: s.responder,
		ThisUpdate: d.thisUpdate, NextUpdate: d.nextUpdate,
	}
	if f.RevokedAt != nil {
		template.Status, template.RevokedAt = ocsp.Revoked, *f.RevokedAt
		if f.Reason != nil {
			template.RevocationReason = *f.Reason
		}
	}
	return s.finish(d, template)
}

// signUnknown answers for a serial that the CA never issued.
func (s *signer) signUnknown(q query, now time.Time) (document, error) {
	d := newDocument(nil, now.UTC().Truncate(time.Second))
	d.nextUpdate, d.stored = d.thisUpdate.Add(unknownLife), false
	return s.finish(d, ocsp.Response{
		Status: ocsp.Unknown, SerialNumber: q.serial, IssuerHash: q.hash, Certificate: s.responder,
		ThisUpdate: d.thisUpdate, NextUpdate: d.nextUpdate,
	})
}

func (s *signer) finish(d document, template ocsp.Response) (document, error) {
	body, err := ocsp.CreateResponse(s.issuer, s.responder, template, s.key)
	if err != nil {
		return document{}, fmt.Errorf("sign OCSP response for %s: %w", pki.SerialHex(template.SerialNumber), err)
	}
	d.body = body
	return d, nil
}
