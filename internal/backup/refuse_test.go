package backup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"filippo.io/age"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
)

func TestARestoreThatCannotWorkWritesNothing(t *testing.T) {
	t.Parallel()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	eachEngine(t, func(t *testing.T, engine db.Engine) {
		from := installed(t, engine, "srv_1")
		dir := t.TempDir()
		made := create(t, from, options(filepath.Join(dir, "b.tar")))
		sealed := options(filepath.Join(dir, "b.tar.age"))
		sealed.Recipients = []string{identity.Recipient().String()}
		create(t, from, sealed)
		whole, err := os.ReadFile(made.Path)
		if err != nil {
			t.Fatal(err)
		}
		altered := func(name string, data []byte) string {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		flipped := bytes.Clone(whole)
		flipped[len(flipped)/2] ^= 1
		newer := bytes.Replace(whole, fmt.Appendf(nil, `"schema_version": %d,`, made.SchemaVersion), []byte(`"schema_version": 9,`), 1)
		empty := newPlace(t, engine, true)
		wrong, none := empty, empty
		wrong.MasterKey, none.MasterKey = bytes.Repeat([]byte{8}, secret.KeySize), nil
		other := newPlace(t, engines[map[db.Engine]int{db.SQLite: 1, db.Postgres: 0}[engine]], true)
		for name, c := range map[string]struct {
			to   Place
			path string
			why  string
		}{
			"wrong key":    {wrong, made.Path, "not the key that the secrets in this backup"},
			"no key":       {none, made.Path, "their key is not here"},
			"other engine": {other, made.Path, "and the settings name a"},
			"newer":        {empty, altered("newer.tar", newer), "newer than this program knows"},
			"cut off":      {empty, altered("cut.tar", whole[:len(whole)-3000]), "damaged"},
			"flipped":      {empty, altered("flipped.tar", flipped), "damaged"},
			"not a backup": {empty, altered("text", []byte("hello")), "not a backup of certctl"},
			"encrypted":    {empty, filepath.Join(dir, "b.tar.age"), "the backup is encrypted"},
			"missing":      {empty, filepath.Join(dir, "missing"), "cannot be read"},
		} {
			t.Run(name, func(t *testing.T) {
				_, err := Restore(t.Context(), c.to, RestoreOptions{From: c.path})
				refused(t, err, problem.KindInvalid, c.why)
			})
		}
		if _, err := Restore(t.Context(), empty, RestoreOptions{From: made.Path}); err != nil {
			t.Errorf("what was refused left something behind: %v", err)
		}
	})
}

func TestADatabaseIsReplacedOnlyWhenToldSo(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine db.Engine) {
		made := create(t, installed(t, engine, "srv_1"), options(filepath.Join(t.TempDir(), "b.tar")))
		to := installed(t, engine, "srv_2")
		to.exec(t, "CREATE TABLE of_a_newer_version (id text)")
		_, err := Restore(t.Context(), to, RestoreOptions{From: made.Path})
		refused(t, err, problem.KindConflict, "")
		cut := filepath.Join(t.TempDir(), "cut.tar")
		whole, err := os.ReadFile(made.Path)
		if err == nil {
			err = os.WriteFile(cut, whole[:len(whole)-2000], 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		_, err = Restore(t.Context(), to, RestoreOptions{From: cut, Replace: true})
		refused(t, err, problem.KindInvalid, "damaged")
		if id := to.setting(t, settingServerID); id != "srv_2" {
			t.Fatalf("a restore that failed left the database of %q", id)
		}
		if _, err := Restore(t.Context(), to, RestoreOptions{From: made.Path, Replace: true}); err != nil {
			t.Fatal(err)
		}
		if id := to.setting(t, settingServerID); id != "srv_1" {
			t.Errorf("the database is that of %q", id)
		}
		d := to.open(t)
		defer func() { _ = d.Close() }()
		if err := d.Migrate(t.Context()); err != nil {
			t.Errorf("a server could not start on it: %v", err)
		}
		if _, err := d.Writer().ExecContext(t.Context(), "SELECT id FROM of_a_newer_version"); err == nil {
			t.Error("a table of the replaced database is still there")
		}
	})
}

func TestNothingIsRestoredUnderARunningServer(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine db.Engine) {
		p := installed(t, engine, "srv_1")
		made := create(t, p, options(filepath.Join(t.TempDir(), "b.tar")))
		if engine == db.Postgres { // another replica, with a data directory of its own
			d := p.open(t)
			if err := d.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, err := Restore(t.Context(), p, RestoreOptions{From: made.Path, Replace: true})
			refused(t, err, problem.KindConflict, "a certctl server runs on this database")
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		}
		lock, err := db.LockDataDir(p.DataDir)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = lock.Close() }()
		_, err = Restore(t.Context(), p, RestoreOptions{From: made.Path, Replace: true})
		refused(t, err, problem.KindConflict, "another certctl server runs")
		if _, err := Restore(t.Context(), p, RestoreOptions{From: made.Path, CheckOnly: true}); err != nil {
			t.Errorf("a backup cannot be checked meanwhile: %v", err)
		}
	})
}

func TestThereIsNothingToBackUpBeforeTheFirstStart(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine db.Engine) {
		for _, empty := range []bool{true, false} {
			dir := t.TempDir()
			_, err := Create(t.Context(), newPlace(t, engine, empty), options(dir))
			refused(t, err, problem.KindConflict, "nothing to back up")
			if entries, _ := os.ReadDir(dir); len(entries) > 0 {
				t.Errorf("it wrote %v", entries)
			}
		}
	})
}

func TestOnlyAnOrdinaryFileIsReplaced(t *testing.T) {
	t.Parallel()
	p := installed(t, db.SQLite, "srv_1")
	dir := t.TempDir()
	pipe, link, file := filepath.Join(dir, "pipe"), filepath.Join(dir, "link"), filepath.Join(dir, "file")
	err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.Symlink(file, link), os.WriteFile(file, []byte("older"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	for path, kind := range map[string]os.FileMode{pipe: os.ModeNamedPipe, link: os.ModeSymlink} {
		_, err := Create(t.Context(), p, options(path))
		refused(t, err, problem.KindInvalid, "no ordinary file")
		if info, err := os.Lstat(path); err != nil || info.Mode().Type() != kind {
			t.Errorf("%s was replaced: %v %v", path, info, err)
		}
	}
	create(t, p, options(file))
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}

func TestABackupThatCannotBeWrittenFails(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine db.Engine) {
		o := options("-")
		o.Stdout = fullDisk{}
		if _, err := Create(t.Context(), installed(t, engine, "srv_1"), o); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("on a full disk: %v", err)
		}
	})
}

// fullDisk takes no byte.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }
