package pki

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/problem"
)

// selfSigned makes a certificate with what the RFCs demand of a CA, changed
// by edit.
func selfSigned(tb testing.TB, key crypto.Signer, edit func(*x509.Certificate)) []byte {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "Test CA"},
		NotBefore:             time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
		BasicConstraintsValid: true,
		IsCA:                  true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	edit(template)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func TestChainIsPEMInJSONAndInTheDatabase(t *testing.T) {
	t.Parallel()
	key := mustKey(t, ECDSAP256)
	first := selfSigned(t, key, func(c *x509.Certificate) {})
	second := selfSigned(t, key, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(2) })
	chain := Chain{first, second}

	text, err := json.Marshal(chain)
	if err != nil || !strings.HasPrefix(string(text), `"-----BEGIN CERTIFICATE-----\n`) {
		t.Fatalf("JSON is %.40s, %v", text, err)
	}
	var fromJSON, fromDB, empty Chain
	if err := json.Unmarshal(text, &fromJSON); err != nil || !slices.EqualFunc(chain, fromJSON, bytes.Equal) {
		t.Errorf("JSON reads back as another chain: %v", err)
	}
	value, err := chain.Value()
	if err != nil {
		t.Fatal(err)
	}
	if err := fromDB.Scan(value); err != nil || !slices.EqualFunc(chain, fromDB, bytes.Equal) {
		t.Errorf("the column reads back as another chain: %v", err)
	}
	if value, err := empty.Value(); value != nil || err != nil {
		t.Errorf("an empty chain is stored as %v, %v", value, err)
	}
	if err := fromDB.Scan(nil); err != nil || fromDB != nil {
		t.Errorf("NULL reads as %v, %v", fromDB, err)
	}
	if err := fromDB.Scan(7); err == nil {
		t.Error("a number was read as a chain")
	}
	leaf, err := chain.Leaf()
	if err != nil || leaf.SerialNumber.Int64() != 1 {
		t.Errorf("the leaf is %v, %v", leaf, err)
	}
	if _, err := empty.Leaf(); err == nil {
		t.Error("an empty chain has a leaf")
	}
}

