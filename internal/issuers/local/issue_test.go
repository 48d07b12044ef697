package local

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
)

func TestIssuedCertificateVerifiesWithOpenSSL(t *testing.T) {
	t.Parallel()
	for _, kt := range []pki.KeyType{pki.ECDSAP256, pki.ECDSAP384, pki.RSA2048, pki.Ed25519} {
		t.Run(string(kt), func(t *testing.T) {
			t.Parallel()
			ca, _ := newCA(t, fmt.Sprintf(`{"organization": "Example", "key_type": %q}`, kt))
			_, issued := issue(t, ca, newOrder(t, kt, "", "www.example.com", "10.0.0.1"))
			if len(issued.Chain) != 2 {
				t.Fatalf("the chain has %d certificates, want leaf and intermediate", len(issued.Chain))
			}
			opensslVerify(t, issued.Chain, root(ca), "-purpose", "sslserver", "-verify_hostname", "www.example.com")
			opensslVerify(t, issued.Chain, root(ca), "-verify_ip", "10.0.0.1")
		})
	}
}

func TestCertificateSaysWhatWasAskedForAndNoMore(t *testing.T) {
	t.Parallel()
	ca, _ := newCA(t, "")
	leaf, issued := issue(t, ca, newOrder(t, pki.ECDSAP256, "", "www.example.com", "*.example.org", "2001:db8::1", "spiffe://example.org/api"))

	if want := []string{"*.example.org", "www.example.com", "2001:db8::1", "spiffe://example.org/api"}; !slices.Equal(pki.NamesOf(leaf).List(), want) {
		t.Errorf("the names are %v, want %v", pki.NamesOf(leaf).List(), want)
	}
	if leaf.Subject.String() != "" {
		t.Errorf("the subject is %q, want none", leaf.Subject)
	}
	if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature || len(leaf.Policies) != 0 {
		t.Errorf("CA is %t, key usage %b, policies %v", leaf.IsCA, leaf.KeyUsage, leaf.Policies)
	}
	if !leaf.NotBefore.Equal(start.Add(-time.Minute)) || leaf.NotAfter.Sub(leaf.NotBefore) != 90*24*time.Hour-time.Second {
		t.Errorf("it is valid from %s for %s", leaf.NotBefore, leaf.NotAfter.Sub(leaf.NotBefore))
	}
	if length := len(leaf.SerialNumber.Bytes()); length > 16 || leaf.SerialNumber.Sign() <= 0 {
		t.Errorf("the serial %s has %d bytes", leaf.SerialNumber, length)
	}
	if !bytes.Equal(leaf.AuthorityKeyId, ca.signing.SubjectKeyId) || len(leaf.SubjectKeyId) != 20 {
		t.Errorf("the key identifiers are %x and %x", leaf.AuthorityKeyId, leaf.SubjectKeyId)
	}
	urls := slices.Concat(leaf.OCSPServer, leaf.IssuingCertificateURL, leaf.CRLDistributionPoints)
	if want := []string{statusURL.OCSP(ca.issuerID), statusURL.CA(ca.issuerID), statusURL.CRL(ca.issuerID, issued.Shard)}; !slices.Equal(urls, want) {
		t.Errorf("the status addresses are %v, want %v", urls, want)
	}
	named, _ := issue(t, ca, newOrder(t, pki.ECDSAP256, "www.example.com", "www.example.com"))
	if named.Subject.String() != "CN=www.example.com" {
		t.Errorf("the subject is %q, want the common name that was asked for", named.Subject)
	}
}

func TestRSAKeysEncryptForServersOnly(t *testing.T) {
	t.Parallel()
	ca, _ := newCA(t, "")
	server := newOrder(t, pki.RSA2048, "", "www.example.com")
	client := newOrder(t, pki.RSA2048, "", "www.example.com")
	client.Usages = []string{pki.ClientAuth}
	if leaf, _ := issue(t, ca, server); leaf.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment {
		t.Errorf("a server's key usage is %b", leaf.KeyUsage)
	}
	if leaf, _ := issue(t, ca, client); leaf.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("a client's key usage is %b", leaf.KeyUsage)
	}
}

