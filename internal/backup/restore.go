package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
)

// RestoreOptions say what to bring back.
type RestoreOptions struct {
	From          string    // a file; "-" for Stdin
	Stdin         io.Reader // only for "-"
	IdentityFiles []string  // with private keys of age
	Replace       bool      // what is there
	CheckOnly     bool      // write nothing; servers may run
}

// Restored tells what a backup held.
type Restored struct {
	Manifest
	Encrypted    bool   `json:"encrypted"`
	MasterKeyTo  string `json:"master_key_to,omitempty"` // the file that the master key of the backup was written to
	RestoredHere bool   `json:"restored"`                // false when it was only checked
}

// Restore brings a server back. Whether the backup fits, and the master key
// opens its secrets, is known before anything is written; what follows is done
// as a whole or not at all.
func Restore(ctx context.Context, to Place, o RestoreOptions) (Restored, error) {
	if o.From == "" {
		return Restored{}, problem.Invalid("from", "it is missing").Hint("name the file of the backup, or - for standard input")
	}
	identities, err := parseIdentities(o.IdentityFiles)
	if err != nil {
		return Restored{}, err
	}
	source := o.Stdin
	if o.From != "-" {
		file, err := os.Open(o.From)
		if err != nil {
			return Restored{}, problem.Invalid("from", "it cannot be read: %v", err)
		}
		defer func() { _ = file.Close() }()
		source = file
	}
	plain, encrypted, err := decrypt(source, identities)
	if err != nil {
		return Restored{}, err
	}
	archive, err := newReader(plain)
	if err != nil {
		return Restored{}, err
	}
	r := Restored{Manifest: archive.Manifest, Encrypted: encrypted, RestoredHere: !o.CheckOnly}
	s, err := to.store()
	if err != nil {
		return Restored{}, err
	}
	if err := fits(archive.Manifest, s.engine()); err != nil {
		return Restored{}, err
	}
	bring, err := to.keyFor(archive)
	switch {
	case err != nil:
		return Restored{}, err
	case o.CheckOnly:
		return r, s.verify(ctx, archive)
	case bring != nil:
		r.MasterKeyTo = to.keyPath()
	}
	return r, to.load(ctx, s, archive, bring, o.Replace)
}

// fits says whether this program can work with what a backup holds.
func fits(m Manifest, engine db.Engine) error {
	if m.Engine != engine {
		return problem.Invalid("from", "the backup is of a %s database, and the settings name a %s one", m.Engine, engine).
			Hint("set CERTCTL_DATABASE_URL for PostgreSQL, and no database_url for SQLite; a backup does not move between the two")
	}
	known, err := db.KnownSchema(engine)
	if err != nil {
		return err
	}
	if m.SchemaVersion > known {
		return problem.Invalid("from", "the backup was made by certctl %s, whose schema (%d) is newer than this program knows (%d)",
			m.Version, m.SchemaVersion, known).Hint("restore it with that version or a newer one")
	}
	return nil
}

// keyFor makes sure that the server will find the master key of a backup. It
// gives the one in the backup when that has to be brought here.
func (p Place) keyFor(archive *reader) (bring []byte, err error) {
	key, err := p.masterKey()
	if err != nil {
		return nil, err
	}
	if key == nil && archive.MasterKey == nil {
		return nil, problem.Invalid("encryption_key", "the secrets in the backup are encrypted, and their key is not here: there is no %s", p.keyPath()).
			Hint("put the file there, or give the key as CERTCTL_ENCRYPTION_KEY")
	}
	if key == nil {
		bring = archive.MasterKey
		if key, err = secret.ParseKey(string(bytes.TrimSpace(bring))); err != nil {
			return nil, damaged("its master key cannot be read")
		}
	}
	if err := opens(key, archive.Manifest.KeyCanary); err != nil {
		return nil, wrongKey(err, "this backup")
	}
	return bring, nil
}

func wrongKey(err error, of string) error {
	if !errors.Is(err, secret.ErrWrongKey) {
		return err
	}
	return problem.Invalid("encryption_key", "it is not the key that the secrets in %s are encrypted with", of).
		Hint("give the key that the server was started with; without one the file master.key in its data_dir is it")
}

// load does the writing, while no server can start on the data directory.
func (p Place) load(ctx context.Context, s store, archive *reader, bring []byte, replace bool) (err error) {
	lock, err := db.LockDataDir(p.DataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := s.vacant(ctx, replace); err != nil {
		return err
	}
	if bring != nil {
		if err := p.writeKey(bring); err != nil {
			return err
		}
	}
	if err := s.load(ctx, archive); err != nil {
		if bring != nil {
			_ = os.Remove(p.keyPath()) // it was not there before
		}
		return fmt.Errorf("nothing was restored: %w", err)
	}
	return nil
}

func (p Place) writeKey(key []byte) error {
	file, err := os.OpenFile(p.keyPath(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write the master key: %w", err)
	}
	_, err = file.Write(key)
	if err := errors.Join(err, file.Sync(), file.Close(), giveToOwner(p.keyPath(), p.DataDir), syncDir(p.DataDir)); err != nil {
		return fmt.Errorf("write the master key: %w", errors.Join(err, os.Remove(p.keyPath())))
	}
	return nil
}
