// Package pki holds the value types of certificates and the rules about them:
// keys, names, certificate requests, chains, and the moment to renew. It is
// pure: no network, no files, no clock.
//
// Names are kept in one canonical form, made by ParseNames, so that equality of
// strings is equality of names everywhere else. A certificate request proves
// possession of a key and repeats what was agreed; CheckCSR refuses one that
// asks for anything else.
package pki

import (
	"crypto/sha256"
	"encoding/hex"
	"math/big"

	"github.com/certctl-io/certctl/internal/problem"
)

// Fingerprint gives the SHA-256 of a DER certificate in lower-case hex without
// colons.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// SerialHex writes a serial number in lower-case hex with an even number of
// digits, as OpenSSL and browsers show it.
func SerialHex(serial *big.Int) string {
	if serial.Sign() == 0 {
		return "00"
	}
	return hex.EncodeToString(serial.Bytes())
}

// ParseSerial reads what SerialHex wrote.
func ParseSerial(text string) (*big.Int, error) {
	digits, err := hex.DecodeString(text)
	if err != nil || len(digits) == 0 {
		return nil, problem.Invalid("serial", "%q is not a serial number in hex", text)
	}
	return new(big.Int).SetBytes(digits), nil
}
