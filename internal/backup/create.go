package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/certctl-io/certctl/internal/problem"
)

const tempPattern = ".certctl-backup-*"

// CreateOptions say what to make.
type CreateOptions struct {
	To             string    // a file, or a directory of many; "-" for Stdout
	Stdout         io.Writer // only for "-"
	Recipients     []string  // of age
	RecipientFiles []string  // with recipients of age
	WithMasterKey  bool
	Retention      Retention // only in a directory
	Version        string    // of this program
	Now            func() time.Time
}

// Created tells what was made.
type Created struct {
	Path      string   `json:"path"`
	Bytes     int64    `json:"bytes"`
	Encrypted bool     `json:"encrypted"`
	Pruned    []string `json:"pruned"` // names of the files that went
	Manifest
}

// Create backs up a server, which may run meanwhile. A file has its name only
// when it was read back and found whole.
func Create(ctx context.Context, from Place, o CreateOptions) (Created, error) {
	inDir := o.To != "-" && isDir(o.To)
	recipients, err := o.check(inDir)
	if err != nil {
		return Created{}, err
	}
	s, err := from.store()
	if err != nil {
		return Created{}, err
	}
	j := job{store: s, recipients: recipients}
	if err := j.prepare(ctx, from, o); err != nil {
		return Created{}, err
	}
	c := Created{Path: o.To, Encrypted: len(recipients) > 0, Pruned: []string{}, Manifest: j.manifest}
	if o.To == "-" {
		counted := &counter{to: o.Stdout}
		err := j.write(ctx, counted)
		c.Bytes = counted.bytes
		return c, err
	}
	if inDir {
		c.Path = filepath.Join(o.To, fileName(j.manifest.ServerID, j.manifest.CreatedAt, c.Encrypted))
	}
	if c.Bytes, err = j.writeFile(ctx, c.Path); err != nil {
		return Created{}, err
	}
	if inDir {
		c.Pruned, err = o.Retention.prune(c.Path, j.manifest)
	}
	return c, err
}

func (o CreateOptions) check(inDir bool) ([]age.Recipient, error) {
	recipients, err := parseRecipients(o.Recipients, o.RecipientFiles)
	switch {
	case err != nil:
		return nil, err
	case o.To == "":
		return nil, problem.Invalid("to", "it is missing").Hint("name a file, a directory, or - for standard output")
	case o.WithMasterKey && len(recipients) == 0:
		return nil, problem.Invalid("with-master-key", "whoever reads such a backup can open every secret in it").
			Hint("encrypt it for a recipient of age with --age-recipient")
	case o.Retention.Keep < 0 || o.Retention.MaxAge < 0:
		return nil, problem.Invalid("keep", "--keep and --retention cannot be negative").Hint("leave them out to remove nothing")
	case o.Retention != Retention{} && !inDir:
		return nil, problem.Invalid("to", "--keep and --retention remove older files of a directory, and this is none").
			Hint("name a directory, with / at its end when it has to be made")
	}
	return recipients, nil
}

// job is one backup that is being made.
type job struct {
	store      store
	manifest   Manifest
	masterKey  []byte // as it stands in the backup; nil when it does not
	recipients []age.Recipient
	witness    age.Identity
}

func (j *job) prepare(ctx context.Context, from Place, o CreateOptions) error {
	known, err := j.store.facts(ctx)
	if err != nil {
		return err
	}
	j.manifest = Manifest{
		Format: formatVersion, Engine: j.store.engine(), ServerID: known.serverID, SchemaVersion: known.schema,
		CreatedAt: o.Now().UTC().Truncate(time.Second), Version: o.Version, WithMasterKey: o.WithMasterKey, KeyCanary: known.canary,
	}
	if len(j.recipients) > 0 {
		recipient, identity, err := witness(j.recipients)
		if err != nil {
			return fmt.Errorf("make a key to check the backup with: %w", err)
		}
		j.recipients, j.witness = append(j.recipients, recipient), identity
	}
	if !o.WithMasterKey {
		return nil
	}
	key, err := from.masterKey()
	if err != nil {
		return err
	}
	if key == nil {
		return problem.Invalid("encryption_key", "the master key is not here: there is no %s", from.keyPath()).
			Hint("give the key as CERTCTL_ENCRYPTION_KEY")
	}
	if err := opens(key, known.canary); err != nil {
		return wrongKey(err, "this database")
	}
	j.masterKey = encodeKey(key)
	return nil
}

// write writes the backup.
func (j *job) write(ctx context.Context, to io.Writer) error {
	sealed := io.WriteCloser(unclosed{to})
	if len(j.recipients) > 0 {
		var err error
		if sealed, err = age.Encrypt(to, j.recipients...); err != nil {
			return problem.Invalid("age-recipient", "%v", err)
		}
	}
	archive, err := newWriter(sealed, j.manifest, j.masterKey)
	if err != nil {
		return err
	}
	if err := j.store.dump(ctx, archive); err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return sealed.Close()
}

// writeFile writes the backup into a file beside path, checks it, and renames
// it.
func (j *job) writeFile(ctx context.Context, path string) (int64, error) {
	dir := filepath.Dir(path)
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return 0, problem.Invalid("to", "%s is there and no ordinary file: it would be replaced by one", path).
			Hint("name a file or a directory, or write to it through standard output with --to -")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, problem.Invalid("to", "the directory cannot be made: %v", err)
	}
	sweep(dir, tempPattern)
	file, err := os.CreateTemp(dir, tempPattern)
	if err != nil {
		return 0, problem.Invalid("to", "the file cannot be made: %v", err)
	}
	defer func() { _ = os.Remove(file.Name()) }() // it has another name when all went well
	counted := &counter{to: file}
	if err := errors.Join(j.write(ctx, counted), file.Sync(), file.Close()); err != nil {
		return 0, err
	}
	if err := j.readBack(ctx, file.Name()); err != nil {
		if p, told := problem.As(err); told && p.Field == "from" { // its words are for who restores
			err = errors.New(p.Message)
		}
		return 0, fmt.Errorf("the backup was written, but not as it should be: %w", err)
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return 0, fmt.Errorf("give the backup its name: %w", err)
	}
	if err := syncDir(dir); err != nil {
		return 0, fmt.Errorf("make sure that the backup stays: %w", err)
	}
	return counted.bytes, nil
}

func (j *job) readBack(ctx context.Context, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	var identities []age.Identity
	if j.witness != nil {
		identities = append(identities, j.witness)
	}
	plain, _, err := decrypt(file, identities)
	if err != nil {
		return err
	}
	archive, err := newReader(plain)
	if err != nil {
		return err
	}
	if archive.Manifest != j.manifest {
		return errors.New("it has another manifest")
	}
	return j.store.verify(ctx, archive)
}

// prune removes the backups that may go after one was made; never that one,
// also when the clock went back since the others.
func (r Retention) prune(path string, made Manifest) ([]string, error) {
	dir, own := filepath.Split(path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("look for older backups: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if entry.Type().IsRegular() && entry.Name() != own {
			names = append(names, entry.Name())
		}
	}
	pruned := []string{}
	for _, name := range r.expired(append(names, own), made.ServerID, made.CreatedAt) {
		if name == own {
			continue
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return pruned, fmt.Errorf("the backup was made, but an older one cannot be removed: %w", err)
		}
		pruned = append(pruned, name)
	}
	return pruned, nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return strings.HasSuffix(path, "/") || err == nil && info.IsDir()
}

// counter counts what goes through it.
type counter struct {
	to    io.Writer
	bytes int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.bytes += int64(n)
	return n, err
}

type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }
