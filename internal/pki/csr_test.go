package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/certctl-io/certctl/internal/problem"
)

func mustKey(tb testing.TB, kt KeyType) crypto.Signer {
	tb.Helper()
	key, err := GenerateKey(kt)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func mustNames(tb testing.TB, names ...string) Names {
	tb.Helper()
	parsed, err := ParseNames(names)
	if err != nil {
		tb.Fatal(err)
	}
	return parsed
}

func mustCSR(tb testing.TB, key crypto.Signer, template x509.CertificateRequest) []byte {
	tb.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func TestRequestIsAcceptedForWhatItWasMadeFor(t *testing.T) {
	t.Parallel()
	names := mustNames(t, "example.com", "*.example.com", "10.0.0.1", "2001:db8::1", "spiffe://example.org/a", "ops@example.com")
	for _, kt := range []KeyType{ECDSAP256, ECDSAP384, RSA2048, Ed25519} {
		der, err := CreateCSR(mustKey(t, kt), "example.com", names)
		if err != nil {
			t.Fatal(err)
		}
		for form, text := range map[string][]byte{"DER": der, "PEM": EncodeCSR(der)} {
			csr, err := ParseCSR(text)
			if err != nil {
				t.Fatalf("%s %s: %v", kt, form, err)
			}
			if err := CheckCSR(csr, "example.com", names, kt); err != nil {
				t.Errorf("%s %s: %v", kt, form, err)
			}
		}
	}
}

func TestRequestMayWriteDNSNamesInCapitals(t *testing.T) {
	t.Parallel()
	der := mustCSR(t, mustKey(t, ECDSAP256), x509.CertificateRequest{DNSNames: []string{"B.Example", "a.example", "A.example"}})
	csr, err := ParseCSR(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckCSR(csr, "", mustNames(t, "a.example", "b.example"), ECDSAP256); err != nil {
		t.Error(err)
	}
}

func TestRequestThatDiffersIsRefusedWithTheDifference(t *testing.T) {
	t.Parallel()
	wanted := mustNames(t, "a.example", "10.0.0.1")
	key := mustKey(t, ECDSAP256)
	full := x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "a.example"}, DNSNames: wanted.DNS, IPAddresses: wanted.IPs(),
	}
	otherName := pkix.Extension{Id: oidSAN, Value: mustASN1(t, []asn1.RawValue{
		{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte("a.example")},
		{Class: asn1.ClassContextSpecific, Tag: 7, Bytes: []byte{10, 0, 0, 1}},
		{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: mustASN1(t, oidSAN)},
	})}
	cases := []struct {
		name    string
		key     crypto.Signer
		change  func(*x509.CertificateRequest)
		message string
	}{
		{"a name is missing", key, func(r *x509.CertificateRequest) { r.IPAddresses = nil }, "missing are 10.0.0.1"},
		{"a name is too many", key, func(r *x509.CertificateRequest) { r.DNSNames = []string{"a.example", "b.example"} }, "not asked for are b.example"},
		{"another name", key, func(r *x509.CertificateRequest) { r.DNSNames = []string{"*.example"} }, "missing are a.example; not asked for are *.example"},
		{"an e-mail too many", key, func(r *x509.CertificateRequest) { r.EmailAddresses = []string{"a@a.example"} }, "not asked for are a@a.example"},
		{"another common name", key, func(r *x509.CertificateRequest) { r.Subject.CommonName = "b.example" }, `common name is "b.example"`},
		{"no common name", key, func(r *x509.CertificateRequest) { r.Subject = pkix.Name{} }, `common name is ""`},
		{"an organisation", key, func(r *x509.CertificateRequest) { r.Subject.Organization = []string{"Evil"} }, "O=Evil"},
		{"two common names", key, func(r *x509.CertificateRequest) {
			r.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: oidCommonName, Value: "b.example"}, {Type: oidCommonName, Value: "a.example"}}
		}, "several common names"},
		{"another key type", mustKey(t, Ed25519), func(*x509.CertificateRequest) {}, "the key is ed25519, the certificate asks for ecdsa-p256"},
		{"an unsupported curve", mustP521(t), func(*x509.CertificateRequest) {}, "P-521 is not supported"},
		{"a CA extension", key, func(r *x509.CertificateRequest) {
			r.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Value: []byte{0x30, 3, 1, 1, 0xff}}}
		}, "extension 2.5.29.19"},
		{"an otherName", key, func(r *x509.CertificateRequest) { r.ExtraExtensions = []pkix.Extension{otherName} }, "type 0"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			template := full
			c.change(&template)
			csr, err := ParseCSR(mustCSR(t, c.key, template))
			if err == nil {
				err = CheckCSR(csr, "a.example", wanted, ECDSAP256)
			}
			p, ok := problem.As(err)
			if !ok || p.Kind != problem.KindInvalid || p.Field != "csr" || !strings.Contains(p.Error(), c.message) {
				t.Errorf("got %v, want %q", err, c.message)
			}
		})
	}
}

