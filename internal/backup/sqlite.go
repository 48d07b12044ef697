package backup

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
)

const copyPattern = ".backup-*"

// sqliteStore is a data directory with a SQLite file.
type sqliteStore struct{ dir string }

func (sqliteStore) engine() db.Engine { return db.SQLite }

func (s sqliteStore) facts(ctx context.Context) (facts, error) {
	switch present, err := s.present(); {
	case err != nil:
		return facts{}, err
	case !present:
		return facts{}, errNothingHere
	}
	return inSQLite(ctx, s.dir, readFactsIfAny)
}

// dump has the engine make the copy: a snapshot, taken by a reader, which
// blocks no writer. It lies in the data directory for that time, as whoever
// can read it there can read the database itself.
func (s sqliteStore) dump(ctx context.Context, to io.Writer) error {
	sweep(s.dir, copyPattern)
	dir, err := os.MkdirTemp(s.dir, copyPattern)
	if err != nil {
		return fmt.Errorf("make room for a copy of the database: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	_, err = inSQLite(ctx, s.dir, func(ctx context.Context, d *db.DB) (facts, error) {
		_, err := d.Writer().ExecContext(ctx, "VACUUM INTO $1", db.SQLitePath(dir))
		return facts{}, err
	})
	if err != nil {
		return fmt.Errorf("copy the database: %w", err)
	}
	if _, err := inSQLite(ctx, dir, sound); err != nil {
		return err
	}
	file, err := os.Open(db.SQLitePath(dir))
	if err != nil {
		return fmt.Errorf("read the copy of the database: %w", err)
	}
	defer func() { _ = file.Close() }()
	packed := gzip.NewWriter(to)
	if _, err := io.Copy(packed, withContext(ctx, file)); err != nil {
		return fmt.Errorf("write the copy of the database: %w", err)
	}
	return packed.Close()
}

func (sqliteStore) verify(ctx context.Context, dump io.Reader) error {
	packed, err := gzip.NewReader(withContext(ctx, dump))
	if err == nil {
		_, err = io.Copy(io.Discard, packed) //nolint:gosec // we packed it, and nothing of it is kept
	}
	if err != nil {
		return unreadable(err)
	}
	return nil
}

func (s sqliteStore) vacant(_ context.Context, replace bool) error {
	present, err := s.present()
	if err != nil || !present || replace {
		return err
	}
	return problem.Conflict("there is a database in %s already", s.dir).
		Hint("choose an empty data_dir, or replace what is there with --force")
}

// load unpacks beside the database and puts the file in place only when it is
// sound. What it replaces is kept under another name.
func (s sqliteStore) load(ctx context.Context, dump io.Reader) error {
	dir, err := os.MkdirTemp(s.dir, ".restore-*")
	if err != nil {
		return fmt.Errorf("make room for the database: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := unpack(withContext(ctx, dump), db.SQLitePath(dir)); err != nil {
		return err
	}
	if _, err := inSQLite(ctx, dir, sound); err != nil {
		return err
	}
	if err := giveToOwner(db.SQLitePath(dir), s.dir); err != nil {
		return err
	}
	if err := s.setAside(); err != nil {
		return err
	}
	if err := os.Rename(db.SQLitePath(dir), db.SQLitePath(s.dir)); err != nil {
		return fmt.Errorf("put the database in place: %w", err)
	}
	return syncDir(s.dir)
}

// setAside renames the database that is there, with what its last server has
// not yet written into it.
func (s sqliteStore) setAside() error {
	path := db.SQLitePath(s.dir)
	aside := path + ".before-restore-" + time.Now().UTC().Format(nameTime)
	for _, suffix := range []string{"-wal", "-shm", ""} {
		if err := os.Rename(path+suffix, aside+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set the old database aside: %w", err)
		}
	}
	return nil
}

func (s sqliteStore) present() (bool, error) {
	info, err := os.Stat(db.SQLitePath(s.dir))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, problem.Invalid("data_dir", "the database cannot be read: %v", err).Hint("run this as the user that runs certctl")
	}
	return info.Size() > 0, nil
}

// inSQLite does something with the database in a directory.
func inSQLite(ctx context.Context, dir string, do func(context.Context, *db.DB) (facts, error)) (facts, error) {
	d, err := db.Open(ctx, db.Options{DataDir: dir})
	if err != nil {
		return facts{}, err
	}
	f, err := do(ctx, d)
	return f, errors.Join(err, d.Close())
}

func readFactsIfAny(ctx context.Context, d *db.DB) (facts, error) {
	tables, err := db.One[int](ctx, d.Read(), "SELECT count(*) FROM sqlite_master WHERE name = 'setting'")
	if err != nil {
		return facts{}, fmt.Errorf("look for a schema: %w", err)
	}
	if tables == 0 {
		return facts{}, errNothingHere
	}
	return readFacts(ctx, d)
}

// sound checks every page of a database.
func sound(ctx context.Context, d *db.DB) (facts, error) {
	findings, err := db.All[string](ctx, d.Read(), "PRAGMA integrity_check")
	if err != nil {
		return facts{}, fmt.Errorf("check the copy of the database: %w", err)
	}
	if len(findings) != 1 || findings[0] != "ok" {
		return facts{}, fmt.Errorf("the copy of the database is damaged: %q", findings)
	}
	return facts{}, nil
}

// unpack writes a dump into a new file.
func unpack(dump io.Reader, path string) error {
	packed, err := gzip.NewReader(dump)
	if err != nil {
		return unreadable(err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write the database: %w", err)
	}
	_, err = io.Copy(file, packed) //nolint:gosec // a database may be large; whoever gives the backup gives the disk
	var full *fs.PathError
	if errors.As(err, &full) {
		return errors.Join(fmt.Errorf("write the database: %w", err), file.Close())
	}
	if err != nil {
		return errors.Join(unreadable(err), file.Close())
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("write the database: %w", err)
	}
	return nil
}

// giveToOwner gives a file that root made to the user that runs certctl, which
// is the owner of the data directory.
func giveToOwner(path, dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("find the owner of the data directory: %w", err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
		return fmt.Errorf("give %s to the owner of the data directory: %w", path, err)
	}
	return nil
}

// withContext makes a reader end with the context.
func withContext(ctx context.Context, r io.Reader) io.Reader { return contextReader{ctx, r} }

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
