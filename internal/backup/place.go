package backup

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
)

// Place is where a server keeps what it knows, as its settings say.
type Place struct {
	DatabaseURL      secret.String // empty for SQLite in DataDir
	DatabasePassword secret.String // empty for the one in DatabaseURL
	DatabaseWait     time.Duration // for PostgreSQL to let us in
	DataDir          string
	MasterKey        []byte // nil for the one in the file master.key of DataDir
}

// store is a database that can be dumped and loaded while this package knows
// nothing about its engine.
type store interface {
	engine() db.Engine
	// facts reads what identifies the installation.
	facts(ctx context.Context) (facts, error)
	// dump writes a consistent copy, while servers run.
	dump(ctx context.Context, to io.Writer) error
	// verify reads a dump to its end and says whether it can be loaded.
	verify(ctx context.Context, dump io.Reader) error
	// vacant says whether a dump may be loaded here: nothing else is there,
	// unless it is to be replaced, and no server runs.
	vacant(ctx context.Context, replace bool) error
	// load replaces everything with a dump, or changes nothing.
	load(ctx context.Context, dump io.Reader) error
}

func (p Place) store() (store, error) {
	if p.DatabaseURL.Empty() {
		return sqliteStore{dir: p.DataDir}, nil
	}
	return newPostgresStore(db.Options{
		URL: p.DatabaseURL.Reveal(), Password: p.DatabasePassword.Reveal(), Wait: p.DatabaseWait, MaxConns: fewConns,
	})
}

// facts identify an installation.
type facts struct {
	serverID, canary string
	schema           int64
}

func readFacts(ctx context.Context, d *db.DB) (facts, error) {
	var f facts
	for name, to := range map[string]*string{settingServerID: &f.serverID, settingCanary: &f.canary} {
		value, err := db.One[string](ctx, d.Read(), "SELECT value FROM setting WHERE name = $1", name)
		if errors.Is(err, db.ErrNoRows) {
			return f, errNothingHere
		}
		if err != nil {
			return f, fmt.Errorf("read setting %s: %w", name, err)
		}
		*to = value
	}
	var err error
	f.schema, err = db.SchemaVersion(ctx, d.Read())
	return f, err
}

var errNothingHere = problem.Conflict("there is nothing to back up: no certctl server has started on this database yet").
	Hint("give the settings that the server is started with: CERTCTL_DATA_DIR, or CERTCTL_DATABASE_URL")

func (p Place) keyPath() string { return filepath.Join(p.DataDir, "master.key") }

// masterKey is the key in force here; nil when there is none.
func (p Place) masterKey() ([]byte, error) {
	if p.MasterKey != nil {
		return p.MasterKey, nil
	}
	if _, err := os.Stat(p.keyPath()); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	key, err := secret.LoadOrCreateKey(p.keyPath())
	if err != nil {
		return nil, problem.Invalid("encryption_key", "%v", err)
	}
	return key, nil
}

// opens says whether a master key is the one a canary was sealed with.
func opens(key []byte, canary string) error {
	box, err := secret.NewBox(key)
	if err != nil {
		return err
	}
	sealed, err := base64.StdEncoding.DecodeString(canary)
	if err != nil {
		return fmt.Errorf("read the key canary: %w", err)
	}
	_, err = box.Open(settingCanary, sealed)
	return err
}

// encodeKey writes a master key as the file master.key has it.
func encodeKey(key []byte) []byte {
	return []byte(base64.StdEncoding.EncodeToString(key) + "\n")
}

// leftOver is the age at which a temporary file belongs to no backup that runs,
// but to one that was killed.
const leftOver = 24 * time.Hour

// sweep removes what killed backups left behind in a directory.
func sweep(dir, pattern string) {
	left, _ := filepath.Glob(filepath.Join(dir, pattern)) // the pattern is right
	for _, path := range left {
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > leftOver {
			_ = os.RemoveAll(path) // the next backup tries again
		}
	}
}

// syncDir makes a renaming in a directory survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