func TestBrokenRequestsAreRefused(t *testing.T) {
	t.Parallel()
	key := mustKey(t, ECDSAP256)
	der, err := CreateCSR(key, "", mustNames(t, "a.example"))
	if err != nil {
		t.Fatal(err)
	}
	forged := slices.Clone(der)
	forged[slices.Index(forged, 'e')] = 'E' // inside the signed part
	weak := mustCSR(t, mustKey(t, RSA2048), x509.CertificateRequest{SignatureAlgorithm: x509.SHA256WithRSA})
	weak = replaceAll(weak, []byte{0x0d, 0x01, 0x01, 0x0b}, []byte{0x0d, 0x01, 0x01, 0x05}) // sha1WithRSAEncryption
	cases := map[string][]byte{
		"it is empty":              nil,
		"it is not ASN.1":          []byte("hello"),
		"something follows":        append(EncodeCSR(der), EncodeCSR(der)...),
		"something follows in DER": append(slices.Clone(der), 0),
		"it is a certificate":      pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"the content was changed":  forged,
		"the signature uses SHA-1": weak,
		"it is too large":          make([]byte, maxCSR+1),
	}
	for name, text := range cases {
		if _, err := ParseCSR(text); problem.KindOf(err) != problem.KindInvalid {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
}

func TestUnsoundKeysAreRefused(t *testing.T) {
	t.Parallel()
	sound := mustKey(t, RSA2048).Public().(*rsa.PublicKey)
	small := mustKey(t, RSA2048).Public().(*rsa.PublicKey)
	small.N.SetBit(small.N, 0, 0) // even
	odd := *sound
	odd.N = sound.N
	odd.E = 3
	for name, key := range map[string]crypto.PublicKey{
		"even modulus": small,
		"exponent 3":   &odd,
		"P-521":        mustP521(t).Public(),
		"a string":     "key",
	} {
		if _, err := KeyTypeOf(key); problem.KindOf(err) != problem.KindInvalid {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
	if kt, err := KeyTypeOf(sound); kt != RSA2048 || err != nil {
		t.Errorf("a sound key is %s, %v", kt, err)
	}
}

// FuzzParseCSR feeds what an agent could send.
func FuzzParseCSR(f *testing.F) {
	key := mustKey(f, ECDSAP256)
	names := mustNames(f, "a.example", "10.0.0.1", "urn:a:b", "a@a.example")
	der, err := CreateCSR(key, "a.example", names)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Add(EncodeCSR(der))
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		csr, err := ParseCSR(text)
		if err != nil {
			if problem.KindOf(err) != problem.KindInvalid {
				t.Fatalf("not a problem of the input: %v", err)
			}
			return
		}
		if CheckCSR(csr, "a.example", names, ECDSAP256) == nil && !namesFrom(csr.DNSNames, csr.IPAddresses, csr.URIs, csr.EmailAddresses).Equal(names) {
			t.Fatal("a request with other names was accepted")
		}
	})
}

func mustP521(tb testing.TB) crypto.Signer {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func mustASN1(tb testing.TB, value any) []byte {
	tb.Helper()
	der, err := asn1.Marshal(value)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func replaceAll(der, from, to []byte) []byte {
	return []byte(strings.ReplaceAll(string(der), string(from), string(to)))
}

func TestHugeKeyIsRefusedBeforeItsSignatureIsChecked(t *testing.T) {
	t.Parallel()
	modulus := make([]byte, 16<<10)
	for i := range modulus {
		modulus[i] = 0xff
	}
	type info struct {
		Algorithm pkix.AlgorithmIdentifier
		Bits      asn1.BitString
	}
	marshal := func(v any) []byte {
		der, err := asn1.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	bits := func(b []byte) asn1.BitString { return asn1.BitString{Bytes: b, BitLength: 8 * len(b)} }
	algorithm := func(last int) pkix.AlgorithmIdentifier {
		return pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, last}, Parameters: asn1.NullRawValue}
	}
	key := marshal(rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537})
	request := marshal(struct {
		Version    int
		Subject    []int
		Key        info
		Attributes []int `asn1:"tag:0,set"`
	}{Key: info{algorithm(1), bits(key)}})
	der := marshal(struct {
		Request   asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: request}, algorithm(11), bits(modulus)})
	_, err := ParseCSR(der)
	p, ok := problem.As(err)
	if !ok || p.Field != "csr" || !strings.Contains(p.Message, "an RSA key of 131072 bits is not supported") {
		t.Errorf("got %v", err)
	}
}
