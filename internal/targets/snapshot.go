package targets

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/certctl-io/certctl/internal/problem"
)

// maxFileBytes bounds what is taken for a certificate file, so that a wrong
// path does not copy a disk image.
const maxFileBytes = 16 << 20

// snapshot is what stood at a path at some time: a file, a record, or nothing.
type snapshot struct {
	Path    string      `json:"path"`            // links resolved; of a record, see recordPath
	Store   string      `json:"store,omitempty"` // of a record
	Existed bool        `json:"existed"`
	Mode    fs.FileMode `json:"mode,omitempty"`
	UID     int         `json:"uid,omitempty"`
	GID     int         `json:"gid,omitempty"`
	SHA256  string      `json:"sha256,omitempty"`

	data []byte
}

// takeSnapshot reads what stands at a path now.
func takeSnapshot(path string) (snapshot, error) {
	// Without O_NONBLOCK a pipe put there meanwhile would block the open.
	f, err := openBeside(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return snapshot{Path: path}, nil
	}
	if err != nil {
		return snapshot{}, denied(err)
	}
	defer func() { _ = f.Close() }()
	at, err := f.Stat()
	if err != nil {
		return snapshot{}, err
	}
	if !at.Mode().IsRegular() || at.Size() > maxFileBytes {
		return snapshot{}, problem.Conflict("%s is not a certificate or key file: %s, %d bytes", path, at.Mode(), at.Size()).
			Hint("change the path in the target's settings")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes))
	if err != nil {
		return snapshot{}, err
	}
	return snapshot{
		Path: path, Existed: true, Mode: at.Mode().Perm(), UID: owner(at), GID: group(at), SHA256: sum(data), data: data,
	}, nil
}

// same tells whether two snapshots show the same state of the path.
func (s snapshot) same(o snapshot) bool {
	if !s.Existed || !o.Existed {
		return s.Existed == o.Existed
	}
	return s.Mode == o.Mode && s.UID == o.UID && s.GID == o.GID && s.SHA256 == o.SHA256
}

func sum(data []byte) string {
	digest := sha256.Sum256(data)
	return hex.EncodeToString(digest[:])
}
