// Package secret keeps secrets: the String type for those in memory, and the
// Box that encrypts those that must be stored.
//
// A sealed value is an envelope: a random data key encrypts the plaintext with
// AES-256-GCM, and a key derived from the master key (HKDF-SHA-256) wraps the
// data key. The purpose of the value, such as the table and row it belongs to,
// is authenticated with both layers, so that a sealed value copied to another
// place does not open there.
package secret

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// KeySize is the length of a master key in bytes.
const KeySize = 32

const (
	formatVersion = 1
	keyIDSize     = 8
	nonceSize     = 12
	tagSize       = 16
	headerSize    = 1 + keyIDSize
	wrappedSize   = nonceSize + KeySize + tagSize
)

// ErrWrongKey reports that a value was sealed under another master key.
var ErrWrongKey = errors.New("sealed under another encryption key")

// Box seals and opens values under one master key.
type Box struct {
	keyID   []byte
	wrapper cipher.AEAD
}

// NewBox makes a Box of a master key of KeySize bytes.
func NewBox(master []byte) (*Box, error) {
	if len(master) != KeySize {
		return nil, fmt.Errorf("the encryption key has %d bytes, it must have %d", len(master), KeySize)
	}
	keyID, err := hkdf.Key(sha256.New, master, nil, "certctl master key id v1", keyIDSize)
	if err != nil {
		return nil, fmt.Errorf("derive key id: %w", err)
	}
	wrapKey, err := hkdf.Key(sha256.New, master, nil, "certctl data key wrapping v1", KeySize)
	if err != nil {
		return nil, fmt.Errorf("derive wrapping key: %w", err)
	}
	wrapper, err := newAEAD(wrapKey)
	if err != nil {
		return nil, err
	}
	return &Box{keyID: keyID, wrapper: wrapper}, nil
}

// Seal encrypts plain for one purpose.
func (b *Box) Seal(purpose string, plain []byte) ([]byte, error) {
	dataKey := make([]byte, KeySize)
	nonces := make([]byte, 2*nonceSize)
	rand.Read(dataKey) // crypto/rand.Read never fails: it ends the program instead.
	rand.Read(nonces)
	data, err := newAEAD(dataKey)
	if err != nil {
		return nil, err
	}
	sealed := append([]byte{formatVersion}, b.keyID...)
	header := bytes.Clone(sealed)
	sealed = append(sealed, nonces[:nonceSize]...)
	sealed = b.wrapper.Seal(sealed, nonces[:nonceSize], dataKey, additional(header, "key", purpose))
	sealed = append(sealed, nonces[nonceSize:]...)
	return data.Seal(sealed, nonces[nonceSize:], plain, additional(header, "data", purpose)), nil
}

// Open decrypts what Seal made for the same purpose. It answers ErrWrongKey
// when the value was sealed under another master key.
func (b *Box) Open(purpose string, sealed []byte) ([]byte, error) {
	if len(sealed) < headerSize+wrappedSize+nonceSize+tagSize || sealed[0] != formatVersion {
		return nil, errors.New("not a sealed value")
	}
	header, rest := sealed[:headerSize], sealed[headerSize:]
	if !bytes.Equal(header[1:], b.keyID) {
		return nil, ErrWrongKey
	}
	wrapped, rest := rest[:wrappedSize], rest[wrappedSize:]
	dataKey, err := b.wrapper.Open(nil, wrapped[:nonceSize], wrapped[nonceSize:], additional(header, "key", purpose))
	if err != nil {
		return nil, fmt.Errorf("unwrap data key of %s: %w", purpose, err)
	}
	data, err := newAEAD(dataKey)
	if err != nil {
		return nil, err
	}
	plain, err := data.Open(nil, rest[:nonceSize], rest[nonceSize:], additional(header, "data", purpose))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", purpose, err)
	}
	return plain, nil
}

func additional(header []byte, layer, purpose string) []byte {
	return fmt.Appendf(bytes.Clone(header), "/%s/%s", layer, purpose)
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("make GCM: %w", err)
	}
	return aead, nil
}

// ParseKey reads a master key from its base64 text.
func ParseKey(text string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != KeySize {
		return nil, errors.New("it is not 32 bytes in base64; make one with: openssl rand -base64 32")
	}
	return key, nil
}

// LoadOrCreateKey reads the master key from a file that only its owner can
// read, and makes the file with a random key when it is not there. Two
// processes that race end with the same key.
func LoadOrCreateKey(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		if err := createKeyFile(path); err != nil {
			return nil, err
		}
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read encryption key: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read encryption key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("the encryption key file %s can be read by others (mode %04o): run chmod 600 on it", path, info.Mode().Perm())
	}
	key, err := ParseKey(string(bytes.TrimSpace(text)))
	if err != nil {
		return nil, fmt.Errorf("the encryption key file %s is damaged: %w", path, err)
	}
	return key, nil
}

// createKeyFile writes a new key beside path and links it into place, which
// fails when another process was first and never shows a half-written file.
func createKeyFile(path string) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".encryption-key-*")
	if err != nil {
		return fmt.Errorf("create encryption key: %w", err)
	}
	defer func() { _ = os.Remove(temp.Name()) }()
	key := make([]byte, KeySize)
	rand.Read(key)
	_, err = temp.WriteString(base64.StdEncoding.EncodeToString(key) + "\n")
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err != nil {
		return fmt.Errorf("write encryption key: %w", err)
	}
	if err := os.Link(temp.Name(), path); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("create encryption key: %w", err)
	}
	return nil
}
