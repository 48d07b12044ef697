package backup

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/testkit"
)

var engines = []db.Engine{db.SQLite, db.Postgres}

func eachEngine(t *testing.T, test func(t *testing.T, engine db.Engine)) {
	t.Helper()
	for _, engine := range engines {
		t.Run(string(engine), func(t *testing.T) {
			t.Parallel()
			test(t, engine)
		})
	}
}

// newPlace is a place with the current schema and nothing in it, or without a
// schema.
func newPlace(t *testing.T, engine db.Engine, empty bool) Place {
	t.Helper()
	p := Place{DataDir: t.TempDir(), MasterKey: bytes.Repeat([]byte{7}, secret.KeySize)}
	switch {
	case engine == db.Postgres:
		p.DatabaseURL = secret.New(testkit.PostgresURL(t))
		if empty {
			p.exec(t, "DROP SCHEMA public CASCADE")
			p.exec(t, "CREATE SCHEMA public")
		}
	case !empty:
		p.DataDir = testkit.SQLiteDir(t)
	}
	return p
}

// installed is a place that a server has started on.
func installed(t *testing.T, engine db.Engine, serverID string) Place {
	t.Helper()
	p := newPlace(t, engine, false)
	box, err := secret.NewBox(p.MasterKey)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := box.Seal(settingCanary, []byte("certctl"))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{settingServerID: serverID, settingCanary: base64.StdEncoding.EncodeToString(sealed)} {
		p.exec(t, "INSERT INTO setting (name, value) VALUES ($1, $2)", name, value)
	}
	return p
}

func (p Place) open(t *testing.T) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), db.Options{URL: p.DatabaseURL.Reveal(), DataDir: p.DataDir})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (p Place) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	d := p.open(t)
	defer func() { _ = d.Close() }()
	if _, err := d.Writer().ExecContext(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
}

func (p Place) setting(t *testing.T, name string) string {
	t.Helper()
	d := p.open(t)
	defer func() { _ = d.Close() }()
	value, err := db.One[string](t.Context(), d.Read(), "SELECT value FROM setting WHERE name = $1", name)
	if err != nil && !db.IsNoRows(err) {
		t.Fatal(err)
	}
	return value
}

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func options(to string) CreateOptions {
	return CreateOptions{To: to, Version: "1.2.3", Now: func() time.Time { return noon }}
}

