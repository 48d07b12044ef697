package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/certctl-io/certctl/internal/backup"
	"github.com/certctl-io/certctl/internal/config"
	"github.com/certctl-io/certctl/internal/duration"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/version"
)

// storage are the settings of the server that say where its data is. There are
// no flags for the master key and the password here: the server's variables
// and its file hold them.
type storage struct {
	Config      string        `name:"config" placeholder:"FILE" help:"YAML file with the settings of the server."`
	DataDir     string        `name:"data-dir" placeholder:"DIR" help:"Data directory of the server."`
	DatabaseURL secret.String `name:"database-url" placeholder:"URL" help:"PostgreSQL database of the server."`
}

func (f storage) place(parsed *kong.Context) (backup.Place, error) {
	settings, err := config.Load(config.CommandLine(parsed, config.Server{Config: f.Config, DataDir: f.DataDir, DatabaseURL: f.DatabaseURL}))
	if err != nil {
		return backup.Place{}, err
	}
	key, err := settings.MasterKey()
	return backup.Place{
		DatabaseURL: settings.DatabaseURL, DatabasePassword: settings.DatabasePassword, DatabaseWait: settings.DatabaseWait,
		DataDir: settings.DataDir, MasterKey: key,
	}, err
}

type backupCmd struct {
	To                string            `name:"to" required:"" placeholder:"PATH" help:"File to write; a directory for a file named after server and time; - for standard output."`
	AgeRecipient      []string          `name:"age-recipient" sep:"none" placeholder:"KEY" help:"Encrypt for this public key of age; may be repeated."`
	AgeRecipientsFile []string          `name:"age-recipients-file" sep:"none" placeholder:"FILE" help:"Encrypt for the public keys in a file, one a line; may be repeated."`
	WithMasterKey     bool              `name:"with-master-key" help:"Put the master key in, so that nothing else is needed to restore. Only in an encrypted backup."`
	Keep              int               `name:"keep" placeholder:"N" help:"Remove older backups of this server from the directory, except for the newest N."`
	Retention         duration.Duration `name:"retention" placeholder:"DURATION" help:"Remove backups of this server that are older from the directory, such as 30d. With --keep, what is beyond both goes."`
	storage
}

// Help is the long help of the command.
func (backupCmd) Help() string {
	return `It works on the database itself, with the settings that the server has (flags, CERTCTL_ variables, file), and not through the API. The
server may run meanwhile. PostgreSQL needs pg_dump and pg_restore, of the server's version or newer. A file is read back and checked
before it gets its name.

Without its master key a backup is of no use. Keep that key in another place, or encrypt the backup and put it in.

Examples:
  certctl backup --to /backup/ --keep 14
  certctl backup --to /backup/ --retention 30d --age-recipient age1... --with-master-key
  certctl backup --to - --age-recipients-file ops.txt | ssh vault 'cat > certctl.tar.age'`
}

// Run makes the backup.
func (c backupCmd) Run(s *session, parsed *kong.Context) error {
	place, err := c.place(parsed)
	if err != nil {
		return err
	}
	made, err := backup.Create(s.ctx, place, backup.CreateOptions{
		To: c.To, Stdout: s.out.Writer, Recipients: c.AgeRecipient, RecipientFiles: c.AgeRecipientsFile, WithMasterKey: c.WithMasterKey,
		Retention: backup.Retention{Keep: c.Keep, MaxAge: c.Retention.Std()}, Version: version.String(), Now: s.now,
	})
	if err != nil {
		return err
	}
	if c.To == "-" { // standard output is the backup
		s.out = s.err
	}
	sentence := fmt.Sprintf("backup of %s written to %s: %d bytes", made.ServerID, made.Path, made.Bytes)
	if made.Encrypted {
		sentence += ", encrypted"
	}
	if len(made.Pruned) > 0 {
		sentence += "; removed " + strings.Join(made.Pruned, ", ")
	}
	return s.reportFile(made, made.Path, sentence)
}

type restoreCmd struct {
	From            string   `name:"from" required:"" placeholder:"FILE" help:"Backup to restore; - for standard input."`
	AgeIdentityFile []string `name:"age-identity-file" sep:"none" placeholder:"FILE" help:"File with the private key of age that an encrypted backup was made for; may be repeated."`
	Force           bool     `name:"force" help:"Replace the database that is there. On SQLite it is kept under another name."`
	Check           bool     `name:"check" help:"Check the backup and that it fits the master key and this program; write nothing."`
	storage
}

// Help is the long help of the command.
func (restoreCmd) Help() string {
	return `It writes into the database that the settings of the server name (flags, CERTCTL_ variables, file): into an empty one, or with --force
over another. Stop the server before, and start it after. PostgreSQL needs pg_restore and psql.

The master key must be there as the server will find it: in CERTCTL_ENCRYPTION_KEY, in the file master.key of data_dir, or in the
backup, which then puts it into that file.

Examples:
  certctl restore --from certctl.tar --check
  certctl restore --from certctl.tar.age --age-identity-file key.txt`
}

// Run restores or checks.
func (c restoreCmd) Run(s *session, parsed *kong.Context) error {
	place, err := c.place(parsed)
	if err != nil {
		return err
	}
	done, err := backup.Restore(s.ctx, place, backup.RestoreOptions{
		From: c.From, Stdin: s.in, IdentityFiles: c.AgeIdentityFile, Replace: c.Force, CheckOnly: c.Check,
	})
	if err != nil {
		return err
	}
	sentence := "is restored: start the server"
	if c.Check {
		sentence = "can be restored"
	}
	sentence = fmt.Sprintf("backup of %s from %s %s", done.ServerID, done.CreatedAt.Format("2006-01-02 15:04:05 MST"), sentence)
	if done.MasterKeyTo != "" {
		sentence += "; its master key is in " + done.MasterKeyTo
	}
	return s.reportFile(done, c.From, sentence)
}

// reportFile tells what became of a file.
func (s *session) reportFile(result any, path, sentence string) error {
	switch {
	case s.forPeople():
		_, err := fmt.Fprintln(s.out, sentence)
		return err
	case s.Output == "name":
		_, err := io.WriteString(s.out, path+"\n")
		return err
	}
	raw, err := json.Marshal(result)
	if err != nil {
		return fmt.Errorf("encode what was done: %w", err)
	}
	return s.printRaw(raw)
}
