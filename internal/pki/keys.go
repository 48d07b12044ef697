package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"

	"github.com/certctl-io/certctl/internal/problem"
)

// KeyType names an algorithm together with its size.
type KeyType string

// The key types that certificates may have.
const (
	ECDSAP256 KeyType = "ecdsa-p256"
	ECDSAP384 KeyType = "ecdsa-p384"
	RSA2048   KeyType = "rsa-2048"
	RSA3072   KeyType = "rsa-3072"
	RSA4096   KeyType = "rsa-4096"
	Ed25519   KeyType = "ed25519"
)

// KeyTypes are all key types, the recommended first.
var KeyTypes = []KeyType{ECDSAP256, ECDSAP384, RSA2048, RSA3072, RSA4096, Ed25519}

// ParseKeyType reads the name of a key type.
func ParseKeyType(name string) (KeyType, error) {
	for _, kt := range KeyTypes {
		if string(kt) == name {
			return kt, nil
		}
	}
	return "", problem.Invalid("key_type", "%q is not a key type", name).
		Hint("use one of %s", list(KeyTypes))
}

// GenerateKey makes a new private key.
func GenerateKey(kt KeyType) (crypto.Signer, error) {
	switch kt {
	case ECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ECDSAP384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	default:
		_, err := ParseKeyType(string(kt))
		return nil, err
	}
}

// KeyTypeOf classifies a public key. Keys of another algorithm, curve or size
// than KeyTypes lists are refused, and so are RSA keys that are not sound.
func KeyTypeOf(public crypto.PublicKey) (KeyType, error) {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return ECDSAP256, nil
		case elliptic.P384():
			return ECDSAP384, nil
		}
		return "", unsupportedKey("an ECDSA key on the curve %s", key.Params().Name)
	case *rsa.PublicKey:
		kt := KeyType(fmt.Sprintf("rsa-%d", key.N.BitLen()))
		if kt != RSA2048 && kt != RSA3072 && kt != RSA4096 {
			return "", unsupportedKey("an RSA key of %d bits", key.N.BitLen())
		}
		return kt, checkRSA(key)
	case ed25519.PublicKey:
		return Ed25519, nil
	default:
		return "", unsupportedKey("a key of the type %T", public)
	}
}

func unsupportedKey(format string, args ...any) *problem.Error {
	return problem.Invalid("key", "%s is not supported", fmt.Sprintf(format, args...)).
		Hint("use one of %s", list(KeyTypes))
}

// checkRSA refuses keys that the Baseline Requirements, 6.1.6, call unsound:
// an exponent below 65537 or even, and a modulus with a factor below 752.
func checkRSA(key *rsa.PublicKey) error {
	if key.E < 65537 || key.E%2 == 0 {
		return problem.Invalid("key", "the RSA key has the public exponent %d", key.E).
			Hint("make a key with the exponent 65537")
	}
	for n := int64(2); n < 752; n++ {
		if new(big.Int).Mod(key.N, big.NewInt(n)).Sign() == 0 {
			return problem.Invalid("key", "the RSA modulus is divisible by %d", n).
				Hint("make a new key with a sound generator")
		}
	}
	return nil
}

// EncodeKey writes a private key as PKCS #8 in PEM.
func EncodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// DecodeKey reads the first private key of a PEM text: PKCS #8, PKCS #1 or
// SEC 1, not encrypted.
func DecodeKey(text []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return nil, problem.Invalid("key", "the private key is encrypted with a pass phrase").
				Hint("decrypt it first: openssl pkey -in encrypted.pem -out key.pem")
		}
		switch block.Type {
		case "PRIVATE KEY":
			return parsedKey(x509.ParsePKCS8PrivateKey(block.Bytes))
		case "RSA PRIVATE KEY":
			return parsedKey(x509.ParsePKCS1PrivateKey(block.Bytes))
		case "EC PRIVATE KEY":
			return parsedKey(x509.ParseECPrivateKey(block.Bytes))
		}
	}
	return nil, problem.Invalid("key", "there is no private key in it").
		Hint("give a PEM text with a PRIVATE KEY block")
}

// parsedKey turns a parser's answer into a signer. The parser's error is not
// passed on, as it could quote key material.
func parsedKey[K any](key K, err error) (crypto.Signer, error) {
	if err != nil {
		return nil, problem.Invalid("key", "the private key cannot be read").
			Hint("check it with: openssl pkey -in key.pem -check -noout")
	}
	signer, ok := any(key).(crypto.Signer)
	if !ok {
		return nil, unsupportedKey("a key of the type %T", key)
	}
	return signer, nil
}

// list joins the values of an enumeration for a message.
func list[T ~string](values []T) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = string(v)
	}
	return strings.Join(words, ", ")
}
