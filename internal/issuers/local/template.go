package local

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"

	"github.com/certctl-io/certctl/internal/pki"
)

// domainValidated is the policy of certificates whose names alone were
// validated (Baseline Requirements, 7.1.2.7.9), which ours are.
var domainValidated = mustOID(2, 23, 140, 1, 2, 1)

func mustOID(arcs ...uint64) x509.OID {
	oid, err := x509.OIDFromInts(arcs)
	if err != nil {
		panic(err) // a constant
	}
	return oid
}

// template says what stands in a certificate: the profile of RFC 5280 for
// leaves, with what the Baseline Requirements, 7.1.2.7, add to it. crypto/x509
// adds the authority key identifier, and makes the names critical when there
// is no subject.
func (a *Authority) template(request pki.Request, csr *x509.CertificateRequest, reserved reservation) (*x509.Certificate, error) {
	serial, err := pki.ParseSerial(reserved.Serial)
	if err != nil {
		return nil, err
	}
	usages, err := pki.ExtKeyUsages(request.Usages)
	if err != nil {
		return nil, err
	}
	uris, err := request.Names.URIs()
	if err != nil {
		return nil, err
	}
	keyID, err := keyIdentifier(csr.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: request.CommonName},
		NotBefore:             reserved.NotBefore,
		NotAfter:              reserved.NotAfter,
		KeyUsage:              keyUsage(csr.PublicKey, request.Usages),
		ExtKeyUsage:           usages,
		BasicConstraintsValid: true,
		SubjectKeyId:          keyID,
		DNSNames:              request.Names.DNS,
		IPAddresses:           request.Names.IPs(),
		URIs:                  uris,
		EmailAddresses:        request.Names.Email,
	}
	if request.PublicTrust {
		template.Policies = []x509.OID{domainValidated}
	}
	if status := a.local.cfg.StatusURL; status != "" {
		template.OCSPServer = []string{status.OCSP(a.issuerID)}
		template.IssuingCertificateURL = []string{status.CA(a.issuerID)}
		template.CRLDistributionPoints = []string{status.CRL(a.issuerID, reserved.Shard)}
	}
	return template, nil
}

// keyUsage lets keys sign. An RSA key of a server may be the one that older
// clients encrypt a session key to, which other keys cannot do.
func keyUsage(public any, usages []string) x509.KeyUsage {
	if _, isRSA := public.(*rsa.PublicKey); isRSA && slices.Contains(usages, pki.ServerAuth) {
		return x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	}
	return x509.KeyUsageDigitalSignature
}

// keyIdentifier names a key by the left-most 160 bits of its SHA-256 (RFC 7093,
// 2, method 1), as crypto/x509 does for CAs.
func keyIdentifier(publicKeyInfo []byte) ([]byte, error) {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		PublicKey asn1.BitString
	}
	if _, err := asn1.Unmarshal(publicKeyInfo, &info); err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	sum := sha256.Sum256(info.PublicKey.Bytes)
	return sum[:20], nil
}
