package local

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"

	"github.com/certctl-io/certctl/internal/pki"
)

var (
	oidIssuingDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidOCSPNoCheck              = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}
)

// SignCRL signs the CRL of one shard. It says which certificates it is for, so
// that nobody can pass off one shard as another.
func (a *Authority) SignCRL(shard int, number int64, revoked []x509.RevocationListEntry, thisUpdate, nextUpdate time.Time) ([]byte, error) {
	scope, err := a.scope(shard)
	if err != nil {
		return nil, err
	}
	template := &x509.RevocationList{
		Number:                    big.NewInt(number),
		ThisUpdate:                thisUpdate.UTC(),
		NextUpdate:                nextUpdate.UTC(),
		RevokedCertificateEntries: revoked,
		ExtraExtensions:           []pkix.Extension{scope},
	}
	der, err := x509.CreateRevocationList(nil, template, a.signing, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign CRL: %w", err)
	}
	return der, nil
}

// scope is the issuing distribution point (RFC 5280, 5.2.5): leaves, and of
// those the ones that name the address of the shard.
func (a *Authority) scope(shard int) (pkix.Extension, error) {
	type pointName struct {
		FullName []asn1.RawValue `asn1:"optional,tag:0"`
	}
	point := struct {
		Name         pointName `asn1:"optional,tag:0"`
		OnlyUserCert bool      `asn1:"optional,tag:1"`
	}{OnlyUserCert: true}
	if status := a.local.cfg.StatusURL; status != "" {
		const uniformResourceIdentifier = 6
		point.Name.FullName = []asn1.RawValue{{
			Class: asn1.ClassContextSpecific, Tag: uniformResourceIdentifier, Bytes: []byte(status.CRL(a.issuerID, shard)),
		}}
	}
	value, err := asn1.Marshal(point)
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("write issuing distribution point: %w", err)
	}
	return pkix.Extension{Id: oidIssuingDistributionPoint, Critical: true, Value: value}, nil
}

// NewOCSPResponder makes a delegated responder (RFC 6960, 4.2.2.2). Clients do
// not ask for its own status (4.2.2.2.1), so it lives short.
func (a *Authority) NewOCSPResponder() (certificate []byte, key crypto.Signer, err error) {
	if key, err = pki.GenerateKey(pki.ECDSAP256); err != nil {
		return nil, nil, fmt.Errorf("generate key of OCSP responder: %w", err)
	}
	info, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, nil, fmt.Errorf("encode key of OCSP responder: %w", err)
	}
	keyID, err := keyIdentifier(info)
	if err != nil {
		return nil, nil, err
	}
	notBefore := a.local.now().Add(-backdate).UTC().Truncate(time.Second)
	if notBefore.Before(a.signing.NotBefore) {
		notBefore = a.signing.NotBefore
	}
	notAfter := notBefore.Add(a.local.cfg.OCSPLife - time.Second)
	if last := a.notAfter(); notAfter.After(last) {
		notAfter = last
	}
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{Organization: a.signing.Subject.Organization, CommonName: "OCSP responder"},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		BasicConstraintsValid: true,
		SubjectKeyId:          keyID,
		ExtraExtensions:       []pkix.Extension{{Id: oidOCSPNoCheck, Value: asn1.NullBytes}},
	}
	certificate, err = x509.CreateCertificate(nil, template, a.signing, key.Public(), a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("sign OCSP responder: %w", err)
	}
	return certificate, key, nil
}
