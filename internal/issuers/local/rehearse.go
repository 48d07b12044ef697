package local

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
)

// double stands in for the CA: its certificates again, under keys that nobody
// trusts. What it signs differs from what the CA would sign in the signature
// alone, so a certificate that is refused has never existed.
type double struct {
	key           crypto.Signer // of the same type as the CA's
	root          *x509.Certificate
	intermediates []*x509.Certificate
}

// newDouble copies a chain, which runs from the signing certificate to the
// root.
func newDouble(chain []*x509.Certificate) (*double, error) {
	d := &double{}
	var parent *x509.Certificate
	var parentKey crypto.Signer
	for i := len(chain) - 1; i >= 0; i-- {
		key, err := doubleKey(chain[i], i == 0)
		if err != nil {
			return nil, err
		}
		if parent == nil {
			parent, parentKey = withoutKey(chain[i]), key
		}
		copied := *chain[i]
		copied.SignatureAlgorithm = x509.UnknownSignatureAlgorithm // that of the key
		certificate, err := signCA(&copied, parent, key.Public(), parentKey)
		if err != nil {
			return nil, fmt.Errorf("rehearse the CA: %w", err)
		}
		if d.root == nil {
			d.root = certificate
		} else {
			d.intermediates = append(d.intermediates, certificate)
		}
		parent, parentKey = certificate, key
	}
	d.key = parentKey
	return d, nil
}

// doubleKey makes a key. The one that signs leaves is of the type of the real
// one, as the algorithm of the signature stands in what is signed.
func doubleKey(certificate *x509.Certificate, signsLeaves bool) (crypto.Signer, error) {
	if !signsLeaves {
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	kt, err := pki.KeyTypeOf(certificate.PublicKey)
	if err != nil {
		return nil, err
	}
	return pki.GenerateKey(kt)
}

// withoutKey lets another key sign in the name of a CA.
func withoutKey(certificate *x509.Certificate) *x509.Certificate {
	anonymous := *certificate
	anonymous.PublicKey = nil
	return &anonymous
}

// twin signs a template as the CA would, with the key of its double.
func (a *Authority) twin(template *x509.Certificate, public crypto.PublicKey) (*x509.Certificate, error) {
	d, err := a.double()
	if err != nil {
		return nil, problem.Internal(err)
	}
	der, err := x509.CreateCertificate(nil, template, withoutKey(a.signing), public, d.key)
	if err != nil {
		return nil, problem.Internal(fmt.Errorf("sign twin: %w", err))
	}
	twin, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, problem.Internal(fmt.Errorf("parse twin: %w", err))
	}
	return twin, nil
}

// rehearse makes the twin of a certificate and refuses what must not be
// signed.
func (a *Authority) rehearse(request pki.Request, template *x509.Certificate, public crypto.PublicKey) (*x509.Certificate, error) {
	twin, err := a.twin(template, public)
	if err != nil {
		return nil, err
	}
	if err := a.checkConstraints(twin); err != nil {
		return nil, err
	}
	if request.LintLevel == pki.LintOff {
		return twin, nil
	}
	findings, err := a.local.linter.Lint(twin.Raw, request.PublicTrust)
	if err != nil {
		return nil, problem.Internal(err)
	}
	var faults []string
	for _, finding := range findings {
		if finding.Refuses() {
			faults = append(faults, finding.String())
		}
	}
	if len(faults) > 0 {
		return nil, problem.Invalid("certificate", "it would break published rules: %s", strings.Join(faults, "; ")).
			Hint("change the certificate or its profile; a profile can also turn lint off")
	}
	return twin, nil
}

// checkConstraints verifies the twin as a client would, which finds what the
// certificates of an operator's CA do not allow: names outside of its name
// constraints, usages that it does not have.
func (a *Authority) checkConstraints(twin *x509.Certificate) error {
	d, err := a.double()
	if err != nil {
		return problem.Internal(err)
	}
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: twin.NotBefore}
	options.Roots.AddCert(d.root)
	for _, certificate := range d.intermediates {
		options.Intermediates.AddCert(certificate)
	}
	for _, usage := range twin.ExtKeyUsage {
		options.KeyUsages = []x509.ExtKeyUsage{usage}
		if _, err := twin.Verify(options); err != nil {
			return constraint(err)
		}
	}
	return nil
}

func constraint(err error) *problem.Error {
	var invalid x509.CertificateInvalidError
	if !errors.As(err, &invalid) {
		return problem.Internal(fmt.Errorf("verify twin: %w", err))
	}
	switch invalid.Reason {
	case x509.CANotAuthorizedForThisName, x509.TooManyConstraints, x509.UnconstrainedName:
		return problem.Invalid("names", "the CA's certificate does not allow them: %s", invalid.Detail).
			Hint("use names that the CA is constrained to, or another issuer")
	case x509.IncompatibleUsage:
		return problem.Invalid("usages", "the CA's certificate does not allow all of them").
			Hint("use a profile with fewer usages, or another issuer")
	default:
		return problem.Internal(fmt.Errorf("verify twin: %w", err))
	}
}
