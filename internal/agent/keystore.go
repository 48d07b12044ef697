package agent

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
)

// keptKeys is how many keys of a certificate stay besides those in use: the
// one that is about to be deployed, and some that a failed order may come back
// to.
const keptKeys = 3

// keyStore keeps the private keys of certificates, one for each order:
//
//	keys/<certificate id>/<order id>.key   private key, PKCS #8 in PEM
//	keys/<certificate id>/<order id>.csr   the request that was made for it
//	keys/<certificate id>/in-use.json      target id to the order whose key it has
//
// A key is on disk before its request leaves, and it is never overwritten.
type keyStore struct {
	dir string
	mu  sync.Mutex // held to change in-use.json and to prune
}

func newKeyStore(stateDir string) (*keyStore, error) {
	dir := filepath.Join(stateDir, "keys")
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("make the key directory: %w", err)
	}
	return &keyStore{dir: dir}, nil
}

// request gives the certificate request of an order in PEM, and makes it and
// its key when there is none yet. The same order gets the same request always,
// also after a crash.
func (s *keyStore) request(task agentapi.CSRTask) ([]byte, error) {
	path, err := s.path(task.CertificateID, task.OrderID)
	if err != nil {
		return nil, err
	}
	key, err := s.ensureKey(path+".key", task.KeyType)
	if err != nil {
		return nil, err
	}
	if stored, err := os.ReadFile(path + ".csr"); err == nil && matches(stored, key, task) {
		return stored, nil
	}
	der, err := pki.CreateCSR(key, task.CommonName, task.Names)
	if err != nil {
		return nil, fmt.Errorf("make a certificate request: %w", err)
	}
	request := pki.EncodeCSR(der)
	if err := writeFile(path+".csr", request); err != nil {
		return nil, fmt.Errorf("store the certificate request: %w", err)
	}
	return request, nil
}

// ensureKey reads the key of an order, or makes it.
func (s *keyStore) ensureKey(path string, keyType pki.KeyType) (crypto.Signer, error) {
	key, err := readKey(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if key, err = pki.GenerateKey(keyType); err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	text, err := pki.EncodeKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the key: %w", err)
	}
	if err := makeDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("make the directory of the key: %w", err)
	}
	if err := writeFile(path, text); err != nil {
		return nil, fmt.Errorf("store the key: %w", err)
	}
	return key, nil
}

// matches reports whether a stored request is the one that the task asks for.
func matches(stored []byte, key crypto.Signer, task agentapi.CSRTask) bool {
	csr, err := pki.ParseCSR(stored)
	if err != nil || pki.CheckCSR(csr, task.CommonName, task.Names, task.KeyType) != nil {
		return false
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(csr.PublicKey)
}

// key gives the private key that was made for an order.
func (s *keyStore) key(certificateID, orderID string) (crypto.Signer, error) {
	path, err := s.path(certificateID, orderID)
	if err != nil {
		return nil, err
	}
	key, err := readKey(path + ".key")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, problem.Conflict("this agent does not have the private key of the order: %s.key is missing", path).
			Hint("renew the certificate, which makes a new key")
	}
	return key, err
}

func readKey(path string) (crypto.Signer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	key, err := pki.DecodeKey(text)
	if err != nil {
		return nil, fmt.Errorf("read the key %s: %w", path, err)
	}
	return key, nil
}

// use records that a target has the key of an order now.
func (s *keyStore) use(certificateID, orderID, targetID string) error {
	path, err := s.path(certificateID, orderID)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := record(filepath.Dir(path), targetID, orderID); err != nil {
		return fmt.Errorf("record the key in use: %w", err)
	}
	return nil
}

func record(dir, targetID, orderID string) error {
	inUse, err := readInUse(dir)
	if err != nil || inUse[targetID] == orderID {
		return err
	}
	inUse[targetID] = orderID
	text, err := json.Marshal(inUse)
	if err != nil {
		return err
	}
	return writeFile(inUsePath(dir), text)
}

func inUsePath(dir string) string { return filepath.Join(dir, "in-use.json") }

func readInUse(dir string) (map[string]string, error) {
	inUse := map[string]string{}
	text, err := os.ReadFile(inUsePath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return inUse, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &inUse); err != nil {
		return nil, fmt.Errorf("%s: %w", inUsePath(dir), err)
	}
	return inUse, nil
}

// prune removes the keys of a certificate that nothing needs any more: all but
// the newest and those in use. When it is not known what is in use, nothing is
// removed.
func (s *keyStore) prune(certificateID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir := filepath.Join(s.dir, certificateID)
	inUse, err := readInUse(dir)
	if err != nil {
		return fmt.Errorf("prune keys: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.key"))
	if err != nil {
		return fmt.Errorf("prune keys: %w", err)
	}
	needed := slices.Collect(maps.Values(inUse))
	slices.Sort(files) // ids sort by time
	for _, file := range files[:max(0, len(files)-keptKeys)] {
		path := strings.TrimSuffix(file, ".key")
		if slices.Contains(needed, filepath.Base(path)) {
			continue
		}
		if err := errors.Join(removeFile(path+".csr"), removeFile(file)); err != nil {
			return fmt.Errorf("prune keys: %w", err)
		}
	}
	return nil
}

// path is where the files of an order are, without their endings. The ids come
// from the network and become names of files, so they must be ids.
func (s *keyStore) path(certificateID, orderID string) (string, error) {
	if !id.Is("crt", certificateID) || !id.Is("ord", orderID) {
		return "", problem.Conflict("order %q of certificate %q: these are no ids", orderID, certificateID)
	}
	return filepath.Join(s.dir, certificateID, orderID), nil
}
