package file

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/certctl-io/certctl/internal/pki"
)

// encodePKCS12 makes a PKCS #12 file of key and chain with AES-256 and SHA-2.
//
// The same input gives the same bytes, or the engine would take each deployment
// for a change: salts and IVs are not drawn but derived from the private key,
// the password and the leaf. So they stay unpredictable to others and differ
// wherever anything that is encrypted differs, which is all they are for.
func encodePKCS12(b pki.Bundle, password string) ([]byte, error) {
	chain, err := b.Chain.Certificates()
	if err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		return nil, errors.New("encode PKCS #12: the chain is empty")
	}
	key, err := x509.MarshalPKCS8PrivateKey(b.Key)
	if err != nil {
		return nil, fmt.Errorf("encode PKCS #12: %w", err)
	}
	salts, err := newSaltReader(append(key, password...), chain)
	if err != nil {
		return nil, fmt.Errorf("encode PKCS #12: %w", err)
	}
	data, err := pkcs12.Modern2023.WithRand(salts).Encode(b.Key, chain[0], chain[1:], password)
	if err != nil {
		return nil, fmt.Errorf("encode PKCS #12: %w", err)
	}
	return data, nil
}

// saltBytes is more than the encoder reads, two salts, two IVs and one salt of
// the MAC, each of 16 bytes; when it should read more, encoding fails.
const saltBytes = 1024

type saltReader struct{ left []byte }

func newSaltReader(secret []byte, chain []*x509.Certificate) (*saltReader, error) {
	all := sha256.New()
	for _, c := range chain {
		all.Write(c.Raw)
	}
	stream, err := hkdf.Key(sha256.New, secret, all.Sum(nil), "certctl PKCS #12 salts and IVs", saltBytes)
	return &saltReader{left: stream}, err
}

// Read implements io.Reader; each byte is given once.
func (r *saltReader) Read(p []byte) (int, error) {
	if len(p) > len(r.left) {
		return 0, io.ErrUnexpectedEOF
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}
