package pki

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/certctl-io/certctl/internal/problem"
)

const maxCSR = 64 << 10

// CreateCSR makes a certificate request for exactly these names, in DER.
func CreateCSR(key crypto.Signer, commonName string, names Names) ([]byte, error) {
	uris, err := names.URIs()
	if err != nil {
		return nil, err
	}
	template := &x509.CertificateRequest{
		Subject:        pkix.Name{CommonName: commonName},
		DNSNames:       names.DNS,
		IPAddresses:    names.IPs(),
		URIs:           uris,
		EmailAddresses: names.Email,
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("create certificate request: %w", err)
	}
	return der, nil
}

// EncodeCSR writes a certificate request in PEM.
func EncodeCSR(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// ParseCSR reads one certificate request in PEM or DER and checks its
// signature, which proves that the sender has the private key.
func ParseCSR(pemOrDER []byte) (*x509.CertificateRequest, error) {
	if len(pemOrDER) > maxCSR {
		return nil, problem.Invalid("csr", "the certificate request is larger than %d KiB", maxCSR>>10)
	}
	der := pemOrDER
	if block, rest := pem.Decode(pemOrDER); block != nil {
		if block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
			return nil, problem.Invalid("csr", "the PEM block is a %s", block.Type).
				Hint("send a CERTIFICATE REQUEST")
		}
		if len(bytes.TrimSpace(rest)) > 0 {
			return nil, problem.Invalid("csr", "something follows the certificate request").
				Hint("send one request only")
		}
		der = block.Bytes
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, problem.Invalid("csr", "the certificate request cannot be read: %v", err).
			Hint("send a PKCS #10 request in PEM or DER")
	}
	if !soundSignature(csr.SignatureAlgorithm) {
		return nil, problem.Invalid("csr", "the certificate request is signed with %s", csr.SignatureAlgorithm).
			Hint("sign it with SHA-256 or better")
	}
	// Before the signature: to check one of a huge key takes seconds.
	if _, err := KeyTypeOf(csr.PublicKey); err != nil {
		if wrong, ok := problem.As(err); ok {
			wrong.Field = "csr"
		}
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, problem.Invalid("csr", "the signature of the certificate request does not fit its key").
			Hint("sign the request with the private key that it names")
	}
	return csr, nil
}

// soundSignature is a list of what is allowed, so that crypto/x509's leniency
// towards requests signed with SHA-1 does not apply here.
func soundSignature(algorithm x509.SignatureAlgorithm) bool {
	switch algorithm {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512, x509.PureEd25519:
		return true
	default:
		return false
	}
}

// CheckCSR refuses a certificate request that is not exactly for this common
// name, these names and this key type, or that asks for anything else. It
// reports all differences at once.
func CheckCSR(csr *x509.CertificateRequest, commonName string, names Names, kt KeyType) error {
	return problem.Join(
		checkKey(csr, kt),
		checkSubject(csr, commonName),
		checkNames(csr, names),
		checkExtensions(csr),
	)
}

func checkKey(csr *x509.CertificateRequest, want KeyType) *problem.Error {
	got, err := KeyTypeOf(csr.PublicKey)
	if wrong, ok := problem.As(err); ok {
		wrong.Field = "csr"
		return wrong
	}
	if got != want {
		return problem.Invalid("csr", "the key is %s, the certificate asks for %s", got, want)
	}
	return nil
}

func checkSubject(csr *x509.CertificateRequest, commonName string) *problem.Error {
	if csr.Subject.CommonName != commonName {
		return problem.Invalid("csr", "the common name is %q, the certificate asks for %q", csr.Subject.CommonName, commonName)
	}
	commonNames := 0
	for _, attribute := range csr.Subject.Names {
		if !attribute.Type.Equal(oidCommonName) {
			return problem.Invalid("csr", "the subject has more than a common name: %s", csr.Subject).
				Hint("leave the other attributes out")
		}
		commonNames++
	}
	if commonNames > 1 {
		return problem.Invalid("csr", "the subject has several common names: %s", csr.Subject)
	}
	return nil
}

func checkNames(csr *x509.CertificateRequest, want Names) *problem.Error {
	got := namesFrom(csr.DNSNames, csr.IPAddresses, csr.URIs, csr.EmailAddresses)
	var faults []string
	if missing := want.without(got); len(missing) > 0 {
		faults = append(faults, "missing are "+strings.Join(missing, ", "))
	}
	if extra := got.without(want); len(extra) > 0 {
		faults = append(faults, "not asked for are "+strings.Join(extra, ", "))
	}
	if len(faults) == 0 {
		return nil
	}
	return problem.Invalid("csr", "its names differ from those of the certificate: %s", strings.Join(faults, "; "))
}

var (
	oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidSAN        = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// checkExtensions refuses requests for anything but names of the four types:
// crypto/x509 reads the others over in silence.
func checkExtensions(csr *x509.CertificateRequest) *problem.Error {
	for _, extension := range csr.Extensions {
		if !extension.Id.Equal(oidSAN) {
			return problem.Invalid("csr", "it asks for the extension %s", extension.Id).
				Hint("ask for subject alternative names only; usages come from the profile")
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(extension.Value, &names); err != nil || len(rest) > 0 {
			return problem.Invalid("csr", "its subject alternative names cannot be read")
		}
		for _, name := range names {
			if name.Class != asn1.ClassContextSpecific || !isNameTag(name.Tag) {
				return problem.Invalid("csr", "it has a subject alternative name of the type %d", name.Tag).
					Hint("ask for DNS names, IP addresses, URIs and e-mail addresses only")
			}
		}
	}
	return nil
}

// isNameTag lists the GeneralName choices (RFC 5280, 4.2.1.6) that Names holds.
func isNameTag(tag int) bool {
	const rfc822Name, dNSName, uniformResourceIdentifier, iPAddress = 1, 2, 6, 7
	return tag == rfc822Name || tag == dNSName || tag == uniformResourceIdentifier || tag == iPAddress
}
