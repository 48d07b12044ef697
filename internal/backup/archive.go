package backup

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/certctl-io/certctl/internal/problem"
)

const (
	manifestEntry  = "manifest.json"
	masterKeyEntry = "master.key"
	partEntry      = "database/%06d"
	endEntry       = "end.json"

	// partSize is what is held in memory, as tar wants to know the size of an
	// entry before its content.
	partSize = 4 << 20

	// maxSmallEntry bounds the entries that are read as a whole.
	maxSmallEntry = 64 << 10
)

// end is the last entry.
type end struct {
	Parts  int    `json:"parts"`
	SHA256 string `json:"sha256"` // of the content of all entries before
}

// writer writes an archive. The dump goes through Write.
type writer struct {
	tar   *tar.Writer
	at    time.Time
	hash  hash.Hash
	part  []byte
	parts int
}

// newWriter begins an archive. The master key is nil when it stays out.
func newWriter(w io.Writer, m Manifest, masterKey []byte) (*writer, error) {
	a := &writer{tar: tar.NewWriter(w), at: m.CreatedAt, hash: sha256.New(), part: make([]byte, 0, partSize)}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the manifest: %w", err)
	}
	if err := a.entry(manifestEntry, append(text, '\n')); err != nil {
		return nil, err
	}
	if masterKey == nil {
		return a, nil
	}
	return a, a.entry(masterKeyEntry, masterKey)
}

// Write adds a piece of the dump.
func (a *writer) Write(data []byte) (int, error) {
	written := 0
	for len(data) > 0 {
		n := min(len(data), partSize-len(a.part))
		a.part = append(a.part, data[:n]...)
		data, written = data[n:], written+n
		if len(a.part) < partSize {
			continue
		}
		if err := a.flush(); err != nil {
			return written, err
		}
	}
	return written, nil
}

func (a *writer) flush() error {
	if len(a.part) == 0 {
		return nil
	}
	a.parts++
	err := a.entry(fmt.Sprintf(partEntry, a.parts), a.part)
	a.part = a.part[:0]
	return err
}

// Close writes what is missing of the archive.
func (a *writer) Close() error {
	if err := a.flush(); err != nil {
		return err
	}
	text, err := json.Marshal(end{Parts: a.parts, SHA256: hex.EncodeToString(a.hash.Sum(nil))})
	if err != nil {
		return fmt.Errorf("encode the end: %w", err)
	}
	if err := a.entry(endEntry, append(text, '\n')); err != nil {
		return err
	}
	return a.tar.Close()
}

func (a *writer) entry(name string, content []byte) error {
	err := a.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(content)), ModTime: a.at, Format: tar.FormatPAX})
	if err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	a.hash.Write(content)
	if _, err := a.tar.Write(content); err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	return nil
}

// reader reads an archive. The dump comes from Read, which ends with io.EOF
// only when all of the archive was there and is undamaged.
type reader struct {
	Manifest  Manifest
	MasterKey []byte // nil when it is not in the backup

	tar   *tar.Reader
	hash  hash.Hash
	parts int
	in    bool // in a part
	done  error
}

// newReader reads an archive up to the dump.
func newReader(r io.Reader) (*reader, error) {
	a := &reader{tar: tar.NewReader(r), hash: sha256.New()}
	name, err := a.next()
	if err != nil || name != manifestEntry {
		return nil, problem.Invalid("from", "it is not a backup of certctl")
	}
	text, err := a.small()
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &a.Manifest); err != nil {
		return nil, damaged("its manifest cannot be read")
	}
	if a.Manifest.Format > formatVersion {
		return nil, problem.Invalid("from", "the backup was made by certctl %s, in a form that this one does not know", a.Manifest.Version).
			Hint("restore it with that version or a newer one")
	}
	if !a.Manifest.WithMasterKey {
		return a, nil
	}
	if name, err = a.next(); err != nil || name != masterKeyEntry {
		return nil, damaged("the master key is not where it should be")
	}
	a.MasterKey, err = a.small()
	return a, err
}

// Read reads the dump.
func (a *reader) Read(p []byte) (int, error) {
	for a.done == nil {
		if !a.in {
			a.done = a.enter()
			continue
		}
		n, err := a.tar.Read(p)
		a.hash.Write(p[:n])
		switch {
		case errors.Is(err, io.EOF):
			a.in = false
		case err != nil:
			a.done = unreadable(err)
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, a.done
}

// enter goes to the next part, or reads the end.
func (a *reader) enter() error {
	name, err := a.next()
	if err != nil {
		return err
	}
	if name == fmt.Sprintf(partEntry, a.parts+1) {
		a.parts++
		a.in = true
		return nil
	}
	if name != endEntry {
		return damaged("there is an entry that does not belong there")
	}
	sum := hex.EncodeToString(a.hash.Sum(nil))
	text, err := a.small()
	if err != nil {
		return err
	}
	var e end
	if json.Unmarshal(text, &e) != nil || e.Parts != a.parts || e.SHA256 != sum {
		return damaged("its content is not what was written")
	}
	return io.EOF
}

func (a *reader) next() (string, error) {
	header, err := a.tar.Next()
	if errors.Is(err, io.EOF) {
		return "", damaged("its end is missing")
	}
	if err != nil {
		return "", unreadable(err)
	}
	return header.Name, nil
}

func (a *reader) small() ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(a.tar, maxSmallEntry))
	if err != nil {
		return nil, unreadable(err)
	}
	a.hash.Write(text)
	return text, nil
}

func damaged(why string) error {
	return problem.Invalid("from", "the backup is damaged: %s", why).Hint("take another one; nothing was restored")
}

func unreadable(err error) error {
	if _, told := problem.As(err); told || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return damaged(err.Error())
}
