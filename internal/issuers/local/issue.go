package local

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
)

// reservation is what distinguishes a certificate from any other of this CA:
// the progress that is saved with an order before its certificate is signed.
type reservation struct {
	Serial    string    `json:"serial"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Shard     int       `json:"shard"`
	// Digest is the SHA-256 of what is to be signed. A serial never stands in
	// two different certificates, also when an order comes back changed.
	Digest []byte `json:"digest"`
}

// Issue signs a certificate for exactly what the request says. A repeated
// attempt gives the same certificate. It uses transactions of its own and so
// has no place inside of one.
func (a *Authority) Issue(ctx context.Context, request pki.Request) (pki.Issued, error) {
	csr, err := pki.ParseCSR(request.CSR)
	if err != nil {
		return pki.Issued{}, err
	}
	if err := pki.CheckCSR(csr, request.CommonName, request.Names, request.KeyType); err != nil {
		return pki.Issued{}, err
	}
	reserved, template, err := a.resume(request, csr)
	if err != nil {
		return pki.Issued{}, err
	}
	if template == nil {
		if reserved, template, err = a.prepare(ctx, request, csr); err != nil {
			return pki.Issued{}, err
		}
	}
	leaf, err := a.sign(template, csr.PublicKey, reserved.Digest)
	if err != nil {
		return pki.Issued{}, err
	}
	// Clients have the root already, or should not trust it.
	chain := append(pki.Chain{leaf}, a.chain[:len(a.chain)-1]...)
	return pki.Issued{Chain: chain, Shard: reserved.Shard}, nil
}

// resume gives what an earlier attempt was about to sign. The template is nil
// when there was none, when it would have expired by now, or when the order or
// our own settings would make another certificate of it today.
func (a *Authority) resume(request pki.Request, csr *x509.CertificateRequest) (reservation, *x509.Certificate, error) {
	if len(request.Progress) == 0 {
		return reservation{}, nil, nil
	}
	var reserved reservation
	if err := json.Unmarshal(request.Progress, &reserved); err != nil {
		return reservation{}, nil, fmt.Errorf("read progress of order %s: %w", request.OrderID, err)
	}
	if !a.local.now().Before(reserved.NotAfter) {
		return reservation{}, nil, nil
	}
	template, err := a.template(request, csr, reserved)
	if err != nil {
		return reservation{}, nil, err
	}
	twin, err := a.twin(template, csr.PublicKey)
	if err != nil {
		return reservation{}, nil, err
	}
	if !bytes.Equal(digest(twin), reserved.Digest) {
		return reservation{}, nil, nil
	}
	return reserved, template, nil
}

// prepare reserves what a new certificate needs, rehearses it, and saves the
// reservation, after which it may be signed.
func (a *Authority) prepare(ctx context.Context, request pki.Request, csr *x509.CertificateRequest) (reservation, *x509.Certificate, error) {
	reserved, err := a.reserve(ctx, request.Lifetime)
	if err != nil {
		return reservation{}, nil, err
	}
	template, err := a.template(request, csr, reserved)
	if err != nil {
		return reservation{}, nil, err
	}
	twin, err := a.rehearse(request, template, csr.PublicKey)
	if err != nil {
		return reservation{}, nil, err
	}
	reserved.Digest = digest(twin)
	progress, err := json.Marshal(reserved)
	if err != nil {
		return reservation{}, nil, fmt.Errorf("write progress: %w", err)
	}
	if err := request.Save(ctx, progress); err != nil {
		return reservation{}, nil, fmt.Errorf("save progress of order %s: %w", request.OrderID, err)
	}
	return reserved, template, nil
}

// reserve takes a serial, a validity and a place on the CRL.
func (a *Authority) reserve(ctx context.Context, lifetime time.Duration) (reservation, error) {
	notBefore, notAfter, err := a.validity(lifetime)
	if err != nil {
		return reservation{}, err
	}
	var shard int
	err = a.local.db.InTx(ctx, func(tx *db.Tx) error {
		shard, err = takeShard(ctx, tx, a.issuerID, a.local.cfg.ShardSize)
		return err
	})
	if db.IsNoRows(err) {
		return reservation{}, problem.NotFound("CA for issuer", a.issuerID)
	}
	if err != nil {
		return reservation{}, problem.Temporary(err, 0)
	}
	return reservation{Serial: pki.SerialHex(newSerial()), NotBefore: notBefore, NotAfter: notAfter, Shard: shard}, nil
}

// validity gives the first and the last second of a certificate that is issued
// now, both of which are part of its lifetime (RFC 5280, 4.1.2.5).
func (a *Authority) validity(lifetime time.Duration) (notBefore, notAfter time.Time, err error) {
	if lifetime < time.Second {
		return time.Time{}, time.Time{}, problem.Invalid("lifetime", "%s is too short for a certificate", lifetime).
			Hint("ask for a second at least")
	}
	notBefore = a.local.now().Add(-min(backdate, lifetime/10)).UTC().Truncate(time.Second)
	for _, certificate := range a.parsed {
		if notBefore.Before(certificate.NotBefore) {
			notBefore = certificate.NotBefore
		}
	}
	notAfter = notBefore.Add(lifetime - time.Second).Truncate(time.Second)
	if last := a.notAfter(); notAfter.After(last) {
		return time.Time{}, time.Time{}, problem.Conflict("the certificate would be valid until %s, longer than its CA, which expires at %s",
			moment(notAfter), moment(last)).Hint("ask for a shorter lifetime, or use another issuer")
	}
	return notBefore, notAfter, nil
}

// sign makes the certificate, and makes sure that it is the one rehearsed.
func (a *Authority) sign(template *x509.Certificate, public any, rehearsed []byte) ([]byte, error) {
	// Without a source of randomness signatures are deterministic.
	der, err := x509.CreateCertificate(nil, template, a.signing, public, a.key)
	if err != nil {
		return nil, problem.Internal(fmt.Errorf("sign certificate: %w", err))
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, problem.Internal(fmt.Errorf("parse signed certificate: %w", err))
	}
	if !bytes.Equal(digest(signed), rehearsed) {
		return nil, problem.Internal(errors.New("the certificate is not the one that was rehearsed"))
	}
	return der, nil
}

func digest(certificate *x509.Certificate) []byte {
	sum := sha256.Sum256(certificate.RawTBSCertificate)
	return sum[:]
}
