package pki

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/certctl-io/certctl/internal/problem"
)

func TestKeysSurviveEncoding(t *testing.T) {
	t.Parallel()
	for _, kt := range []KeyType{ECDSAP256, ECDSAP384, RSA2048, Ed25519} {
		key := mustKey(t, kt)
		if got, err := KeyTypeOf(key.Public()); got != kt || err != nil {
			t.Errorf("a %s key is taken for %s, %v", kt, got, err)
		}
		text, err := EncodeKey(key)
		if err != nil {
			t.Fatal(err)
		}
		checkDecoded(t, key, text)
		checkDecoded(t, key, append([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"), text...))
	}
}

func TestOlderKeyFormsAreRead(t *testing.T) {
	t.Parallel()
	rsaKey := mustKey(t, RSA2048).(*rsa.PrivateKey)
	checkDecoded(t, rsaKey, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)}))
	ecKey := mustKey(t, ECDSAP384).(*ecdsa.PrivateKey)
	der, err := x509.MarshalECPrivateKey(ecKey)
	if err != nil {
		t.Fatal(err)
	}
	checkDecoded(t, ecKey, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

func checkDecoded(t *testing.T, key crypto.Signer, text []byte) {
	t.Helper()
	got, err := DecodeKey(text)
	if err != nil {
		t.Error(err)
		return
	}
	if !got.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) {
		t.Error("the decoded key is another one")
	}
}

func TestWhatIsNoPrivateKeyIsRefused(t *testing.T) {
	t.Parallel()
	agreement, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(agreement)
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		text    []byte
		message string
	}{
		{nil, "no private key"},
		{[]byte("hello"), "no private key"},
		{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}}), "no private key"},
		{pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}), "cannot be read"},
		{pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), "not supported"},
		{pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}}), "pass phrase"},
		{pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}, Bytes: []byte{1}}), "pass phrase"},
	}
	for _, c := range cases {
		_, err := DecodeKey(c.text)
		if problem.KindOf(err) != problem.KindInvalid || !strings.Contains(err.Error(), c.message) {
			t.Errorf("%.40q: got %v, want %q", c.text, err, c.message)
		}
	}
}

func TestUnknownKeyTypesAreRefused(t *testing.T) {
	t.Parallel()
	for _, kt := range KeyTypes {
		if got, err := ParseKeyType(string(kt)); got != kt || err != nil {
			t.Errorf("%s reads as %s, %v", kt, got, err)
		}
	}
	_, err := ParseKeyType("RSA-1024")
	if p, ok := problem.As(err); !ok || p.Field != "key_type" || !strings.Contains(p.Remedy, "ecdsa-p256") {
		t.Errorf("got %v, want a remedy that lists the key types", err)
	}
	if _, err := GenerateKey("dsa"); problem.KindOf(err) != problem.KindInvalid {
		t.Errorf("got %v, want invalid", err)
	}
}
