package pki

import "crypto"

// Bundle is what a target gets: one version with its private key.
type Bundle struct {
	Chain Chain
	Key   crypto.Signer
	Names Names
}

// CertPEM gives the leaf alone.
func (b Bundle) CertPEM() []byte { return b.Chain[:min(1, len(b.Chain))].PEM() }

// ChainPEM gives the certificates above the leaf.
func (b Bundle) ChainPEM() []byte { return b.Chain[min(1, len(b.Chain)):].PEM() }

// FullChainPEM gives the leaf and the certificates above it.
func (b Bundle) FullChainPEM() []byte { return b.Chain.PEM() }

// KeyPEM gives the private key as PKCS #8.
func (b Bundle) KeyPEM() ([]byte, error) { return EncodeKey(b.Key) }
