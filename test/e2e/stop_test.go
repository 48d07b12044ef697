package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/testkit"
	"github.com/certctl-io/certctl/test/lab"
)

func TestAStopInTheMiddleOfOrdersLosesNone(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine db.Engine) {
		dataDir := filepath.Join(t.TempDir(), "data")
		options, env := db.Options{DataDir: dataDir}, []string{"CERTCTL_DATA_DIR=" + dataDir, "CERTCTL_RATE_LIMIT_RPS=0"}
		if engine == db.Postgres {
			options.URL = testkit.PostgresURL(t)
			env = append(env, "CERTCTL_DATABASE_URL="+options.URL)
		}
		s, api := startServer(t, engine, env...)
		startAgent(t, s, "web-1")
		dir := t.TempDir()
		names := numbered("site", 20)
		files(t, api, "web-1", dir, names...)

		createAll(t, names, api)
		stopAndLook(t, s, options, len(names))
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		awaitActive(t, api, len(names))
		wantOneVersion(t, api, dir, names)
	})
}

// stopAndLook stops a server and looks at what it leaves in its database.
func stopAndLook(t *testing.T, s *lab.Server, options db.Options, orders int) {
	t.Helper()
	began := time.Now()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	d, err := db.Open(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	count := func(query string) int {
		t.Helper()
		n, err := db.One[int](t.Context(), d.Read(), query)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	open := count("SELECT COUNT(*) FROM cert_order WHERE state IN ('pending', 'signing', 'issued')")
	t.Logf("it stopped within %s with %d orders open", took.Round(time.Millisecond), open)
	if took > 10*time.Second {
		t.Errorf("the stop took %s", took)
	}
	if all := count("SELECT COUNT(*) FROM cert_order"); all != orders {
		t.Errorf("%d of %d orders are there", all, orders)
	}
	if failed := count("SELECT COUNT(*) FROM cert_order WHERE state IN ('failed', 'cancelled')"); failed != 0 {
		t.Errorf("the stop failed %d orders", failed)
	}
	if open == 0 {
		t.Error("no order was open: the test proves nothing")
	}
	if running := count("SELECT COUNT(*) FROM river_job WHERE state = 'running'"); running != 0 {
		t.Errorf("%d jobs are left running", running)
	}
}

// shown makes a handshake and gives the fingerprint of the leaf.
func shown(ctx context.Context, s *lab.Server) (string, error) {
	dialer := &tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: &tls.Config{InsecureSkipVerify: true}}
	conn, err := dialer.DialContext(ctx, "tcp", strings.TrimPrefix(s.URL, "https://"))
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	return pki.Fingerprint(conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw), nil
}

func TestTheServersCertificateIsReplacedWhileItRuns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := makeServerCertificate(t, dir)
	s, api := startServer(t, db.SQLite, "CERTCTL_TLS_CERTIFICATE="+first.certificate, "CERTCTL_TLS_KEY="+first.key)
	if s.CASHA256 != first.fingerprint {
		t.Fatalf("it shows %s, not the certificate it was given", s.CASHA256)
	}
	if _, err := api.Info(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := makeServerCertificate(t, dir)
	began := time.Now()
	await(t, "new handshakes to show the new certificate", func(ctx context.Context) error {
		got, err := shown(ctx, s)
		if err == nil && got != second.fingerprint {
			return fmt.Errorf("it shows %s", got)
		}
		return err
	})
	t.Logf("handshakes show it after %s", time.Since(began).Round(time.Millisecond))
	if _, err := api.Info(t.Context()); err != nil {
		t.Errorf("a connection that was open: %v", err)
	}
	s.CASHA256 = second.fingerprint
	pinned, err := s.Client()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pinned.Info(t.Context()); err != nil {
		t.Errorf("a client that pins the new one: %v", err)
	}

	writeFile(t, second.key, []byte("half a ke"))
	look := func() {
		t.Helper()
		if got, err := shown(t.Context(), s); err != nil || got != second.fingerprint {
			t.Errorf("with a broken key file it shows %s, %v", got, err)
		}
	}
	look()
	await(t, "the broken file to be noticed", func(ctx context.Context) error {
		look()
		if !strings.Contains(tail(s.Log), "cannot be used, the old one is kept") {
			return errNotYet
		}
		return nil
	})
	look()
}

func TestTheSettingBoundsTheConnectionsToPostgreSQL(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{4, 10} {
		t.Run(strconv.Itoa(limit), func(t *testing.T) {
			t.Parallel()
			url := testkit.PostgresURL(t)
			s, api := startServer(t, db.Postgres, "CERTCTL_DATABASE_URL="+url, "CERTCTL_DATABASE_MAX_CONNS="+strconv.Itoa(limit), "CERTCTL_RATE_LIMIT_RPS=0")
			startAgent(t, s, "web-1")
			dir := t.TempDir()
			names := numbered("site", 30)
			files(t, api, "web-1", dir, names...)

			ctx, stop := context.WithCancel(t.Context())
			most := make(chan int, 1)
			go func() { most <- mostConnections(t, ctx, url) }()
			for range 10 {
				go func() {
					for ctx.Err() == nil {
						for _, err := range api.Certificates(ctx, client.CertificateFilter{}) {
							if err != nil && ctx.Err() == nil {
								t.Errorf("list under load: %v", err)
							}
						}
					}
				}()
			}
			createAll(t, names, api)
			awaitActive(t, api, len(names))
			stop()
			got := <-most
			t.Logf("at most %d connections", got)
			if got > limit || got < min(limit, 6) {
				t.Errorf("it had up to %d connections, the setting says %d", got, limit)
			}
			wantOneVersion(t, api, dir, names)
		})
	}
}

// mostConnections looks at the connections to a database until ctx ends, and
// gives the largest number of others that it saw.
func mostConnections(t *testing.T, ctx context.Context, url string) int {
	conn, err := pgx.Connect(context.WithoutCancel(ctx), url)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	most := 0
	for ctx.Err() == nil {
		var now int
		err := conn.QueryRow(context.WithoutCancel(ctx), `
			SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()`).Scan(&now)
		if err != nil {
			t.Error(err)
			return 0
		}
		most = max(most, now)
		time.Sleep(5 * time.Millisecond)
	}
	return most
}
