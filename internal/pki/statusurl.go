package pki

import (
	"strconv"
	"strings"
)

// The first parts of the paths below a status URL.
const (
	CRLArea  = "crl"
	CAArea   = "ca"
	OCSPArea = "ocsp"

	CRLSuffix = ".crl"
	CASuffix  = ".crt"
)

// StatusURL is where the world reaches CRLs, OCSP and CA certificates, without
// a slash at its end. What an issued certificate names and what the status
// listener serves both come from here, as they must be the same for as long as
// the certificate lives.
type StatusURL string

// CRL is the address of one shard of an issuer's CRL.
func (u StatusURL) CRL(issuerID string, shard int) string {
	return u.join(CRLArea, issuerID, strconv.Itoa(shard)+CRLSuffix)
}

// CA is the address of the certificate that an issuer signs with.
func (u StatusURL) CA(issuerID string) string { return u.join(CAArea, issuerID+CASuffix) }

// OCSP is the address that answers OCSP requests about an issuer.
func (u StatusURL) OCSP(issuerID string) string { return u.join(OCSPArea, issuerID) }

func (u StatusURL) join(parts ...string) string {
	return string(u) + "/" + strings.Join(parts, "/")
}