func TestParseChainRefusesWhatIsNoChain(t *testing.T) {
	t.Parallel()
	key := mustKey(t, ECDSAP256)
	certificate := Chain{selfSigned(t, key, func(*x509.Certificate) {})}.PEM()
	private, err := EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"nothing":          nil,
		"a key":            private,
		"a key among them": slices.Concat(certificate, private),
		"garbage":          []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
	} {
		if _, err := ParseChain(text); problem.KindOf(err) != problem.KindInvalid {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
	commented := slices.Concat([]byte("# issued today\n"), certificate)
	if chain, err := ParseChain(commented); err != nil || len(chain) != 1 {
		t.Errorf("text before the block: %v", err)
	}
}

func TestBundleSplitsLeafAndChain(t *testing.T) {
	t.Parallel()
	key := mustKey(t, ECDSAP256)
	leaf, ca := selfSigned(t, key, func(*x509.Certificate) {}), selfSigned(t, key, func(*x509.Certificate) {})
	b := Bundle{Chain: Chain{leaf, ca}, Key: key}
	if !bytes.Equal(b.CertPEM(), Chain{leaf}.PEM()) || !bytes.Equal(b.ChainPEM(), Chain{ca}.PEM()) ||
		!bytes.Equal(b.FullChainPEM(), slices.Concat(b.CertPEM(), b.ChainPEM())) {
		t.Error("the parts of the bundle are not its chain")
	}
	alone := Bundle{Chain: Chain{leaf}, Key: key}
	if len(alone.ChainPEM()) != 0 || len(Bundle{}.CertPEM()) != 0 {
		t.Error("a bundle without intermediates has some")
	}
	text, err := b.KeyPEM()
	if err != nil || !bytes.HasPrefix(text, []byte("-----BEGIN PRIVATE KEY-----")) {
		t.Errorf("the key is %.30s, %v", text, err)
	}
}

func TestSerialHasEvenDigitsAndReadsBack(t *testing.T) {
	t.Parallel()
	for text, n := range map[string]int64{"00": 0, "01": 1, "0abc": 0xabc, "ff00": 0xff00} {
		if got := SerialHex(big.NewInt(n)); got != text {
			t.Errorf("SerialHex(%#x) = %q, want %q", n, got, text)
		}
		if got, err := ParseSerial(text); err != nil || got.Int64() != n {
			t.Errorf("ParseSerial(%q) = %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "a", "xy"} {
		if _, err := ParseSerial(text); problem.KindOf(err) != problem.KindInvalid {
			t.Errorf("ParseSerial(%q): %v, want invalid", text, err)
		}
	}
}

func TestRenewAt(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		lifetime time.Duration
		jitter   float64
		want     time.Duration
	}{
		{90 * day, 0, 60 * day},
		{90 * day, 1, 60*day - 108*time.Hour},
		{10 * day, 0, 160 * time.Hour},
		{8 * day, 0, 4 * day},
		{time.Hour, 0, 30 * time.Minute},
		{time.Hour, 1, 27 * time.Minute},
		{time.Hour, 7, 27 * time.Minute},
		{time.Hour, -7, 30 * time.Minute},
		{0, 0.5, 0},
		{-time.Hour, 0.5, 0},
	} {
		if got := RenewAt(start, start.Add(c.lifetime), c.jitter).Sub(start); got != c.want {
			t.Errorf("lifetime %v, jitter %v: after %v, want %v", c.lifetime, c.jitter, got, c.want)
		}
	}
}

func TestUsagesAreAListOfKnownOnes(t *testing.T) {
	t.Parallel()
	got, err := ExtKeyUsages(LeafUsages)
	want := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageEmailProtection}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	for field, usages := range map[string][]string{"usages": nil, "usages[1]": {ServerAuth, "ocsp_signing"}} {
		_, err := ExtKeyUsages(usages)
		if p, ok := problem.As(err); !ok || p.Field != field {
			t.Errorf("%v: got %v, want field %s", usages, err, field)
		}
	}
}

func TestLinterFindsWhatItsSourcesSay(t *testing.T) {
	t.Parallel()
	linter := NewLinter()
	key := mustKey(t, ECDSAP256)
	good := selfSigned(t, key, func(*x509.Certificate) {})
	long := selfSigned(t, key, func(c *x509.Certificate) { c.Subject.CommonName = strings.Repeat("x", 65) })
	for _, c := range []struct {
		name        string
		der         []byte
		publicTrust bool
		refused     string // the lint that refuses it
	}{
		{"a private CA", good, false, ""},
		{"a public CA without country", good, true, "e_ca_country_name_missing"},
		{"a name that is too long", long, false, "e_subject_common_name_max_length"},
	} {
		findings, err := linter.Lint(c.der, c.publicTrust)
		if err != nil {
			t.Fatal(err)
		}
		var refusing []string
		for _, f := range findings {
			if f.Refuses() {
				refusing = append(refusing, f.Lint)
			}
		}
		if c.refused == "" && len(refusing) > 0 || c.refused != "" && !slices.Contains(refusing, c.refused) {
			t.Errorf("%s is refused by %v, want %q", c.name, refusing, c.refused)
		}
	}
	if _, err := linter.Lint([]byte("x"), false); err == nil {
		t.Error("garbage was linted")
	}
}

func TestStatusURLNamesWhatIsServed(t *testing.T) {
	t.Parallel()
	const at StatusURL = "http://pki.example.com/status"
	for got, want := range map[string]string{
		at.CRL("iss_1", 12): "http://pki.example.com/status/crl/iss_1/12.crl",
		at.CA("iss_1"):      "http://pki.example.com/status/ca/iss_1.crt",
		at.OCSP("iss_1"):    "http://pki.example.com/status/ocsp/iss_1",
	} {
		if got != want {
			t.Errorf("the address is %s, want %s", got, want)
		}
	}
}
