package app_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/app"
	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/config"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/testkit"
)

// settings are those of a server in a directory, on ports that are free.
func settings(t *testing.T, dir string, more ...string) *config.Server {
	t.Helper()
	loaded, err := config.Load(config.Sources{Hostname: "localhost", Environ: append([]string{
		"HOME=" + dir, "CERTCTL_DATA_DIR=" + filepath.Join(dir, "data"), "CERTCTL_LISTEN=127.0.0.1:0", "CERTCTL_STATUS_LISTEN=127.0.0.1:0",
	}, more...)})
	if err != nil {
		t.Fatal(err)
	}
	return &loaded.Server
}

func options(s *config.Server) app.Options {
	return app.Options{Settings: s, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Now: time.Now}
}

// start runs a server until stop is called.
func start(t *testing.T, s *config.Server) (a *app.App, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	a, err := app.Start(ctx, options(s))
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		cancel()
		if !stopped {
			stopped = true
			if err := a.Wait(); err != nil {
				t.Errorf("stop: %v", err)
			}
		}
	}
	t.Cleanup(stop)
	return a, stop
}

func caller(t *testing.T, a *app.App, key secret.String) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{URL: "https://" + a.Address(), APIKey: key, CASHA256: a.CASHA256()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAServerStartsWithNothingAndFindsItselfAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, stop := start(t, settings(t, dir))
	key, fingerprint := a.FirstKey(), a.CASHA256()
	if key.Empty() || fingerprint == "" {
		t.Fatal("the first start gives no key or no fingerprint")
	}
	info, err := caller(t, a, key).Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	chain, err := caller(t, a, key).IssuerChain(t.Context(), "local")
	if err != nil || strings.Count(chain, "BEGIN CERTIFICATE") != 2 {
		t.Fatalf("the CA of the first start: %v\n%s", err, chain)
	}
	stop()

	a, _ = start(t, settings(t, dir))
	if !a.FirstKey().Empty() || a.CASHA256() != fingerprint {
		t.Error("the second start made another key or another CA for its listener")
	}
	again, err := caller(t, a, key).Info(t.Context())
	if err != nil || again.ServerID != info.ServerID {
		t.Errorf("the second start is another server: %+v, %v", again, err)
	}
	if after, err := caller(t, a, key).IssuerChain(t.Context(), "local"); err != nil || after != chain {
		t.Errorf("the second start has another CA: %v", err)
	}
}

func TestReplicasAreOneCA(t *testing.T) {
	t.Parallel()
	url := "CERTCTL_DATABASE_URL=" + testkit.PostgresURL(t)
	masterKey := "CERTCTL_ENCRYPTION_KEY=" + strings.Repeat("A", 43) + "="
	given := "CERTCTL_BOOTSTRAP_API_KEY=another-key-of-the-operator,a-key-that-the-operator-chose"
	var chains, fingerprints [2]string
	for i := range chains {
		a, _ := start(t, settings(t, t.TempDir(), url, masterKey, given))
		chain, err := caller(t, a, secret.New("a-key-that-the-operator-chose")).IssuerChain(t.Context(), "local")
		if err != nil {
			t.Fatal(err)
		}
		chains[i], fingerprints[i] = chain, a.CASHA256()
	}
	if fingerprints[0] != fingerprints[1] {
		t.Error("agents that trust one replica do not trust the other")
	}
	if chains[0] != chains[1] {
		t.Error("two replicas have two CAs")
	}
}

func TestAStartThatCannotBeRightIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, stop := start(t, settings(t, dir))
	_, err := app.Start(t.Context(), options(settings(t, dir)))
	if problem.KindOf(err) != problem.KindConflict || !strings.Contains(err.Error(), "data_dir") {
		t.Errorf("a second server on the directory: %v", err)
	}
	stop()
	_, err = app.Start(t.Context(), options(settings(t, dir, "CERTCTL_ENCRYPTION_KEY="+strings.Repeat("A", 43)+"=")))
	if found, ok := problem.As(err); !ok || found.Field != "encryption_key" || found.Remedy == "" {
		t.Errorf("another master key: %v", err)
	}
	key := filepath.Join(dir, "data", "master.key")
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	_, err = app.Start(t.Context(), options(settings(t, dir)))
	if found, ok := problem.As(err); !ok || found.Field != "encryption_key" || !strings.Contains(found.Remedy, "backup") {
		t.Errorf("without its master key: %v", err)
	}
	if _, err := os.Stat(key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a start without its master key left another one behind: %v", err)
	}
	_, err = app.Start(t.Context(), options(settings(t, t.TempDir(), "CERTCTL_LISTEN=192.0.2.1:443")))
	if found, ok := problem.As(err); !ok || found.Field != "listen" {
		t.Errorf("an address of another machine: %v", err)
	}
}

func TestAStopGoesOnServingForItsDelay(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	a, err := app.Start(ctx, options(settings(t, t.TempDir(), "CERTCTL_SHUTDOWN_DELAY=2s")))
	if err != nil {
		t.Fatal(err)
	}
	c := caller(t, a, a.FirstKey())
	if err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	cancel()
	impatient, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	if err := c.Ready(impatient); err == nil {
		t.Error("a server that stops says that it is ready")
	}
	if _, err := c.Info(t.Context()); err != nil {
		t.Errorf("a request during the delay: %v", err)
	}
	if err := a.Wait(); err != nil {
		t.Error(err)
	}
}

func TestAStopEndsPollsAndSoon(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		more := []string{}
		if d.Engine() == db.Postgres {
			more = append(more, "CERTCTL_DATABASE_URL="+testkit.PostgresURL(t))
		}
		_, stop := start(t, settings(t, t.TempDir(), more...))
		ended := make(chan struct{})
		go func() { stop(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Error("the stop takes as long as its timeout")
		}
	})
}
