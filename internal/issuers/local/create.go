package local

import (
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/pki"
)

const (
	rootYears         = 10
	intermediateYears = 5
	// backdate lets a certificate be valid on hosts whose clock is a little
	// behind. A leaf that lives under ten minutes is backdated by a tenth of
	// its lifetime instead.
	backdate = time.Minute
)

// Found makes the CA of a new issuer, or takes over the one that the settings
// bring. It belongs in the transaction that stores the issuer. When the issuer
// has a CA already, that one stays and nothing changes.
func (l *Local) Found(ctx context.Context, tx *db.Tx, issuerID string, raw json.RawMessage) error {
	s, err := parseSettings(raw)
	if err != nil {
		return err
	}
	row := caRow{ID: id.New("ca"), IssuerID: issuerID, CreatedAt: l.now()}
	var signingKey, rootKey crypto.Signer
	if s.imports() {
		row.Chain, signingKey, err = s.imported(l.now())
	} else {
		row.Chain, signingKey, rootKey, err = generate(row.ID, s, l.now())
	}
	if err != nil {
		return err
	}
	if row.SigningKey, err = l.seal(row.ID, "signing_key", signingKey); err != nil {
		return err
	}
	if rootKey != nil {
		if row.RootKey, err = l.seal(row.ID, "root_key", rootKey); err != nil {
			return err
		}
	}
	return insertCA(ctx, tx, row)
}

// Abandon deletes the CA of an issuer. It belongs in the transaction that
// deletes the issuer, which is one that issued nothing.
func (l *Local) Abandon(ctx context.Context, tx *db.Tx, issuerID string) error {
	tx.AfterCommit(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.open, issuerID)
	})
	return deleteCA(ctx, tx, issuerID)
}

// generate makes a root and the intermediate below it, which is the signing
// certificate. Part of the CA's id stands in their names, since clients look
// issuers up by name and two CAs may be of one organisation.
func generate(caID string, s settings, now time.Time) (chain pki.Chain, signingKey, rootKey crypto.Signer, err error) {
	if rootKey, err = pki.GenerateKey(pki.ECDSAP384); err != nil {
		return nil, nil, nil, fmt.Errorf("generate root key: %w", err)
	}
	if signingKey, err = pki.GenerateKey(s.KeyType); err != nil {
		return nil, nil, nil, fmt.Errorf("generate intermediate key: %w", err)
	}
	suffix := caID[len(caID)-6:]
	rootTemplate := caTemplate(s.Organization, "Root CA "+suffix, now, rootYears)
	rootTemplate.MaxPathLen = 1
	root, err := signCA(rootTemplate, rootTemplate, rootKey.Public(), rootKey)
	if err != nil {
		return nil, nil, nil, err
	}
	intermediateTemplate := caTemplate(s.Organization, "Intermediate CA "+suffix, now, intermediateYears)
	intermediateTemplate.MaxPathLenZero = true // it signs leaves only
	intermediate, err := signCA(intermediateTemplate, root, signingKey.Public(), rootKey)
	if err != nil {
		return nil, nil, nil, err
	}
	return pki.Chain{intermediate.Raw, root.Raw}, signingKey, rootKey, nil
}

func caTemplate(organization, name string, now time.Time, years int) *x509.Certificate {
	notBefore := now.UTC().Truncate(time.Second).Add(-backdate)
	return &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{Organization: []string{organization}, CommonName: organization + " " + name},
		NotBefore:             notBefore,
		NotAfter:              notBefore.AddDate(years, 0, 0).Add(-time.Second), // both ends are part of the validity (RFC 5280, 4.1.2.5)
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
}

// signCA signs a CA certificate. crypto/x509 adds the key identifiers.
func signCA(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(nil, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("sign %q: %w", template.Subject.CommonName, err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse %q: %w", template.Subject.CommonName, err)
	}
	return certificate, nil
}

// sealPurpose binds a sealed key to its CA and column.
func sealPurpose(caID, column string) string { return "local_ca/" + caID + "/" + column }

func (l *Local) seal(caID, column string, key crypto.Signer) ([]byte, error) {
	text, err := pki.EncodeKey(key)
	if err != nil {
		return nil, err
	}
	sealed, err := l.box.Seal(sealPurpose(caID, column), text)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", column, err)
	}
	return sealed, nil
}