func TestRepeatedAttemptGivesTheSameBytes(t *testing.T) {
	t.Parallel()
	for _, kt := range []pki.KeyType{pki.ECDSAP256, pki.ECDSAP384, pki.RSA2048, pki.Ed25519} {
		t.Run(string(kt), func(t *testing.T) {
			t.Parallel()
			ca, clock := newCA(t, fmt.Sprintf(`{"key_type": %q}`, kt))
			o := newOrder(t, pki.ECDSAP256, "", "www.example.com")
			_, first := issue(t, ca, o)
			clock.Advance(time.Hour)
			_, second := issue(t, ca, o)
			if !slices.EqualFunc(first.Chain, second.Chain, bytes.Equal) || first.Shard != second.Shard {
				t.Error("the second attempt gave another certificate")
			}
			if _, other := issue(t, ca, newOrder(t, pki.ECDSAP256, "", "www.example.com")); bytes.Equal(first.Chain[0], other.Chain[0]) {
				t.Error("another order gave the same certificate")
			}
		})
	}
}

func TestProgressIsSavedBeforeSigning(t *testing.T) {
	t.Parallel()
	ca, _ := newCA(t, "")
	ca.key = brokenKey{ca.key}
	o := newOrder(t, pki.ECDSAP256, "", "www.example.com")
	if _, err := ca.Issue(t.Context(), o.Request); err == nil {
		t.Fatal("a broken key signed")
	}
	if len(o.Progress) == 0 {
		t.Error("nothing was saved before the key was used")
	}
	lost := errors.New("database is gone")
	o = newOrder(t, pki.ECDSAP256, "", "www.example.com")
	o.Save = func(context.Context, json.RawMessage) error { return lost }
	if _, err := ca.Issue(t.Context(), o.Request); !errors.Is(err, lost) {
		t.Errorf("the error is %v, want that of Save", err)
	}
}

// brokenKey fails when it is used.
type brokenKey struct{ crypto.Signer }

func (brokenKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("broken")
}

func TestChangedOrderNeverReusesASerial(t *testing.T) {
	t.Parallel()
	ca, clock := newCA(t, "")
	o := newOrder(t, pki.ECDSAP256, "", "www.example.com")
	first, _ := issue(t, ca, o)

	changed := newOrder(t, pki.ECDSAP384, "", "www.example.com")
	changed.Progress = o.Progress
	if second, _ := issue(t, ca, changed); second.SerialNumber.Cmp(first.SerialNumber) == 0 {
		t.Error("two certificates have one serial")
	}
	clock.Advance(o.Lifetime)
	if late, _ := issue(t, ca, o); !late.NotAfter.After(clock.Now()) {
		t.Error("an attempt long after the first gave a certificate that has expired")
	}
}

func TestRequestThatDiffersIsRefused(t *testing.T) {
	t.Parallel()
	ca, _ := newCA(t, "")
	differs := func(edit func(*order)) error {
		o := newOrder(t, pki.ECDSAP256, "", "www.example.com")
		edit(o)
		_, err := ca.Issue(t.Context(), o.Request)
		return err
	}
	refused(t, differs(func(o *order) { o.Names.DNS = []string{"other.example.com"} }), problem.KindInvalid, "csr")
	refused(t, differs(func(o *order) { o.CommonName = "www.example.com" }), problem.KindInvalid, "csr")
	refused(t, differs(func(o *order) { o.KeyType = pki.ECDSAP384 }), problem.KindInvalid, "csr")
	refused(t, differs(func(o *order) { o.CSR = []byte("no request") }), problem.KindInvalid, "csr")
	refused(t, differs(func(o *order) { o.Usages = nil }), problem.KindInvalid, "usages")
	refused(t, differs(func(o *order) { o.Lifetime = 0 }), problem.KindInvalid, "lifetime")
	refused(t, differs(func(o *order) { o.Lifetime = 6 * 366 * 24 * time.Hour }), problem.KindConflict, "")
}