func create(t *testing.T, p Place, o CreateOptions) Created {
	t.Helper()
	made, err := Create(t.Context(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// refused checks that something is refused with a problem of a kind that says
// why.
func refused(t *testing.T, err error, kind problem.Kind, why string) {
	t.Helper()
	if problem.KindOf(err) != kind || !strings.Contains(fmt.Sprint(err), why) {
		t.Errorf("refused with %v, want a problem of kind %v about %q", err, kind, why)
	}
}

func TestABackupIsRestoredElsewhere(t *testing.T) {
	t.Parallel()
	x25519, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	eachEngine(t, func(t *testing.T, engine db.Engine) {
		from := installed(t, engine, "srv_1")
		large := strings.Repeat("0123456789abcdef", 1<<19) // more than a part
		from.exec(t, "INSERT INTO setting (name, value) VALUES ('large', $1)", large)
		for name, key := range map[string][2]string{
			"plain": {}, "x25519": {x25519.Recipient().String(), x25519.String()}, "hybrid": {hybrid.Recipient().String(), hybrid.String()},
		} {
			o := options(t.TempDir())
			restore := RestoreOptions{}
			if key[0] != "" {
				identity := filepath.Join(t.TempDir(), "key.txt")
				if err := os.WriteFile(identity, []byte(key[1]+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				o.Recipients, restore.IdentityFiles = []string{key[0]}, []string{identity}
			}
			made := create(t, from, o)
			info, err := os.Stat(made.Path)
			if err != nil || info.Mode().Perm() != 0o600 || info.Size() != made.Bytes || made.Encrypted != (key[0] != "") {
				t.Errorf("%s: %v %v %+v", name, info, err, made)
			}
			to := newPlace(t, engine, true)
			restore.From = made.Path
			done, err := Restore(t.Context(), to, restore)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if done.ServerID != "srv_1" || to.setting(t, settingServerID) != "srv_1" || to.setting(t, "large") != large {
				t.Errorf("%s: restored %+v", name, done)
			}
			if left, _ := filepath.Glob(filepath.Join(to.DataDir, ".*")); left != nil {
				t.Errorf("%s: left behind %v", name, left)
			}
		}
	})
}

func TestABackupIsOneMomentOfADatabaseThatIsWrittenTo(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine db.Engine) {
		from := installed(t, engine, "srv_1")
		d := from.open(t)
		t.Cleanup(func() { _ = d.Close() })
		ctx, stop := context.WithCancel(t.Context())
		ended, began := make(chan error, 1), make(chan struct{})
		go func() {
			for i := 0; ctx.Err() == nil; i++ {
				err := d.InTx(context.WithoutCancel(ctx), func(tx *db.Tx) error {
					for _, half := range []string{"left", "right"} {
						_, err := db.Exec(t.Context(), tx, "INSERT INTO setting (name, value) VALUES ($1, 'x')", fmt.Sprintf("%s-%d", half, i))
						if err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					ended <- err
					return
				}
				if i == 0 {
					close(began)
				}
			}
			ended <- nil
		}()
		<-began
		made := create(t, from, options(filepath.Join(t.TempDir(), "b.tar")))
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		to := newPlace(t, engine, true)
		if _, err := Restore(t.Context(), to, RestoreOptions{From: made.Path}); err != nil {
			t.Fatal(err)
		}
		restored := to.open(t)
		defer func() { _ = restored.Close() }()
		counts := map[string]int{}
		for _, half := range []string{"left", "right"} {
			n, err := db.One[int](t.Context(), restored.Read(), "SELECT count(*) FROM setting WHERE name LIKE $1", half+"-%")
			if err != nil {
				t.Fatal(err)
			}
			counts[half] = n
		}
		if counts["left"] == 0 || counts["left"] != counts["right"] {
			t.Errorf("half a transaction was restored: %v", counts)
		}
	})
}

func TestTheMasterKeyTravelsOnlyInAnEncryptedBackup(t *testing.T) {
	t.Parallel()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.txt")
	if err := os.WriteFile(file, []byte(identity.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	eachEngine(t, func(t *testing.T, engine db.Engine) {
		from := installed(t, engine, "srv_1")
		o := options(filepath.Join(t.TempDir(), "b.tar.age"))
		o.WithMasterKey = true
		_, err := Create(t.Context(), from, o)
		refused(t, err, problem.KindInvalid, "can open every secret")
		o.Recipients = []string{identity.Recipient().String()}
		made := create(t, from, o)
		to := newPlace(t, engine, true)
		to.MasterKey = nil
		done, err := Restore(t.Context(), to, RestoreOptions{From: made.Path, IdentityFiles: []string{file}})
		if err != nil {
			t.Fatal(err)
		}
		key, err := secret.LoadOrCreateKey(filepath.Join(to.DataDir, "master.key"))
		if err != nil || !bytes.Equal(key, from.MasterKey) || done.MasterKeyTo == "" {
			t.Errorf("the key is not where a server looks: %+v %v", done, err)
		}
	})
}

func TestOlderBackupsOfThisServerAreRemoved(t *testing.T) {
	t.Parallel()
	p := installed(t, db.SQLite, "srv_1")
	dir := t.TempDir()
	for _, name := range []string{"certctl-srv_2-20200101T000000Z.tar", "notes.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for day := range 4 {
		o := options(dir)
		o.Now = func() time.Time { return noon.AddDate(0, 0, day) }
		o.Retention = Retention{Keep: 2}
		create(t, p, o)
	}
	past := options(dir)
	past.Now = func() time.Time { return noon.AddDate(-1, 0, 0) }
	past.Retention = Retention{Keep: 2}
	if made := create(t, p, past); !fileExists(made.Path) {
		t.Error("a backup removed itself after the clock went back")
	} else if err := os.Remove(made.Path); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	want := "certctl-srv_1-20261126T120000Z.tar certctl-srv_1-20261127T120000Z.tar certctl-srv_2-20200101T000000Z.tar notes.txt"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("left are %s", got)
	}
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestABackupGoesThroughAPipe(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine db.Engine) {
		var out bytes.Buffer
		o := options("-")
		o.Stdout = &out
		made := create(t, installed(t, engine, "srv_1"), o)
		if made.Bytes != int64(out.Len()) {
			t.Errorf("told %d bytes of %d", made.Bytes, out.Len())
		}
		to := newPlace(t, engine, true)
		if _, err := Restore(t.Context(), to, RestoreOptions{From: "-", Stdin: io.Reader(&out)}); err != nil {
			t.Fatal(err)
		}
	})
}
