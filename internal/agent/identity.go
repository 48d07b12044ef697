package agent

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
)

// Identity is who this agent is, and for which server. The key is the identity:
// it is made here, before the agent joins, and never leaves.
type Identity struct {
	Server     string     `json:"server"`              // URL of the server
	CASHA256   string     `json:"ca_sha256,omitempty"` // fingerprint of its CA, when that is pinned
	CAs        string     `json:"cas,omitempty"`       // PEM of the CAs to trust instead of the system's
	AgentID    string     `json:"agent_id,omitempty"`  // empty until the server has let the agent in
	Name       string     `json:"name,omitempty"`
	ServerID   string     `json:"server_id,omitempty"`
	EnrolledAt *time.Time `json:"enrolled_at,omitempty"`

	key ed25519.PrivateKey
}

// Enrolled reports whether the server has let the agent in.
func (i Identity) Enrolled() bool { return i.AgentID != "" }

// identityFile is how the identity is stored: in one file, so that there is
// never a key without its agent or the other way round.
type identityFile struct {
	Identity
	Key string `json:"key"` // PKCS #8 in PEM
}

func identityPath(stateDir string) string { return filepath.Join(stateDir, "identity.json") }

// ReadIdentity reads who the agent of a state directory is.
func ReadIdentity(stateDir string) (Identity, error) {
	path := identityPath(stateDir)
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Identity{}, notEnrolled(stateDir)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("read the agent's identity: %w", err)
	}
	var stored identityFile
	if err := json.Unmarshal(content, &stored); err != nil {
		return Identity{}, fmt.Errorf("read the agent's identity: %s: %w", path, err)
	}
	signer, err := pki.DecodeKey([]byte(stored.Key))
	if err != nil {
		return Identity{}, fmt.Errorf("read the agent's identity: %s: %w", path, err)
	}
	key, ok := signer.(ed25519.PrivateKey)
	if !ok {
		return Identity{}, fmt.Errorf("read the agent's identity: %s holds a %T, not an Ed25519 key", path, signer)
	}
	stored.key = key
	return stored.Identity, nil
}

func (i Identity) write(stateDir string) error {
	key, err := pki.EncodeKey(i.key)
	if err != nil {
		return fmt.Errorf("encode the agent's key: %w", err)
	}
	content, err := json.MarshalIndent(identityFile{Identity: i, Key: string(key)}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the agent's identity: %w", err)
	}
	if err := writeFile(identityPath(stateDir), append(content, '\n')); err != nil {
		return fmt.Errorf("write the agent's identity: %w", err)
	}
	return nil
}

// NotEnrolledError says that a state directory holds no agent that has joined.
type NotEnrolledError struct{ Problem *problem.Error }

// Error implements error.
func (e *NotEnrolledError) Error() string { return e.Problem.Error() }

// Unwrap gives the problem.
func (e *NotEnrolledError) Unwrap() error { return e.Problem }

func notEnrolled(stateDir string) error {
	return &NotEnrolledError{problem.Conflict("there is no enrolled agent in %s", stateDir).
		Hint("run certctl-agent enroll first, or name the state directory with --state")}
}
