package db_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/testkit"
)

// gate is a way to a database that is shut until a test opens it.
type gate struct {
	url  string
	open atomic.Bool
	came chan struct{} // a token for each connection that found it shut
}

func newGate(t *testing.T) *gate {
	t.Helper()
	real, err := url.Parse(testkit.PostgresURL(t))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	query := real.Query()
	socket := filepath.Join(query.Get("host"), ".s.PGSQL.5432")
	query.Del("host")
	query.Set("sslmode", "disable")
	g := &gate{url: "postgres://" + listener.Addr().String() + "/?" + query.Encode(), came: make(chan struct{}, 100)}
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if !g.open.Load() {
				_ = conn.Close()
				g.came <- struct{}{}
				continue
			}
			passing.Go(func() { pass(conn, socket) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		passing.Wait()
	})
	return g
}

// pass carries a connection to the socket of the database until one side ends.
func pass(conn net.Conn, socket string) {
	database, err := net.Dial("unix", socket)
	if err != nil {
		_ = conn.Close()
		return
	}
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{conn, database}, {database, conn}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			_ = way[0].Close()
			_ = way[1].Close()
		})
	}
	both.Wait()
}

func TestAStartWaitsForTheDatabase(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	var log strings.Builder
	type opened struct {
		d   *db.DB
		err error
	}
	done := make(chan opened, 1)
	go func() {
		d, err := db.Open(t.Context(), db.Options{URL: g.url, Wait: time.Minute, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		done <- opened{d, err}
	}()
	for range 2 {
		<-g.came
	}
	g.open.Store(true)
	o := <-done
	if o.err != nil {
		t.Fatal(o.err)
	}
	if err := o.d.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if err := o.d.Close(); err != nil {
		t.Error(err)
	}
	if strings.Count(log.String(), "waits for its database") != 1 || !strings.Contains(log.String(), "lets us in") {
		t.Errorf("the log says:\n%s", log.String())
	}
}

func TestTheWaitForTheDatabaseEnds(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	_, err := db.Open(t.Context(), db.Options{URL: g.url})
	if problem.KindOf(err) != problem.KindTemporary || len(g.came) == 0 {
		t.Errorf("without a wait: %v", err)
	}
	_, err = db.Open(t.Context(), db.Options{URL: g.url, Wait: 1500 * time.Millisecond})
	if problem.KindOf(err) != problem.KindTemporary || !strings.Contains(err.Error(), "database_url") {
		t.Errorf("after a short wait: %v", err)
	}
	for len(g.came) > 0 {
		<-g.came
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := db.Open(ctx, db.Options{URL: g.url, Wait: 30 * time.Minute})
		ended <- err
	}()
	<-g.came
	stop()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("a stop during the wait: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("a stop does not end the wait")
	}
}

func TestThePasswordOfTheDatabaseIsTakenAsItIs(t *testing.T) {
	t.Parallel()
	const password = "p@ss/w:rd#1 %41\"'"
	for _, u := range []string{testkit.PostgresURL(t), testkit.PostgresURL(t) + "&password=other"} {
		d, err := db.Open(t.Context(), db.Options{URL: u, Password: password})
		if err != nil {
			t.Fatal(err)
		}
		if got := d.Pool().Config().ConnConfig.Password; got != password {
			t.Errorf("the password is %q", got)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}
