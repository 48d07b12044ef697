package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
)

const (
	// fewConns is the smallest pool that there is.
	fewConns = 4
	// sessionsLinger is how long the sessions of a server may outlive it.
	sessionsLinger = 2 * time.Second
	// lockWait is how long pg_dump waits for a table that a migration holds.
	lockWait = time.Minute

	applicationName = "certctl-backup"
)

// postgresStore is a PostgreSQL database. Its own tools do the work: they know
// every kind of object, in the version of the server.
type postgresStore struct {
	options db.Options
	server  string // the application name of servers
	environ []string
}

func newPostgresStore(o db.Options) (*postgresStore, error) {
	config, err := pgxpool.ParseConfig(o.URL)
	parsed, urlErr := url.Parse(o.URL)
	if err != nil || urlErr != nil { // they quote the URL, which holds a password
		return nil, problem.Invalid("database_url", "it cannot be parsed").
			Hint("check its parameters, and that special characters of the password are percent-encoded")
	}
	if o.Password != "" {
		config.ConnConfig.Password = o.Password
	}
	p := &postgresStore{options: o, server: config.ConnConfig.RuntimeParams["application_name"], environ: toolEnviron(parameters(parsed.RawQuery), config.ConnConfig)}
	if p.server == "" {
		p.server = "certctl"
	}
	pairs := slices.DeleteFunc(strings.Split(parsed.RawQuery, "&"), func(pair string) bool {
		return pair == "" || strings.HasPrefix(pair, "application_name=")
	})
	parsed.RawQuery = strings.Join(append(pairs, "application_name="+applicationName), "&")
	p.options.URL = parsed.String()
	return p, nil
}

func (*postgresStore) engine() db.Engine { return db.Postgres }

func (p *postgresStore) facts(ctx context.Context) (f facts, err error) {
	d, err := db.Open(ctx, p.options)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	here, err := db.One[bool](ctx, d.Read(), "SELECT to_regclass('setting') IS NOT NULL")
	if err != nil {
		return f, fmt.Errorf("look for a schema: %w", err)
	}
	if !here {
		return f, errNothingHere
	}
	return readFacts(ctx, d)
}

func (p *postgresStore) dump(ctx context.Context, to io.Writer) error {
	dump := p.tool(ctx, "pg_dump", "--format=custom", "--no-owner", "--no-privileges", "--no-password",
		"--lock-wait-timeout="+strconv.FormatInt(lockWait.Milliseconds(), 10))
	dump.Stdout = to
	return dump.run()
}

// verify has pg_restore make SQL of the dump, for nobody: it reads and unpacks
// every row.
func (p *postgresStore) verify(ctx context.Context, dump io.Reader) error {
	restore := p.tool(ctx, "pg_restore", "--file="+os.DevNull)
	restore.Stdin = dump
	return drained(dump, restore.run())
}

func (p *postgresStore) vacant(ctx context.Context, replace bool) (err error) {
	d, err := db.Open(ctx, p.options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := p.noServers(ctx, d); err != nil {
		return err
	}
	relations, err := db.One[int](ctx, d.Read(), `SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
		AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')`)
	if err != nil {
		return fmt.Errorf("look for tables: %w", err)
	}
	if relations > 0 && !replace {
		return problem.Conflict("the database is not empty: it has %d tables and the like", relations).
			Hint("make an empty database, or replace what is in the schema of certctl with --force")
	}
	return nil
}

// noServers makes sure that no server has a session. Those of one that has just
// stopped may take a moment to go.
func (p *postgresStore) noServers(ctx context.Context, d *db.DB) error {
	for began := time.Now(); ; {
		sessions, err := db.One[int](ctx, d.Read(), `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND usename = current_user AND application_name = $1`, p.server)
		if err != nil {
			return fmt.Errorf("look for running servers: %w", err)
		}
		if sessions == 0 {
			return nil
		}
		if time.Since(began) > sessionsLinger {
			return problem.Conflict("a certctl server runs on this database: it has %d sessions there", sessions).Hint("stop all replicas first")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(sessionsLinger / 10):
		}
	}
}

// dropAll empties the schema that certctl works in, except for what belongs to
// an extension; what belongs to a table, such as a sequence, goes with it.
const dropAll = `DO $$
DECLARE
    statement text;
BEGIN
    FOR statement IN
        SELECT format('DROP %s IF EXISTS %I.%I CASCADE', CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
            WHEN 'S' THEN 'SEQUENCE' WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, n.nspname, c.relname)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('e', 'a', 'i'))
        UNION ALL
        SELECT format('DROP ROUTINE IF EXISTS %s CASCADE', p.oid::regprocedure)
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = current_schema()
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
        UNION ALL
        SELECT format('DROP TYPE IF EXISTS %I.%I CASCADE', n.nspname, t.typname)
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname = current_schema() AND t.typtype IN ('e', 'd', 'r')
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
    LOOP
        EXECUTE statement;
    END LOOP;
END $$;
`

// load has pg_restore make SQL and psql run it, in one transaction with what
// empties the schema before. COMMIT is sent only when the dump came to its end:
// until then, whatever breaks leaves the database as it was.
func (p *postgresStore) load(ctx context.Context, dump io.Reader) error {
	psql := p.tool(ctx, "psql", "--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "--file=-")
	sql, err := psql.StdinPipe()
	if err != nil {
		return fmt.Errorf("run psql: %w", err)
	}
	if err := psql.Start(); err != nil {
		return psql.explain(err)
	}
	scriptErr := p.script(ctx, sql, dump)
	_ = sql.Close() // psql tells when it lost something
	err = psql.explain(psql.Wait())
	if _, told := problem.As(scriptErr); told {
		return scriptErr
	}
	return errors.Join(err, scriptErr)
}

func (p *postgresStore) script(ctx context.Context, sql io.Writer, dump io.Reader) error {
	if _, err := io.WriteString(sql, "BEGIN;\n"+dropAll); err != nil {
		return err
	}
	restore := p.tool(ctx, "pg_restore", "--no-owner", "--no-privileges", "--no-comments", "--file=-")
	restore.Stdin, restore.Stdout = dump, sql
	if err := drained(dump, restore.run()); err != nil {
		return err
	}
	_, err := io.WriteString(sql, "COMMIT;\n")
	return err
}

// drained reads the rest of a dump, which only then is known to be undamaged.
// What is wrong with it explains why a tool failed better than the tool does.
func drained(dump io.Reader, toolErr error) error {
	if _, err := io.Copy(io.Discard, dump); err != nil {
		return err
	}
	return toolErr
}
