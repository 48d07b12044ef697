package pki

import (
	"crypto/x509"
	"database/sql/driver"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/certctl-io/certctl/internal/problem"
)

// Chain is a list of certificates in DER, the leaf first, each signed by the
// next. In JSON and in the database it is their concatenated PEM.
type Chain [][]byte

// ParseChain reads certificates in PEM, in the order in which they stand. Text
// between the blocks is skipped, blocks of another type are refused.
func ParseChain(text []byte) (Chain, error) {
	var chain Chain
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, problem.Invalid("chain", "block %d of the PEM text is a %s", len(chain)+1, block.Type).
				Hint("give certificates only, the leaf first")
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, problem.Invalid("chain", "certificate %d cannot be read: %v", len(chain)+1, err)
		}
		chain = append(chain, block.Bytes)
	}
	if len(chain) == 0 {
		return nil, problem.Invalid("chain", "there is no certificate in it").
			Hint("give PEM text with CERTIFICATE blocks, the leaf first")
	}
	return chain, nil
}

// PEM writes all certificates, the leaf first.
func (c Chain) PEM() []byte {
	var text []byte
	for _, der := range c {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return text
}

// Leaf parses the first certificate.
func (c Chain) Leaf() (*x509.Certificate, error) {
	if len(c) == 0 {
		return nil, errors.New("the chain is empty")
	}
	leaf, err := x509.ParseCertificate(c[0])
	if err != nil {
		return nil, fmt.Errorf("parse leaf: %w", err)
	}
	return leaf, nil
}

// Certificates parses all certificates, the leaf first.
func (c Chain) Certificates() ([]*x509.Certificate, error) {
	certificates := make([]*x509.Certificate, 0, len(c))
	for i, der := range c {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("parse certificate %d of the chain: %w", i+1, err)
		}
		certificates = append(certificates, certificate)
	}
	return certificates, nil
}

// MarshalJSON writes the chain as a string of PEM.
func (c Chain) MarshalJSON() ([]byte, error) { return json.Marshal(string(c.PEM())) }

// UnmarshalJSON reads a string of PEM; an empty one is an empty chain.
func (c *Chain) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	return c.set([]byte(text))
}

// Value implements driver.Valuer; an empty chain is NULL.
func (c Chain) Value() (driver.Value, error) {
	if len(c) == 0 {
		return nil, nil
	}
	return c.PEM(), nil
}

// Scan implements sql.Scanner.
func (c *Chain) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		return c.set(nil)
	case []byte:
		return c.set(v)
	case string:
		return c.set([]byte(v))
	default:
		return fmt.Errorf("a chain column holds %T", src)
	}
}

func (c *Chain) set(text []byte) error {
	*c = nil
	if len(text) == 0 {
		return nil
	}
	chain, err := ParseChain(text)
	*c = chain
	return err
}
