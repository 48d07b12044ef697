package local

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/testkit"
)

// operatorCA is a CA that an operator has: a root, a policy CA below it, and
// the sub-CA that is brought to us.
type operatorCA struct {
	chain pki.Chain
	key   crypto.Signer
}

func newOperatorCA(t *testing.T, edit func(*x509.Certificate)) operatorCA {
	t.Helper()
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: newSerial(), Subject: pkix.Name{CommonName: name},
			NotBefore: start, NotAfter: start.AddDate(2, 0, 0),
			KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
			BasicConstraintsValid: true, IsCA: true,
		}
	}
	rootKey, policyKey, subKey := keyOf(t, pki.RSA2048), keyOf(t, pki.ECDSAP384), keyOf(t, pki.ECDSAP256)
	sign := func(template, parent *x509.Certificate, key, parentKey crypto.Signer) *x509.Certificate {
		certificate, err := signCA(template, parent, key.Public(), parentKey)
		if err != nil {
			t.Fatal(err)
		}
		return certificate
	}
	root := sign(template("Operator Root"), template("Operator Root"), rootKey, rootKey)
	policy := sign(template("Operator Policy CA"), root, policyKey, rootKey)
	subTemplate := template("Operator Issuing CA")
	if edit != nil {
		edit(subTemplate)
	}
	sub := sign(subTemplate, policy, subKey, policyKey)
	return operatorCA{chain: pki.Chain{sub.Raw, policy.Raw, root.Raw}, key: subKey}
}

func (o operatorCA) settings(t *testing.T) string {
	t.Helper()
	key, err := pki.EncodeKey(o.key)
	if err != nil {
		t.Fatal(err)
	}
	settings, err := json.Marshal(map[string]string{"ca_chain": string(o.chain.PEM()), "ca_key": string(key)})
	if err != nil {
		t.Fatal(err)
	}
	return string(settings)
}

func TestCertificateOfAnOperatorsCAVerifiesWithOpenSSL(t *testing.T) {
	t.Parallel()
	brought := newOperatorCA(t, nil)
	ca, _ := newCA(t, brought.settings(t))
	leaf, issued := issue(t, ca, newOrder(t, pki.ECDSAP256, "", "www.example.com"))
	if len(issued.Chain) != 3 || leaf.Issuer.CommonName != "Operator Issuing CA" {
		t.Errorf("the chain has %d certificates below the root, the leaf is by %q", len(issued.Chain), leaf.Issuer)
	}
	if leaf.NotBefore.Before(start) {
		t.Error("the certificate is valid before its CA")
	}
	opensslVerify(t, issued.Chain, brought.chain[2], "-purpose", "sslserver", "-verify_hostname", "www.example.com")
}

func TestConstraintsOfAnOperatorsCAAreHonoured(t *testing.T) {
	t.Parallel()
	brought := newOperatorCA(t, func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical = true
		c.PermittedDNSDomains = []string{"example.com"}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})
	ca, _ := newCA(t, brought.settings(t))
	_, issued := issue(t, ca, newOrder(t, pki.ECDSAP256, "", "www.example.com"))
	opensslVerify(t, issued.Chain, brought.chain[2], "-purpose", "sslserver")

	outside := newOrder(t, pki.ECDSAP256, "", "www.example.org")
	outside.LintLevel = pki.LintOff
	_, err := ca.Issue(t.Context(), outside.Request)
	refused(t, err, problem.KindInvalid, "names")

	client := newOrder(t, pki.ECDSAP256, "", "www.example.com")
	client.Usages = []string{pki.ServerAuth, pki.ClientAuth}
	_, err = ca.Issue(t.Context(), client.Request)
	refused(t, err, problem.KindInvalid, "usages")
}

func TestCertificateMayNotOutliveAnyCAAboveIt(t *testing.T) {
	t.Parallel()
	brought := newOperatorCA(t, func(c *x509.Certificate) { c.NotAfter = start.Add(48 * time.Hour) })
	ca, _ := newCA(t, brought.settings(t))
	long := newOrder(t, pki.ECDSAP256, "", "www.example.com")
	_, err := ca.Issue(t.Context(), long.Request)
	refused(t, err, problem.KindConflict, "")
	long.Lifetime = 24 * time.Hour
	issue(t, ca, long)
}

func TestUnfitOperatorsCAIsRefused(t *testing.T) {
	t.Parallel()
	l := replica(t, testkit.NewDB(t, db.SQLite), testkit.NewClock(start), nil)
	const chain, key = "settings.ca_chain", "settings.ca_key"
	for name, test := range map[string]struct {
		field string
		edit  func(*x509.Certificate)
		bring func(*operatorCA)
	}{
		"another key":      {field: key, bring: func(o *operatorCA) { o.key = keyOf(t, pki.ECDSAP384) }},
		"no CA":            {field: chain, edit: func(c *x509.Certificate) { c.IsCA = false }},
		"no cRLSign":       {field: chain, edit: func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }},
		"no keyCertSign":   {field: chain, edit: func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }},
		"expired":          {field: chain, edit: func(c *x509.Certificate) { c.NotAfter = start.Add(-time.Hour); c.NotBefore = start.Add(-2 * time.Hour) }},
		"not valid yet":    {field: chain, edit: func(c *x509.Certificate) { c.NotBefore = start.Add(time.Hour) }},
		"root missing":     {field: chain, bring: func(o *operatorCA) { o.chain = o.chain[:2] }},
		"policy CA absent": {field: chain, bring: func(o *operatorCA) { o.chain = pki.Chain{o.chain[0], o.chain[2]} }},
	} {
		brought := newOperatorCA(t, test.edit)
		if test.bring != nil {
			test.bring(&brought)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused(t, l.Check(json.RawMessage(brought.settings(t))), problem.KindInvalid, test.field)
		})
	}
}
