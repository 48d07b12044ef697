package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/testkit"
)

// TestAServerComesBackFromItsBackup is the restore drill: everything the
// server had is destroyed, and nobody but it notices.
func TestAServerComesBackFromItsBackup(t *testing.T) {
	t.Parallel()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key.txt")
	writeFile(t, key, []byte(identity.String()+"\n"))
	eachEngine(t, func(t *testing.T, engine db.Engine) {
		var database string
		env := []string{"CERTCTL_POLL_WAIT=1s"}
		if engine == db.Postgres {
			database = testkit.PostgresURL(t)
			env = append(env, "CERTCTL_DATABASE_URL="+database)
		}
		s, api := startServer(t, db.SQLite, env...)
		startAgent(t, s, "web-1")
		dir := t.TempDir()
		files(t, api, "web-1", dir, "www")
		createAll(t, []string{"www"}, api)
		awaitActive(t, api, 1)
		before, err := api.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		agent, err := api.Agent(t.Context(), "web-1")
		if err != nil {
			t.Fatal(err)
		}

		backups := t.TempDir()
		out, err := s.Local(t.Context(), "backup", "--to", backups+"/", "--age-recipient", identity.Recipient().String(), "--with-master-key", "-o", "name")
		if err != nil {
			t.Fatal(err)
		}
		backup := strings.TrimSpace(out)
		if _, err := s.Local(t.Context(), "restore", "--from", backup, "--age-identity-file", key); err == nil || !strings.Contains(err.Error(), "another certctl server runs") {
			t.Errorf("a restore under the running server: %v", err)
		}

		s.Kill()
		destroy(t, s.DataDir(), database)
		if out, err := s.Local(t.Context(), "restore", "--from", backup, "--age-identity-file", key); err != nil || !strings.Contains(out, "is restored") {
			t.Fatalf("%v %s", err, out)
		}
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}

		after, err := api.Info(t.Context())
		if err != nil || after.ServerID != before.ServerID {
			t.Fatalf("another server came back: %+v %v", after, err)
		}
		if same, err := api.Agent(t.Context(), "web-1"); err != nil || same.ID != agent.ID {
			t.Fatalf("the agent is %+v %v", same, err)
		}
		old := leafIn(t, filepath.Join(dir, "www.pem"))
		if _, err := api.Renew(t.Context(), "www"); err != nil {
			t.Fatal(err)
		}
		await(t, "the agent, which did not join again, to renew the certificate", func(ctx context.Context) error {
			done := 0
			for order, err := range api.Orders(ctx, client.OrderFilter{Certificate: "www"}) {
				if err != nil || order.State != "done" {
					return errors.Join(fmt.Errorf("order %s is %s", order.ID, order.State), err)
				}
				done++
			}
			if done != 2 {
				return fmt.Errorf("%d orders are done", done)
			}
			return nil
		})
		if leafIn(t, filepath.Join(dir, "www.pem")).SerialNumber.Cmp(old.SerialNumber) == 0 {
			t.Error("the file of the target holds the old version")
		}
	})
}

// destroy loses all that a server keeps.
func destroy(t *testing.T, dataDir, database string) {
	t.Helper()
	if err := os.RemoveAll(dataDir); err != nil {
		t.Fatal(err)
	}
	if database == "" {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, statement := range []string{"DROP SCHEMA public CASCADE", "CREATE SCHEMA public"} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			t.Fatal(err)
		}
	}
}