func TestTwinThatBreaksRulesIsRefused(t *testing.T) {
	t.Parallel()
	ca, _ := newCA(t, "")
	o := newOrder(t, pki.Ed25519, "", "intern")
	issue(t, ca, o) // the RFCs have nothing against it

	o = newOrder(t, pki.Ed25519, "", "intern")
	o.PublicTrust = true
	_, err := ca.Issue(t.Context(), o.Request)
	refused(t, err, problem.KindInvalid, "certificate")
	if !strings.Contains(fmt.Sprint(err), "e_dnsname_not_valid_tld") {
		t.Errorf("the finding is not named: %v", err)
	}
	if o.Progress != nil {
		t.Error("a certificate that was refused left progress behind")
	}
	o.LintLevel = pki.LintOff
	issue(t, ca, o)
}

func TestShortLivedCertificateIsBackdatedLittle(t *testing.T) {
	t.Parallel()
	ca, _ := newCA(t, "")
	o := newOrder(t, pki.ECDSAP256, "", "www.example.com")
	o.Lifetime = 100 * time.Second
	if leaf, _ := issue(t, ca, o); !leaf.NotBefore.Equal(start.Add(-10 * time.Second)) {
		t.Errorf("it is valid from %s", leaf.NotBefore)
	}
}

// TestThousandCertificatesPassEveryLint issues over all key types of leaves,
// names and usages, and lints what was signed.
func TestThousandCertificatesPassEveryLint(t *testing.T) {
	t.Parallel()
	count := map[pki.KeyType]int{
		pki.ECDSAP256: 400, pki.ECDSAP384: 200, pki.RSA2048: 150, pki.RSA3072: 30, pki.RSA4096: 20, pki.Ed25519: 200,
	}
	ca, _ := newCA(t, `{"organization": "Example"}`)
	for _, kt := range pki.KeyTypes {
		t.Run(string(kt), func(t *testing.T) {
			t.Parallel()
			for i := range count[kt] {
				o := lintedOrder(t, kt, i)
				leaf, _ := issue(t, ca, o)
				findings, err := linter().Lint(leaf.Raw, o.PublicTrust)
				if err != nil {
					t.Fatal(err)
				}
				for _, finding := range findings {
					if finding.Refuses() {
						t.Errorf("%v: %s", o.Names, finding)
					}
				}
			}
		})
	}
}

// lintedOrder makes the i-th of a row of different orders. A quarter of them is
// for public trust, which knows neither Ed25519 nor names other than of hosts
// and addresses.
func lintedOrder(t *testing.T, kt pki.KeyType, i int) *order {
	t.Helper()
	public := kt != pki.Ed25519 && i%4 == 0
	host := fmt.Sprintf("host-%d.example.com", i)
	names := []string{host, "*.example.org"}
	if i%3 == 0 {
		names = append(names, "8.8.8.8", "2606:4700:4700::1111")
	}
	if !public && i%5 == 0 {
		names = append(names, "spiffe://example.org/api", "ops@example.com")
	}
	commonName := ""
	if i%7 == 0 {
		commonName = host
	}
	o := newOrder(t, kt, commonName, names...)
	o.PublicTrust = public
	o.LintLevel = pki.LintOff // what is signed is linted instead
	if i%4 == 1 {
		o.Usages = []string{pki.ServerAuth, pki.ClientAuth}
	}
	return o
}

func TestCACertificatesPassTheRFCLints(t *testing.T) {
	t.Parallel()
	ca, _ := newCA(t, `{"organization": "Bücher"}`)
	responder, _, err := ca.NewOCSPResponder()
	if err != nil {
		t.Fatal(err)
	}
	for _, der := range append(pki.Chain{responder}, ca.Chain()...) {
		findings, err := linter().Lint(der, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, finding := range findings {
			if finding.Refuses() {
				t.Error(finding)
			}
		}
	}
}
