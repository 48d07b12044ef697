package app

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
)

const (
	settingServerID = "server_id"
	// settingCanary is a value that only the right master key opens.
	settingCanary = "key_canary"
	// settingServerCA is the CA of the listener when the server makes its
	// certificate itself. Agents pin it, so all replicas share it.
	settingServerCA = "server_ca"
)

// openDataDir makes the data directory and takes its lock.
func (a *App) openDataDir(context.Context) error {
	var err error
	a.lock, err = db.LockDataDir(a.settings.DataDir)
	return err
}

// openBox finds the master key and makes sure that the secrets in the database
// are sealed under it.
func (a *App) openBox(ctx context.Context) error {
	master, err := a.settings.MasterKey()
	if err == nil && master == nil {
		master, err = a.masterKeyFile(ctx)
	}
	if _, told := problem.As(err); told {
		return err
	}
	if err != nil {
		return problem.Invalid("encryption_key", "%v", err).Hint("make one with: openssl rand -base64 32")
	}
	if a.box, err = secret.NewBox(master); err != nil {
		return err
	}
	_, err = a.sealedSetting(ctx, settingCanary, []byte("certctl"))
	if errors.Is(err, secret.ErrWrongKey) {
		return problem.Invalid("encryption_key", "it is not the key that the secrets in this database are encrypted with").
			Hint("give the key that this database was started with first; without one the file master.key in its data_dir is it")
	}
	return err
}

// masterKeyFile reads the key from the data directory. A new key is made only
// for a database that nothing is sealed in yet: beside any other it would open
// nothing, and hide that the right one is missing.
func (a *App) masterKeyFile(ctx context.Context) ([]byte, error) {
	path := filepath.Join(a.settings.DataDir, "master.key")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		_, err := db.One[string](ctx, a.db.Read(), "SELECT value FROM setting WHERE name = $1", settingCanary)
		if err == nil {
			return nil, problem.Invalid("encryption_key", "the secrets in this database are encrypted, and their key is not here: there is no %s", path).
				Hint("put the file back from a backup or another replica, or give the key as CERTCTL_ENCRYPTION_KEY")
		}
		if !errors.Is(err, db.ErrNoRows) {
			return nil, fmt.Errorf("look for sealed secrets: %w", err)
		}
	}
	return secret.LoadOrCreateKey(path)
}

// setting reads a fact about the installation, which is what the first replica
// to ask made it.
func (a *App) setting(ctx context.Context, name, first string) (string, error) {
	var value string
	err := a.db.InTx(ctx, func(tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, "INSERT INTO setting (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING", name, first)
		if err != nil {
			return err
		}
		value, err = db.One[string](ctx, tx, "SELECT value FROM setting WHERE name = $1", name)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read setting %s: %w", name, err)
	}
	return value, nil
}

// sealedSetting is setting for a secret.
func (a *App) sealedSetting(ctx context.Context, name string, first []byte) ([]byte, error) {
	sealed, err := a.box.Seal(name, first)
	if err != nil {
		return nil, fmt.Errorf("seal setting %s: %w", name, err)
	}
	stored, err := a.setting(ctx, name, base64.StdEncoding.EncodeToString(sealed))
	if err != nil {
		return nil, err
	}
	if sealed, err = base64.StdEncoding.DecodeString(stored); err != nil {
		return nil, fmt.Errorf("read setting %s: %w", name, err)
	}
	plain, err := a.box.Open(name, sealed)
	if err != nil {
		return nil, fmt.Errorf("open setting %s: %w", name, err)
	}
	return plain, nil
}

// firstStart makes what must exist before anything can be issued: the default
// profile, the built-in CA, an admin key. Replicas that start together take
// turns.
func (a *App) firstStart(ctx context.Context) error {
	return a.db.Exclusive(ctx, "first-start", func() error {
		err := a.db.InTx(ctx, func(tx *db.Tx) error {
			if err := a.features.profiles.EnsureDefaults(ctx, tx); err != nil {
				return err
			}
			settings, err := json.Marshal(map[string]string{"organization": a.settings.CAOrganization})
			if err != nil {
				return err
			}
			return a.features.issuers.EnsureDefaults(ctx, tx, settings)
		})
		if err != nil {
			return fmt.Errorf("prepare the first start: %w", err)
		}
		if token := a.settings.BootstrapEnrolmentToken; !token.Empty() {
			if err := a.features.fleet.EnsureGiven(ctx, token); err != nil {
				return err
			}
		}
		given := a.settings.BootstrapAPIKeys()
		for _, key := range given {
			if err := a.features.keys.EnsureGiven(ctx, key); err != nil {
				return err
			}
		}
		if len(given) > 0 {
			return nil
		}
		a.firstKey, _, err = a.features.keys.EnsureAdmin(ctx)
		return err
	})
}

func (a *App) openServerID(ctx context.Context) error {
	var err error
	a.serverID, err = a.setting(ctx, settingServerID, id.New("srv"))
	return err
}

// greet tells a person how to reach the server, and the first admin key, which
// is shown only here.
func (a *App) greet(w io.Writer) error {
	if a.firstKey.Empty() {
		_, err := fmt.Fprintf(w, "certctl is ready at %s\n", a.URL())
		return err
	}
	_, err := fmt.Fprintf(w, `certctl is ready.

  URL             %[1]s
  CA fingerprint  %[2]s
  API key         %[3]s

The key is an admin key and is shown only now. To begin, in another terminal:

  certctl login %[1]s --ca-sha256 %[2]s
  certctl tokens create

The second command prints what to run on a host to make it an agent.
`, a.URL(), a.CASHA256(), a.firstKey.Reveal())
	return err
}
