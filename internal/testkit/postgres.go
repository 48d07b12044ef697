package testkit

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/queue"
)

const clusterTimeout = time.Minute

// cluster is the PostgreSQL server of one test binary, on a Unix socket in a
// temporary directory, with durability off. It ends with the test binary, also
// when that is killed.
type cluster struct {
	socketDir string
	user      string
}

var startCluster = sync.OnceValues(func() (*cluster, error) { return newCluster(fast) })

// fast are the settings of a server whose data nobody will miss.
var fast = []string{"fsync=off", "synchronous_commit=off", "full_page_writes=off"}

// DurablePostgres gives the URL of an empty database on a PostgreSQL server of
// its own with the durability of production, for benchmarks. The server ends
// with this process.
func DurablePostgres() (string, error) {
	c, err := newCluster(nil)
	if err != nil {
		return "", fmt.Errorf("start PostgreSQL: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), clusterTimeout)
	defer cancel()
	return c.url("bench"), c.exec(ctx, "postgres", "CREATE DATABASE bench")
}

// PostgresURL makes an empty database with the current schema, on the
// PostgreSQL server of this test binary, and gives its URL.
func PostgresURL(t testing.TB) string {
	t.Helper()
	c, err := startCluster()
	if err != nil {
		t.Fatalf("start PostgreSQL for tests: %v", err)
	}
	name := "test_" + randomHex(8)
	if err := c.exec(t.Context(), "postgres", "CREATE DATABASE "+name+" TEMPLATE certctl_template"); err != nil {
		t.Fatalf("create test database: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), clusterTimeout)
		defer cancel()
		if err := c.exec(ctx, "postgres", "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("drop test database: %v", err)
		}
	})
	return c.url(name)
}

func (c *cluster) url(database string) string {
	query := url.Values{"host": {c.socketDir}, "user": {c.user}, "database": {database}}
	return "postgres:///?" + query.Encode()
}

func (c *cluster) exec(ctx context.Context, database, statement string) error {
	conn, err := pgx.Connect(ctx, c.url(database))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

func newCluster(settings []string) (*cluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), clusterTimeout)
	defer cancel()
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "certctl-pg-")
	if err != nil {
		return nil, err
	}
	owner, credential, err := clusterOwner(dir)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"),
		"-D", data, "-U", owner, "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	if err := superviseServer(filepath.Join(bin, "postgres"), data, dir, settings, credential); err != nil {
		return nil, err
	}
	c := &cluster{socketDir: dir, user: owner}
	if err := c.wait(ctx); err != nil {
		return nil, err
	}
	return c, c.makeTemplate(ctx)
}

// superviseServer starts the server under a shell that holds the read end of a
// pipe: when this process ends, however it ends, the shell sees end of file,
// stops the server and removes its directory.
func superviseServer(postgres, data, dir string, settings []string, credential *syscall.Credential) error {
	const script = `dir=$1; shift; "$@" >"$dir/log" 2>&1 </dev/null & cat >/dev/null; kill -QUIT $!; wait; rm -rf "$dir"`
	args := []string{"-c", script, "sh", dir, postgres, "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "max_connections=300"}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = read.Close() }()
	shell := exec.Command("sh", args...)
	shell.Stdin = read
	shell.SysProcAttr = &syscall.SysProcAttr{Credential: credential, Setpgid: true}
	keepOpen.Store(dir, write)
	return shell.Start()
}

// keepOpen holds the write ends of the supervisors' pipes; the garbage
// collector would close them otherwise.
var keepOpen sync.Map

func (c *cluster) wait(ctx context.Context) error {
	for {
		err := c.exec(ctx, "postgres", "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			log, _ := os.ReadFile(filepath.Join(c.socketDir, "log"))
			return fmt.Errorf("it does not answer: %w\n%s", err, log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (c *cluster) makeTemplate(ctx context.Context) error {
	if err := c.exec(ctx, "postgres", "CREATE DATABASE certctl_template"); err != nil {
		return err
	}
	d, err := db.Open(ctx, db.Options{URL: c.url("certctl_template"), MaxConns: 4})
	if err != nil {
		return err
	}
	return errors.Join(d.Migrate(ctx), queue.Migrate(ctx, d), d.Close())
}

// clusterOwner says who runs the server, which refuses to run as root, and
// gives that user the directory.
func clusterOwner(dir string) (string, *syscall.Credential, error) {
	me, err := user.Current()
	if err != nil || os.Getuid() != 0 {
		return usernameOr(me, "postgres"), nil, err
	}
	postgres, err := user.Lookup("postgres")
	if err != nil {
		return "", nil, err
	}
	uid, err := strconv.ParseUint(postgres.Uid, 10, 32)
	if err != nil {
		return "", nil, err
	}
	gid, err := strconv.ParseUint(postgres.Gid, 10, 32)
	if err != nil {
		return "", nil, err
	}
	if err := os.Chown(dir, int(uid), int(gid)); err != nil {
		return "", nil, err
	}
	return postgres.Username, &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

func usernameOr(u *user.User, fallback string) string {
	if u == nil {
		return fallback
	}
	return u.Username
}

// postgresBin finds the directory of the newest server installed: Debian keeps
// it out of the path.
func postgresBin() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	slices.SortFunc(found, func(a, b string) int { return len(a) - len(b) + strings.Compare(a, b) })
	if len(found) > 0 {
		return filepath.Dir(found[len(found)-1]), nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", errors.New("PostgreSQL is not installed; run scripts/setup.sh")
	}
	return filepath.Dir(path), nil
}
