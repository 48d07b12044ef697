package local

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"time"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
)

// imported reads the signing certificate that the operator brings, with those
// above it and its key, and checks that certificates signed with it can be
// trusted by whoever trusts its root.
func (s settings) imported(now time.Time) (pki.Chain, crypto.Signer, error) {
	chain, err := pki.ParseChain([]byte(s.CAChain))
	if err != nil {
		return nil, nil, at("settings.ca_chain", err)
	}
	key, err := pki.DecodeKey([]byte(s.CAKey.Reveal()))
	if err != nil {
		return nil, nil, at("settings.ca_key", err)
	}
	certificates, err := chain.Certificates()
	if err != nil {
		return nil, nil, err
	}
	if err := checkSigner(certificates[0], key); err != nil {
		return nil, nil, err
	}
	for i := range certificates {
		if err := checkLink(certificates, i, now); err != nil {
			return nil, nil, err
		}
	}
	return chain, key, nil
}

// at names the field of a problem that pki found.
func at(field string, err error) error {
	if p, ok := problem.As(err); ok {
		p.Field = field
	}
	return err
}

// checkSigner checks what only the signing certificate must have.
func checkSigner(certificate *x509.Certificate, key crypto.Signer) error {
	if public, ok := certificate.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(key.Public()) {
		return problem.Invalid("settings.ca_key", "it is not the key of the first certificate, %q", certificate.Subject).
			Hint("put the certificate that belongs to the key first in ca_chain")
	}
	if _, err := pki.KeyTypeOf(key.Public()); err != nil {
		return at("settings.ca_key", err)
	}
	if certificate.KeyUsage&x509.KeyUsageCRLSign == 0 {
		return problem.Invalid("settings.ca_chain", "%q may not sign CRLs, so it could revoke nothing", certificate.Subject).
			Hint("have it issued with the key usages keyCertSign and cRLSign")
	}
	if len(certificate.SubjectKeyId) == 0 {
		return problem.Invalid("settings.ca_chain", "%q has no subject key identifier", certificate.Subject).
			Hint("have it issued as RFC 5280, 4.2.1.2, asks of a CA")
	}
	return nil
}

// checkLink checks one certificate of the chain and that the next one signed it.
func checkLink(chain []*x509.Certificate, i int, now time.Time) error {
	const field = "settings.ca_chain"
	certificate := chain[i]
	name := certificate.Subject.String()
	switch {
	case !certificate.BasicConstraintsValid || !certificate.IsCA:
		return problem.Invalid(field, "%q is not a CA certificate", name).Hint("it needs basicConstraints CA:TRUE")
	case certificate.KeyUsage&x509.KeyUsageCertSign == 0:
		return problem.Invalid(field, "%q may not sign certificates", name).Hint("it needs the key usage keyCertSign")
	case now.Before(certificate.NotBefore):
		return problem.Invalid(field, "%q is not valid before %s", name, certificate.NotBefore.UTC().Format(time.RFC3339))
	case !now.Before(certificate.NotAfter):
		return problem.Invalid(field, "%q expired at %s", name, certificate.NotAfter.UTC().Format(time.RFC3339))
	case hasPathLen(certificate) && certificate.MaxPathLen < i:
		return problem.Invalid(field, "%q allows %d CAs below it, and there are %d", name, certificate.MaxPathLen, i)
	case i == len(chain)-1 && !bytes.Equal(certificate.RawIssuer, certificate.RawSubject):
		return problem.Invalid(field, "the last certificate, %q, is not a root", name).
			Hint("append the certificates above it, up to the root: %q", certificate.Issuer)
	case i == len(chain)-1:
		return nil
	}
	if err := certificate.CheckSignatureFrom(chain[i+1]); err != nil {
		return problem.Invalid(field, "%q is not signed by the certificate after it, %q", name, chain[i+1].Subject).
			Hint("order the certificates from the signing one to the root")
	}
	return nil
}

// hasPathLen reports whether a CA certificate limits the CAs below it;
// crypto/x509 writes an absent limit as -1.
func hasPathLen(certificate *x509.Certificate) bool {
	return certificate.MaxPathLen > 0 || certificate.MaxPathLenZero
}
